package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

var worldPass = []byte("correct horse")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is an organization's real node in this process, and what it wrote when it
// was last looked at.
type site struct {
	*Node
	t   testing.TB
	dir string
	// federation is where it listens from its next start on, when that is another address.
	federation string

	halt func() // stops and closes the node; may be called again
}

// newSite makes and runs an organization's node on loopback.
func newSite(t testing.TB, name string) *site {
	t.Helper()
	return newSiteAt(t, name, "/ip4/127.0.0.1/tcp/0")
}

// newSiteAt is newSite where its partners reach it at a known address.
func newSiteAt(t testing.TB, name, federation string) *site {
	t.Helper()
	s := &site{t: t, dir: filepath.Join(t.TempDir(), name)}
	c := DefaultConfig()
	c.Listen, c.Federation, c.TrustClock = "127.0.0.1:0", []string{federation}, true
	if federation == "" {
		c.Federation = nil
	}
	_, err := Init(s.dir, name, worldPass, c)
	must(t, err)
	s.start()
	t.Cleanup(func() { s.halt() })
	return s
}

// start opens and runs the node; again after halt.
func (s *site) start() {
	s.t.Helper()
	s.startWith(Options{}, func(*Config) {})
}

// startWith is start with options and a configuration of its own.
func (s *site) startWith(o Options, configure func(*Config)) {
	s.t.Helper()
	var err error
	o.Dir, o.Passphrase = s.dir, worldPass
	o.Configure = func(c *Config) {
		c.Limits = LimitConfig{DeviceRate: 10_000, DeviceBurst: 10_000, PartnerRate: 10_000, PartnerBurst: 10_000, PartnerBytes: 1 << 30, RoomDevices: wire.MaxRoomDevices}
		if s.federation != "" {
			c.Federation = []string{s.federation}
		}
		configure(c)
	}
	s.Node, err = Open(s.t.Context(), o)
	must(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func(n *Node) { done <- n.Run(ctx) }(s.Node)
	s.halt = func() {
		if s.halt = func() {}; true {
			cancel()
			if err := errors.Join(<-done, s.Close()); err != nil {
				s.t.Errorf("%s: %v", s.dir, err)
			}
		}
	}
}

// agree makes two sites partners over their real federation.
func agree(t testing.TB, a, b *site) {
	t.Helper()
	agreeOn(t, a, b, nil)
}

func agreeOn(t testing.TB, a, b *site, terms *pb.TermsChange) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !a.ready.Load() || !b.ready.Load() {
		if time.Now().After(deadline) {
			t.Fatal("the nodes do not get ready")
		}
		time.Sleep(time.Millisecond)
	}
	invited, err := a.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: b.org.Manifest.Name, Contact: "open", Terms: terms})
	must(t, err)
	_, err = b.fed.Accept(t.Context(), invited.Token)
	must(t, err)
}

// trusting lets every leaf in: the validator of a client that keeps no rule.
type trusting struct{}

func (trusting) ValidateLeaf(mls.LeafCheck) error                        { return nil }
func (trusting) ValidateExtensions(_ []byte, _, _ []mls.Extension) error { return nil }

// client is a member's device that does what a test wants: real keys and MLS, and
// no rule that it keeps of its own accord.
type client struct {
	t       testing.TB
	home    *site
	name    string
	member  wire.MemberID
	id      wire.DeviceID
	key     ed25519.PrivateKey
	master  ed25519.PrivateKey // the member key
	cred    wire.Credential
	chain   *pb.MemberChain // as another site was told of it
	counter uint64
	state   *group.State
}

// client enrols a new member's device.
func (s *site) client(name string) *client {
	s.t.Helper()
	c := &client{t: s.t, home: s, name: name}
	_, c.key, _ = ed25519.GenerateKey(rand.Reader)
	_, c.master, _ = ed25519.GenerateKey(rand.Reader)
	c.id = wire.DeviceID(c.key.Public().(ed25519.PublicKey))
	genesis, member, err := identity.NewGenesis(s.org.ID, name, c.master, time.Now())
	must(s.t, err)
	c.member = member
	certificate, err := identity.SignDeviceCertificate(s.org.ID, member, c.id, c.master, time.Now())
	must(s.t, err)
	link, err := s.Node.dir.CreateLink(s.t.Context(), name, time.Hour)
	must(s.t, err)
	_, err = s.enroll(s.t.Context(), &pb.EnrollRequest{Secret: link.Secret[:], Genesis: genesis, Device: certificate.Note})
	must(s.t, err)
	c.cred = wire.Credential{Organization: s.org.ID, Member: member, Device: c.id, Certificate: certificate.Hash}
	return c
}

// known tells another site of a client's certificates, as the query would.
func (c *client) knownTo(s *site) *client {
	c.t.Helper()
	if c.chain == nil {
		var err error
		c.chain, err = c.home.Node.dir.Chain(c.member)
		must(c.t, err)
	}
	must(c.t, s.chains.remember(c.home.org.ID, c.chain, time.Now()))
	return c
}

func (c *client) credential() mls.Credential {
	return mls.Credential{Type: mls.CredentialEntente, Identity: c.cred.Encode()}
}

func (c *client) config() group.Config { return group.Config{Validator: trusting{}, Signer: c.key} }

// keyPackage makes one, with what edit changes about its parameters.
func (c *client) keyPackage(edit ...func(*group.KeyPackageParams)) ([]byte, *group.KeyPackageSecrets) {
	c.t.Helper()
	p := group.KeyPackageParams{Suite: mls.SuiteX25519AES128, Signer: c.key, Credential: c.credential(),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	for _, f := range edit {
		f(&p)
	}
	kp, secrets, err := group.NewKeyPackage(p)
	must(c.t, err)
	return kp, secrets
}

// roomExtension describes a room that a site orders.
func roomExtension(hub *site, id wire.RoomID, orgs ...*site) wire.Room {
	r := wire.Room{ID: id[:], Hub: hub.org.ID[:], HubNode: hub.peer[:], MinVersion: wire.ProtocolVersion, SuiteFloor: 1,
		DeadlineMin: 1, DeadlineDefault: 3600, DeadlineMax: 7200, Transit: "none", Resync: wire.ResyncOwnLeaf}
	for _, o := range orgs {
		r.Organizations = append(r.Organizations, wire.RoomMember{Organization: o.org.ID[:]})
	}
	if len(orgs) == 2 && bytes.Compare(orgs[0].org.ID[:], orgs[1].org.ID[:]) > 0 {
		r.Organizations[0], r.Organizations[1] = r.Organizations[1], r.Organizations[0]
	}
	return r
}

// extensionsOf are the GroupContext extensions of an honest room.
func extensionsOf(t testing.TB, hub *site, r wire.Room) []mls.Extension {
	t.Helper()
	data, err := r.Encode()
	must(t, err)
	credential := mls.Credential{Type: mls.CredentialEntente, Identity: wire.Credential{Organization: hub.org.ID}.Encode()}
	return []mls.Extension{{Type: mls.ExtensionRoom, Data: data},
		mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionRoom}, Credentials: []mls.CredentialType{mls.CredentialEntente}}.Extension(),
		mls.ExternalSendersExtension([]mls.ExternalSender{{SignatureKey: hub.org.Manifest.Hub, Credential: credential}})}
}

// world is a hub with alice, bob and carol, and a partner, which stands still, with
// pat and quinn; alice's room has bob and pat in it, at epoch 1.
type world struct {
	t                             testing.TB
	acme, globex                  *site
	alice, bob, carol, pat, quinn *client
	room                          wire.RoomID
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldUnder(t, nil)
}

// newWorldUnder is newWorld under an agreement with these terms.
func newWorldUnder(t testing.TB, terms *pb.TermsChange) *world {
	t.Helper()
	w := newWorldOn(t, terms)
	rand.Read(w.room[:])
	request, states := w.creation(w.room, w.bob, w.pat)
	if st := w.acme.createRoom(t.Context(), w.alice.id, request); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatalf("an honest room: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	for c, s := range states {
		c.state = s
	}
	return w
}

// newWorldOn is a world without a room, under an agreement with these terms.
func newWorldOn(t testing.TB, terms *pb.TermsChange) *world {
	t.Helper()
	w := &world{t: t, acme: newSite(t, "acme.example"), globex: newSite(t, "globex.example")}
	agreeOn(t, w.acme, w.globex, terms)
	w.alice, w.bob, w.carol = w.acme.client("alice"), w.acme.client("bob"), w.acme.client("carol")
	w.pat, w.quinn = w.globex.client("pat").knownTo(w.acme), w.globex.client("quinn").knownTo(w.acme)
	w.globex.halt()
	return w
}

// creation is alice's request for a room with these clients, and everybody's state
// in epoch 1.
func (w *world) creation(id wire.RoomID, with ...*client) (*pb.CreateRoomRequest, map[*client]*group.State) {
	w.t.Helper()
	return w.creationWith(id, wire.GroupID(id, 0), extensionsOf(w.t, w.acme, roomExtension(w.acme, id, w.acme, w.globex)), with...)
}

func (w *world) creationWith(id wire.RoomID, groupID []byte, extensions []mls.Extension, with ...*client) (*pb.CreateRoomRequest, map[*client]*group.State) {
	w.t.Helper()
	if len(with) > 1 {
		extensions = withAdmin(w.t, extensions, w.alice)
	}
	zero, err := group.Create(w.alice.config(), group.CreateParams{Suite: mls.SuiteX25519AES128, GroupID: groupID,
		Credential: w.alice.credential(), Extensions: extensions})
	must(w.t, err)
	info, err := zero.GroupInfo(false)
	must(w.t, err)
	b, states := w.alice.add(zero, with...)
	return &pb.CreateRoomRequest{Room: id[:], GroupInfo: info, Tree: zero.Tree(), Bundle: b}, states
}

// withAdmin makes an honest room one of more than two, with an administrator. A room
// that is not honest stays as it is.
func withAdmin(t testing.TB, list []mls.Extension, admin *client) []mls.Extension {
	t.Helper()
	roles, err := wire.Roles{Invite: wire.RoleMember}.With(admin.cred.Organization, admin.member, wire.RoleAdmin).Encode()
	must(t, err)
	var out []mls.Extension
	for _, e := range list {
		if e.Type == mls.ExtensionRoom {
			if r, err := wire.ParseRoom(e.Data); err == nil {
				r.Roles = wire.RolesDigest(roles)
				e.Data, err = r.Encode()
				must(t, err)
			}
		}
		out = append(out, e)
	}
	return append(out, mls.Extension{Type: mls.ExtensionRoles, Data: roles})
}

// add makes a Commit that adds clients, and the state of each in the new epoch, its
// own included. It changes none of theirs.
func (c *client) add(from *group.State, with ...*client) (*pb.Bundle, map[*client]*group.State) {
	c.t.Helper()
	var p group.CommitParams
	secrets := make(map[*client]*group.KeyPackageSecrets)
	for _, m := range with {
		kp, s := m.keyPackage()
		p.Adds, secrets[m] = append(p.Adds, kp), s
	}
	b, next := c.commit(from, p)
	states := map[*client]*group.State{c: next}
	for m, s := range secrets {
		joined, _, err := group.Join(m.config(), b.Welcome, b.Tree, s)
		must(c.t, err)
		states[m] = joined
	}
	return b, states
}

// commit makes a Commit and the state after it.
func (c *client) commit(from *group.State, p group.CommitParams) (*pb.Bundle, *group.State) {
	c.t.Helper()
	_, staged, err := from.Stage(p)
	must(c.t, err)
	next, err := staged.Apply(from)
	must(c.t, err)
	return bundleOf(staged), next
}

func bundleOf(s *group.Staged) *pb.Bundle {
	return &pb.Bundle{Commit: s.Commit, Welcome: s.Welcome, GroupInfo: s.GroupInfo, Tree: s.Tree}
}

// hand submits a Commit for an epoch at the client's home node.
func (c *client) hand(room wire.RoomID, epoch uint64, b *pb.Bundle) *pb.Status {
	c.counter++
	return c.home.submitCommit(c.t.Context(), c.id, &pb.SubmitCommitRequest{Counter: c.counter, Room: room[:], Epoch: epoch, Bundle: b})
}

// submit hands an envelope over, as the session would.
func (c *client) submit(core []byte) *pb.Status {
	c.counter++
	return c.home.submit(c.t.Context(), c.id, []ownSubmission{{counter: c.counter, core: core}})[0]
}

// message is an envelope with an application message of the client's state.
func (c *client) message(room wire.RoomID, text string, edit ...func(*pb.EnvelopeCore)) []byte {
	c.t.Helper()
	next, body, err := c.state.Encrypt(nil, []byte(text), 0)
	must(c.t, err)
	c.state = next
	core := &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
		Room: room[:], Epoch: c.state.Epoch(), Deadline: time.Now().Add(time.Hour).Unix(), Body: body}
	for _, f := range edit {
		f(core)
	}
	return encoded(c.t, core)
}

// proposal is an envelope with a handshake that is not a Commit.
func (c *client) proposal(room wire.RoomID, epoch uint64, body []byte) []byte {
	c.t.Helper()
	return encoded(c.t, &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_PROPOSAL,
		Room: room[:], Epoch: epoch, Body: body})
}

func encoded(t testing.TB, c *pb.EnvelopeCore) []byte {
	t.Helper()
	b, err := wire.EncodeCore(c)
	must(t, err)
	return b
}

// trace is everything that a refused submission must leave as it was: every row of
// rooms, trees, results and queues, and what the queues hold.
func (s *site) trace() string {
	s.t.Helper()
	h := sha256.New()
	for _, prefix := range []string{"nd/", "mb/"} {
		var after []byte
		for {
			page, err := s.store.Scan([]byte(prefix), after, 1_000)
			must(s.t, err)
			for _, kv := range page {
				fmt.Fprintf(h, "%d %x %d %x\n", len(kv.Key), kv.Key, len(kv.Value), kv.Value)
				after = kv.Key
			}
			if len(page) < 1_000 {
				break
			}
		}
	}
	return fmt.Sprintf("%x %+v", h.Sum(nil), s.mail.Totals())
}

// shown is a room as it is in memory, to compare with what the store holds.
func (s *site) shown(id wire.RoomID) (place, []byte) {
	s.t.Helper()
	c, err := s.begin(id)
	must(s.t, err)
	defer c.abandon()
	d := c.room(id)
	if d.group == nil {
		return d.place, nil
	}
	return d.place, d.group.Marshal()
}

// refuses checks that a submission is answered with this code and text, and that it
// changed nothing, in the store or in memory.
func (s *site) refuses(room wire.RoomID, code pb.Code, says string, f func() *pb.Status) *pb.Status {
	s.t.Helper()
	before := s.trace()
	at, g := s.shown(room)
	st := f()
	if st.Code != code || !strings.Contains(st.Detail, says) {
		s.t.Errorf("answered %s %q, want %s %q", wire.CodeName(st.Code), st.Detail, wire.CodeName(code), says)
	}
	if after := s.trace(); after != before {
		s.t.Errorf("a refused submission changed the store:\n%s\n%s", before, after)
	}
	if now, g2 := s.shown(room); now != at || !bytes.Equal(g, g2) {
		s.t.Errorf("a refused submission changed the room: %+v to %+v", at, now)
	}
	return st
}

// takes checks that the room is in order: a message of bob's and an empty Commit of
// alice's are sequenced one after the other.
func (w *world) takes() {
	w.t.Helper()
	at, _ := w.acme.shown(w.room)
	if st := w.bob.submit(w.bob.message(w.room, "still here")); st.Code != pb.Code_CODE_SEQUENCED || st.Seq != at.seq+1 {
		w.t.Fatalf("an honest message: %s %s at %d after %d", wire.CodeName(st.Code), st.Detail, st.Seq, at.seq)
	}
	epoch := w.alice.state.Epoch()
	b, next := w.alice.commit(w.alice.state, group.CommitParams{})
	if st := w.alice.hand(w.room, epoch, b); st.Code != pb.Code_CODE_SEQUENCED || st.Seq != at.seq+2 || st.Epoch != epoch+1 {
		w.t.Fatalf("an honest Commit: %s %s at %d, epoch %d", wire.CodeName(st.Code), st.Detail, st.Seq, st.Epoch)
	}
	w.alice.state = next
	for _, c := range []*client{w.bob, w.pat} {
		w.follow(c, b.Commit)
	}
}

// follow has a client take a Commit of somebody else.
func (w *world) follow(c *client, commit []byte) {
	w.t.Helper()
	next, _, err := c.state.Process(commit)
	must(w.t, err)
	c.state = next
}
