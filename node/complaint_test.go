package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

const (
	accepted    = pb.Code_CODE_ACCEPTED
	notFound    = pb.Code_CODE_NOT_FOUND
	rateLimited = pb.Code_CODE_RATE_LIMITED
)

// spoiled is a Commit whose confirmation tag no member's secrets bear out, with a GroupInfo
// to go with it: the hub cannot tell.
func (c *client) spoiled(p group.CommitParams) *pb.Bundle {
	c.t.Helper()
	b, _ := c.commit(c.state, p)
	m, err := mls.ParseMessage(b.Commit)
	must(c.t, err)
	m.PublicMessage.Content.ConfirmationTag[0] ^= 1
	b.Commit = m.PublicMessage.Encode()
	b.GroupInfo = c.editedInfo(b.GroupInfo, func(g *mls.GroupInfo) { g.ConfirmationTag[0] ^= 1 })
	return b
}

// breaks has alice commit what nobody can apply.
func (w *world) breaks() *pb.Bundle {
	w.t.Helper()
	b := w.alice.spoiled(group.CommitParams{})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
		w.t.Fatalf("the hub sees through it: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	return b
}

// complaint is a client's complaint about a Commit of alice's, with what edit changes.
func (c *client) complaint(w *world, commit []byte, edit ...func(*identity.Complaint)) string {
	c.t.Helper()
	m, err := mls.ParseMessage(commit)
	must(c.t, err)
	said := identity.Complaint{Room: w.room, Epoch: m.PublicMessage.Content.Epoch, Commit: sha256.Sum256(commit), Accused: authorOf(w.alice.cred), Reason: identity.ReasonCommit,
		Organization: c.cred.Organization, Member: c.member, Device: c.id, Issued: time.Now()}
	for _, f := range edit {
		f(&said)
	}
	note, err := identity.SignComplaint(said, c.key)
	must(c.t, err)
	return note
}

// complains hands a complaint over: to the home node, or as a partner's item.
func (c *client) complains(w *world, note string) *pb.Status {
	c.t.Helper()
	if c.home == w.acme {
		return w.acme.complain(c.t.Context(), c.id, &pb.ComplainRequest{Room: w.room[:], Complaint: note})
	}
	body, err := proto.Marshal(&pb.ComplaintBody{Complaint: note})
	must(c.t, err)
	return w.deliver(w.controlItem(pb.Kind_KIND_COMPLAINT, body))
}

func (w *world) controlItem(kind pb.Kind, body []byte) *pb.Item {
	return &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: encoded(w.t, &pb.EnvelopeCore{Version: 1,
		Class: pb.Class_CLASS_CONTROL, Kind: kind, Room: w.room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: body})}}
}

// open is what the hub has open about the room.
func (w *world) open() []*pb.RoomCase {
	w.t.Helper()
	a, err := w.acme.groupInfoFor(w.acme.org.ID, &pb.GroupInfoQuery{Room: w.room[:]})
	must(w.t, err)
	return a.Cases
}

func TestAComplaintThatDoesNotStandIsRefused(t *testing.T) {
	w := newWorld(t)
	commit := w.breaks().Commit
	says := func(c *client, edit func(*identity.Complaint)) func(*world) *pb.Status {
		return func(w *world) *pb.Status { return c.complains(w, c.complaint(w, commit, edit)) }
	}
	same := func(*identity.Complaint) {}
	cases := []hubCase{
		{"about another Commit", notFound, "no such Commit", says(w.bob, func(c *identity.Complaint) { c.Commit[0] ^= 1 })},
		{"about somebody else", malformed, "did not make", says(w.bob, func(c *identity.Complaint) { c.Accused = authorOf(w.pat.cred) })},
		{"of another epoch", malformed, "did not make", says(w.bob, func(c *identity.Complaint) { c.Epoch++ })},
		{"of another generation", notFound, "generation", says(w.bob, func(c *identity.Complaint) { c.Generation = 1 })},
		{"of a later generation", notFound, "generation", says(w.pat, func(c *identity.Complaint) { c.Generation = 7 })},
		{"of another room", malformed, "", says(w.bob, func(c *identity.Complaint) { c.Room[0] ^= 1 })},
		{"of one who is not in the room", forbidden, "not in the room", says(w.carol, same)},
		{"of a partner's member who is not in the room", forbidden, "not in the room", says(w.quinn, same)},
		{"in another's name", malformed, "", func(w *world) *pb.Status { return w.bob.complains(w, w.carol.complaint(w, commit)) }},
		{"of ours, from a partner", malformed, "another organization", func(w *world) *pb.Status {
			body, _ := proto.Marshal(&pb.ComplaintBody{Complaint: w.bob.complaint(w, commit)})
			return w.deliver(w.controlItem(pb.Kind_KIND_COMPLAINT, body))
		}},
		{"about a GroupInfo that no external Commit began from", malformed, "did not make", says(w.bob, func(c *identity.Complaint) { c.Reason = identity.ReasonExternal })},
		{"that is none", malformed, "", func(w *world) *pb.Status {
			return w.acme.complain(t.Context(), w.bob.id, &pb.ComplainRequest{Room: w.room[:], Complaint: "I do not like it"})
		}},
		{"that no device signed", malformed, "", func(w *world) *pb.Status {
			note := w.bob.complaint(w, commit)
			return w.bob.complains(w, note[:len(note)-6]+"AAAA=\n")
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.acme.t = t
			w.acme.refuses(w.room, c.code, c.says, func() *pb.Status { return c.f(w) })
		})
	}
	if got := w.open(); len(got) > 0 {
		t.Errorf("open after nothing but refusals: %v", got)
	}
}

func TestOneComplaintStopsTheCommitterAndAVouchLetsThemGoOn(t *testing.T) {
	w := newWorld(t)
	b, next := w.alice.commit(w.alice.state, group.CommitParams{}) // nothing is wrong with it
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
		t.Fatal(st)
	}
	note := w.pat.complaint(w, b.Commit)
	w.follow(w.bob, b.Commit)
	w.alice.state = next
	for range 3 { // said again, it is one complaint
		if st := w.pat.complains(w, note); wire.ClassOf(st.Code) != wire.Success {
			t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
	k := w.open()
	if len(k) != 1 || len(k[0].Complaints) != 1 || k[0].Due || k[0].Vouched != 0 || string(k[0].Order[0].Device) != string(w.pat.id[:]) {
		t.Fatalf("open: %v", k)
	}
	empty := func(c *client) (*pb.Bundle, *group.State) { return c.commit(c.state, group.CommitParams{}) }
	own := w.alice.state.OwnLeaf()
	w.acme.refuses(w.room, forbidden, "others cannot apply", func() *pb.Status {
		b, _ := empty(w.alice)
		return w.alice.hand(w.room, w.alice.state.Epoch(), b)
	})
	t.Run("also by coming back from outside", func(t *testing.T) {
		w.acme.refuses(w.room, forbidden, "others cannot apply", func() *pb.Status {
			return w.alice.hand(w.room, w.alice.state.Epoch(), w.resync(w.alice, &own))
		})
	})
	publish := func(c *client, s *group.State) *pb.Status {
		info, err := s.GroupInfo(false)
		must(t, err)
		return w.acme.publishGroupInfo(t.Context(), c.id, &pb.PublishGroupInfoRequest{Room: w.room[:], Epoch: s.Epoch(), GroupInfo: info})
	}
	publish(w.alice, w.alice.state) // nobody vouches for themselves
	if k := w.open(); k[0].Vouched != 0 {
		t.Fatalf("the accused vouches: %v", k)
	}
	if st := publish(w.bob, w.bob.state); st.Code != accepted {
		t.Fatalf("bob vouches: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	publish(w.bob, w.bob.state)
	if k := w.open(); k[0].Vouched != 1 || k[0].Due {
		t.Fatalf("after it: %v", k)
	}
	a, err := w.acme.groupInfoFor(w.acme.org.ID, &pb.GroupInfoQuery{Room: w.room[:]})
	must(t, err)
	if by, err := signerOf(w.bob.state.Public(), a.GroupInfo); err != nil || by != authorOf(w.bob.cred) {
		t.Errorf("the hub hands out a GroupInfo of %v, %v", by, err)
	}
	b, next = empty(w.alice)
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
		t.Fatalf("alice goes on: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
}

func TestAFloodOfComplaintsIsStopped(t *testing.T) {
	w := newWorld(t)
	commit := w.breaks().Commit
	for i := range wire.ComplaintsPerDevice {
		w.bob.complains(w, w.bob.complaint(w, commit, func(c *identity.Complaint) { c.Commit[1] ^= byte(i + 1) }))
	}
	st := w.bob.complains(w, w.bob.complaint(w, commit))
	if st.Code != rateLimited || st.RetryMs == 0 {
		t.Errorf("after %d in a row: %s %s", wire.ComplaintsPerDevice, wire.CodeName(st.Code), st.Detail)
	}
	if got := w.open(); len(got) > 0 {
		t.Errorf("open: %v", got)
	}
}

// A member complains about every good Commit. When there is one that nobody can apply, there is
// still a place to say so.
func TestComplaintsAboutCommitsOfLongAgoTakeNoPlaceFromLaterOnes(t *testing.T) {
	w := newWorld(t)
	for range maxCases + 1 {
		b, next := w.alice.commit(w.alice.state, group.CommitParams{})
		if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
			t.Fatalf("alice goes on: %s %s", wire.CodeName(st.Code), st.Detail)
		}
		w.alice.state = next
		w.follow(w.bob, b.Commit)
		if st := w.pat.complains(w, w.pat.complaint(w, b.Commit)); wire.ClassOf(st.Code) != wire.Success {
			t.Fatalf("pat complains: %s %s", wire.CodeName(st.Code), st.Detail)
		}
		info, err := w.bob.state.GroupInfo(false)
		must(t, err)
		body := &pb.PublishGroupInfoRequest{Room: w.room[:], Epoch: w.bob.state.Epoch(), GroupInfo: info}
		if st := w.acme.publishGroupInfo(t.Context(), w.bob.id, body); st.Code != accepted {
			t.Fatalf("bob vouches: %s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
	broken := w.breaks().Commit
	if st := w.bob.complains(w, w.bob.complaint(w, broken)); st.Code != accepted {
		t.Fatalf("bob cannot apply the last one: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	hash := sha256.Sum256(broken)
	if k := w.open(); len(k) == 0 || string(k[len(k)-1].Commit) != string(hash[:]) {
		t.Errorf("open: %v", k)
	}
}

// twin is a second device of a client's member, known to no directory: for rooms whose hub
// asks none.
func (c *client) twin() *client {
	c.t.Helper()
	d := *c
	_, d.key, _ = ed25519.GenerateKey(rand.Reader)
	d.id = wire.DeviceID(d.key.Public().(ed25519.PublicKey))
	d.cred.Device, d.state = d.id, nil
	return &d
}

func TestTwoDevicesOfOneMemberCountAsOne(t *testing.T) {
	w := newWorld(t)
	w.acme.rooms.options.Validator = trusting{}
	twin := w.pat.twin()
	rand.Read(w.room[:])
	request, states := w.creation(w.room, w.bob, w.pat, twin)
	if st := w.acme.createRoom(t.Context(), w.alice.id, request); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	for c, s := range states {
		c.state = s
	}
	commit := w.breaks().Commit
	for _, c := range []*client{w.pat, twin} {
		if st := c.complains(w, c.complaint(w, commit)); wire.ClassOf(st.Code) != wire.Success {
			t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
	if k := w.open(); len(k) != 1 || len(k[0].Complaints) != 1 || k[0].Due {
		t.Errorf("two devices of one member confirm each other: %v", k)
	}
	if st := w.bob.complains(w, w.bob.complaint(w, commit)); st.Code != accepted {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	if k := w.open(); len(k[0].Complaints) != 2 {
		t.Errorf("another member confirms: %v", k)
	}
}
