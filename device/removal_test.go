package device

import (
	"crypto/ed25519"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// harbour is a room that acme orders, with somebody of all three organizations, all in one
// epoch.
func harbour(t *testing.T) (*trio, wire.RoomID) {
	t.Helper()
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{w.bob.Address(), w.claire.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.claire)
	return w, id
}

// suspends has an organization's operator suspend a partner, or resume it.
func (o *organization) suspends(partner string, remove bool) {
	o.t.Helper()
	_, err := node.DialOperator(o.dir).SuspendPartner(o.t.Context(), connect.NewRequest(&pb.ChangePartnerRequest{Name: partner, Remove: remove}))
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *organization) resumes(partner string) {
	o.t.Helper()
	_, err := node.DialOperator(o.dir).ResumePartner(o.t.Context(), connect.NewRequest(&pb.ChangePartnerRequest{Name: partner}))
	if err != nil {
		o.t.Fatal(err)
	}
}

func TestAnOrganizationThatIsTakenOutIsOutForAllAndTheRoomSaysByWhom(t *testing.T) {
	w, id := harbour(t)
	w.acme.suspends("globex.example", true)
	out := func(s Shown) bool {
		return s.State == "organization removed" && s.From == "globex.example" && s.By == "acme.example" && s.Reason == "suspended" && s.Count == 1
	}
	// claire's device commits: who is of a third organization believes the hub's own word.
	for _, d := range []*Device{w.claire, w.alice} {
		shown := receiveUntil(t, d, "globex is out", func(all []Shown) bool { return slices.ContainsFunc(all, out) })
		if slices.ContainsFunc(shown, hasState("device removed")) || slices.ContainsFunc(shown, hasState("stopped")) {
			t.Errorf("shown: %+v", shown)
		}
		must(t, devicesAre(d, id, 2))
	}
	sendRoom(t, w.alice, id, "among us two")
	receiveUntil(t, w.claire, "alice's words", hasTexts(1))
	w.acme.resumes("globex.example")
	shown := receiveUntil(t, w.bob, "bob is told", func(all []Shown) bool {
		return slices.ContainsFunc(all, func(s Shown) bool { return s.State == "removed" && s.By == "acme.example" && s.Reason == "suspended" })
	})
	if got := texts(shown); len(got) != 0 {
		t.Errorf("bob reads %q", got)
	}
	must(t, with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), id, w.bob.Address(), wire.RoleMember) }))
	receiveUntil(t, w.bob, "bob is back, by invitation", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("joined")) })
	agreeing(t, id, w.alice, w.bob, w.claire)
}

func TestWhatAHubProposesWithoutItsRevocationIsRefused(t *testing.T) {
	w, id := harbour(t)
	acme, globex := w.acme.keys(), w.globex.keys()
	r := w.claire.rooms[id]
	public := r.state.Public()
	whose := map[string]mls.LeafIndex{}
	for _, m := range public.Members() {
		c, err := wire.ParseCredential(m.Node.Credential.Identity)
		must(t, err)
		whose[w.claire.nameOf(memberKey{c.Organization, c.Member})] = m.Leaf
	}
	bob, alice, claire := whose["bob@globex.example"], whose["alice@acme.example"], whose["claire@hooli.example"]
	honest := identity.PartnerRevocation{Organization: w.acme.made.ID, Partner: w.globex.made.ID, Room: id, Epoch: public.Epoch(), Reason: "suspended", Issued: time.Now()}
	note := func(owner string, key func(*identity.NodeKeys) ed25519.PrivateKey, keys *identity.NodeKeys, edit func(*identity.PartnerRevocation)) string {
		p := honest
		edit(&p)
		text, err := p.Sign(wire.NoteKey{Owner: owner, Private: key(keys), Public: key(keys).Public().(ed25519.PublicKey)})
		must(t, err)
		return text
	}
	nodeKey, hubKey := func(k *identity.NodeKeys) ed25519.PrivateKey { return k.Node }, func(k *identity.NodeKeys) ed25519.PrivateKey { return k.Hub }
	same := func(*identity.PartnerRevocation) {}
	ofDevice, err := identity.SignRevocation(identity.Revocation{Organization: w.globex.made.ID, Member: w.bob.account.Member, Device: w.bob.ID(), Issued: time.Now(), By: "organization"}, "acme.example", acme.Directory)
	must(t, err)
	// What it says depends on a claim that is in the room: the proposal is signed by the hub.
	for name, c := range map[string]struct {
		leaf mls.LeafIndex
		note string
		says string
	}{
		"nothing":                                {bob, "", "without the revocation"},
		"words":                                  {bob, "globex has to go", "without the revocation"},
		"bob's revocation by acme's directory":   {bob, ofDevice, "without the revocation"},
		"signed by globex":                       {bob, note("globex.example/node", nodeKey, globex, same), "signature"},
		"signed by globex for itself":            {bob, note("globex.example/node", nodeKey, globex, func(p *identity.PartnerRevocation) { p.Organization, p.Partner = p.Partner, p.Organization }), "another organization"},
		"signed by acme's hub key":               {bob, note("acme.example/node", hubKey, acme, same), "signature"},
		"about hooli":                            {bob, note("acme.example/node", nodeKey, acme, func(p *identity.PartnerRevocation) { p.Partner = w.hooli.made.ID }), "another organization, room or epoch"},
		"about globex, for claire":               {claire, note("acme.example/node", nodeKey, acme, same), "another organization, room or epoch"},
		"about globex, for alice":                {alice, note("acme.example/node", nodeKey, acme, same), "another organization, room or epoch"},
		"of the epoch before":                    {bob, note("acme.example/node", nodeKey, acme, func(p *identity.PartnerRevocation) { p.Epoch-- }), "another organization, room or epoch"},
		"of the epoch to come":                   {bob, note("acme.example/node", nodeKey, acme, func(p *identity.PartnerRevocation) { p.Epoch++ }), "another organization, room or epoch"},
		"of another room":                        {bob, note("acme.example/node", nodeKey, acme, func(p *identity.PartnerRevocation) { p.Room[0] ^= 1 }), "another organization, room or epoch"},
		"of another generation":                  {bob, note("acme.example/node", nodeKey, acme, func(p *identity.PartnerRevocation) { p.Generation++ }), "another organization, room or epoch"},
		"as it should be, for who has suspended": {bob, note("acme.example/node", nodeKey, acme, same), ""},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := public.NewExternalRemove(acme.Hub, 0, c.leaf, []byte(c.note))
			must(t, err)
			core := &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_PROPOSAL, Room: id[:], Epoch: public.Epoch(), Body: body}
			raw, err := wire.EncodeCore(core)
			must(t, err)
			w.claire.mu.Lock()
			defer w.claire.mu.Unlock()
			b := w.claire.newBatch(t.Context())
			err = b.handshake(&pb.Envelope{Core: raw, Seq: r.Seq + 1, Previous: make([]byte, 32)}, core)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v", err)
			}
			if waits := len(b.room(id).state.Public().Pending()); waits != map[bool]int{true: 1, false: 0}[c.says == ""] {
				t.Errorf("%d proposals wait", waits)
			}
		})
	}
}

// TestANoteIsNoGoodOnceTheRoomHasMovedOn: what took globex out in one epoch does not take it
// out again after it was resumed and invited anew.
func TestANoteIsNoGoodOnceTheRoomHasMovedOn(t *testing.T) {
	w, id := harbour(t)
	w.acme.suspends("globex.example", true)
	s, err := w.claire.Sender(t.Context())
	must(t, err)
	knowing(t, w.claire, id)
	s.Close()
	old := w.claire.rooms[id].state.Public().Pending()[0].AAD
	eventually(t, "globex is out", func() error { receive(t, w.claire); return devicesAre(w.claire, id, 2) })
	w.acme.resumes("globex.example")
	must(t, with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), id, w.bob.Address(), wire.RoleMember) }))
	eventually(t, "bob is in again", func() error { receive(t, w.claire); return devicesAre(w.claire, id, 3) })
	w.claire.mu.Lock()
	defer w.claire.mu.Unlock()
	r := w.claire.rooms[id]
	if err := w.claire.checkPartnerRevocation(r, string(old), w.globex.made.ID); err == nil {
		t.Error("the note of before takes globex out again")
	}
}

// keys are an organization's working keys.
func (o *organization) keys() *identity.NodeKeys {
	o.t.Helper()
	k, err := identity.OpenNodeKeys(filepath.Join(o.dir, node.KeysFile), testPass)
	if err != nil {
		o.t.Fatal(err)
	}
	return k
}
