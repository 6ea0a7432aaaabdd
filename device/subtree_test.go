package device

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A Commit whose path holds garbage for one subtree of the room, and is right for everybody
// else: signature, tags and tree stand, so that a hub takes it (RFC 9420 §16.12).

// record reads what package group stores of a state (group/encode.go).
type record struct {
	t *testing.T
	b []byte
}

func (r *record) take(n int) []byte {
	r.t.Helper()
	if n > len(r.b) {
		r.t.Fatalf("a record of %d bytes, wanted %d", len(r.b), n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// vec is opaque<V> (RFC 9420 §2.1.2).
func (r *record) vec() []byte {
	r.t.Helper()
	first := r.take(1)[0]
	n := int(first & 0x3f)
	for range 1<<(first>>6) - 1 {
		n = n<<8 | int(r.take(1)[0])
	}
	return r.take(n)
}

// secretsOf are the private keys of a device's nodes, and of its epoch the init secret and
// the membership key.
func secretsOf(t *testing.T, s *group.State) (keys map[mls.NodeIndex][]byte, initSecret, membership []byte) {
	t.Helper()
	records := s.Records(nil)
	i := slices.IndexFunc(records, func(r group.Record) bool { return r.Key == "g" })
	r := &record{t, records[i].Value}
	r.take(1 + 8) // version, revision
	r.vec()       // the public group
	r.take(4)     // our leaf
	keys = make(map[mls.NodeIndex][]byte)
	for list := (&record{t, r.vec()}); len(list.b) > 0; {
		x := binary.BigEndian.Uint32(list.take(4))
		keys[mls.NodeIndex(x)] = list.vec()
	}
	var secrets [7][]byte // init, sender data, exporter, external, membership, resumption, authenticator
	for i := range secrets {
		secrets[i] = r.vec()
	}
	return keys, secrets[0], secrets[4]
}

// stepAbove is the step of a Commit's path of which a member opens the secret.
func stepAbove(t *testing.T, steps []mls.PathStep, member mls.LeafIndex) int {
	t.Helper()
	i := slices.IndexFunc(steps, func(s mls.PathStep) bool { return member.Node().Within(s.Copath) })
	if i < 0 {
		t.Fatalf("leaf %d is below no step of the path", member)
	}
	return i
}

// garble makes what a Commit's path holds for the subtree of a member garbage, and signs and
// tags the Commit anew. Whoever makes a path knows its secrets; this test opens them with the
// keys of other members, one below each step.
func garble(t *testing.T, by *Device, staged *group.Staged, id wire.RoomID, victim *Device, others ...*Device) {
	t.Helper()
	g := by.rooms[id].state.Public()
	s := g.Suite()
	m, err := mls.ParseMessage(staged.Commit)
	must(t, err)
	c := m.PublicMessage.Content
	before, err := g.StageCommit(c)
	must(t, err)
	nodes := c.Commit.Path.Nodes
	hit := stepAbove(t, before.Steps, victim.rooms[id].state.OwnLeaf())
	var root []byte // the commit secret
	for _, d := range others {
		i := stepAbove(t, before.Steps, d.rooms[id].state.OwnLeaf())
		if i == hit {
			continue
		}
		keys, _, _ := secretsOf(t, d.rooms[id].state)
		for j, x := range before.Applied.Recipients(before.Steps[i].Copath) {
			if keys[x] == nil || root != nil {
				continue
			}
			root, err = s.DecryptWithLabel(keys[x], "UpdatePathNode", before.Provisional, nodes[i].Secrets[j])
			must(t, err)
			for range len(nodes) - i {
				root = s.DeriveSecret(root, "path")
			}
		}
	}
	if root == nil {
		t.Fatal("nobody opens the path")
	}
	for j := range nodes[hit].Secrets {
		nodes[hit].Secrets[j].Ciphertext = mls.Random(len(nodes[hit].Secrets[j].Ciphertext))
	}
	_, initSecret, membership := secretsOf(t, by.rooms[id].state)
	must(t, c.Sign(s, by.account.DeviceKey, g.Context()))
	next, err := g.StageCommit(c)
	must(t, err)
	ctx := next.Next.GroupContext()
	encoded := ctx.Encode()
	joiner := s.ExpandWithLabel(s.Extract(initSecret, root), "joiner", encoded, s.HashLen())
	epoch := s.ExpandWithLabel(s.Extract(joiner, make([]byte, s.HashLen())), "epoch", encoded, s.HashLen())
	c.ConfirmationTag = s.MAC(s.DeriveSecret(epoch, "confirm"), ctx.ConfirmedTranscriptHash)
	staged.Commit = (&mls.PublicMessage{Content: c, MembershipTag: c.MembershipTag(s, membership, g.Context())}).Encode()
	_, external, err := s.DeriveKeyPair(s.DeriveSecret(epoch, "external"))
	must(t, err)
	info := &mls.GroupInfo{Context: ctx, ConfirmationTag: c.ConfirmationTag, Signer: by.rooms[id].state.OwnLeaf(), Extensions: []mls.Extension{mls.ExternalPubExtension(external)}}
	must(t, info.Sign(s, by.account.DeviceKey))
	staged.GroupInfo = info.Encode()
}

// garbleFor has alice commit with garbage for the subtree of a member; keeper is outside it.
func garbleFor(t *testing.T, alice *Device, id wire.RoomID, victim, keeper *Device) {
	t.Helper()
	alice.mu.Lock()
	defer alice.mu.Unlock()
	r := alice.rooms[id]
	_, staged, err := r.state.Stage(group.CommitParams{})
	must(t, err)
	garble(t, alice, staged, id, victim, keeper)
	if st := handCommit(t, alice, r, staged); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatalf("the hub answers %v", st)
	}
}

// inOrder makes sure that devices have the first leaves of a room, in order.
func inOrder(t *testing.T, id wire.RoomID, list ...*Device) {
	t.Helper()
	for i, d := range list {
		if l := d.rooms[id].state.OwnLeaf(); l != mls.LeafIndex(i) {
			t.Fatalf("%s is leaf %d", d.Address(), l)
		}
	}
}

// allRead has each of some devices write in a room, and the others read that and nothing else.
func allRead(t *testing.T, id wire.RoomID, list ...*Device) {
	t.Helper()
	for i, from := range list {
		text := fmt.Sprintf("word %d after it", i)
		sendRoom(t, from, id, text)
		for _, d := range list {
			if d == from {
				continue
			}
			if got := texts(receiveUntil(t, d, text, hasTexts(1))); !slices.Equal(got, []string{text}) {
				t.Errorf("%s was shown %q", d.Address(), got)
			}
		}
	}
}

// roomStates is what of a room a device's history says in a state.
func roomStates(t *testing.T, d *Device, state string) (out []string) {
	t.Helper()
	past, err := d.History()
	must(t, err)
	for _, s := range past {
		if s.Event == "room" && s.State == state {
			out = append(out, s.Reason)
		}
	}
	return out
}

// doesNotFit is what people read of a complaint about alice's Commit.
const doesNotFit = "cannot apply a Commit of alice@acme.example: its secret part does not fit"

func TestWhomACommitLeavesOutComesBackAndTheOthersGoOn(t *testing.T) {
	w := newTrio(t)
	amy, ben := w.acme.device("amy"), w.globex.device("ben")
	id := groupOf(t, w.alice, w.adam, amy, w.bob, ben, w.claire)
	inOrder(t, id, w.alice, w.adam, amy, w.bob, ben, w.claire)
	garbleFor(t, w.alice, id, w.bob, w.adam) // amy's and bob's, leaves 2 and 3
	outside, out, honest := []*Device{w.adam, ben, w.claire}, []*Device{amy, w.bob}, []*Device{w.adam, amy, w.bob, ben, w.claire}
	before := w.bob.rooms[id].state.Epoch()
	agreeing(t, id, outside...)
	if e := w.claire.rooms[id].state.Epoch(); e != before+1 || len(roomStates(t, w.claire, "complaint")) > 0 {
		t.Errorf("claire is in epoch %d after %d, told of %q", e, before, roomStates(t, w.claire, "complaint"))
	}
	sendRoom(t, ben, id, "among those who follow")
	for _, d := range []*Device{w.adam, w.claire} {
		receiveUntil(t, d, "ben's words", hasTexts(1))
	}
	for _, d := range out {
		receive(t, d)
		if a := d.rooms[id].Accuse; d.rooms[id].state.Epoch() != before || a == nil || a.Accused.Device != w.alice.ID() || !a.Sent {
			t.Errorf("%s is in epoch %d and does not complain about alice: %+v", d.Address(), d.rooms[id].state.Epoch(), a)
		}
	}
	agreeing(t, id, honest...)
	for _, d := range honest {
		if r := d.rooms[id]; r.Generation != 0 || len(r.people()) != 6 || r.Accuse != nil || r.Stopped != "" {
			t.Errorf("%s: generation %d, %d people, accuses %+v, stopped %q", d.Address(), r.Generation, len(r.people()), r.Accuse, r.Stopped)
		}
	}
	allRead(t, id, honest...)
	for _, d := range outside {
		if got := roomStates(t, d, "complaint"); !slices.Contains(got, doesNotFit) {
			t.Errorf("%s was told of complaints: %q", d.Address(), got)
		}
	}
	for _, d := range out {
		if got := roomStates(t, d, "resynced"); len(got) != 1 {
			t.Errorf("%s was told that it came back: %q", d.Address(), got)
		}
	}
}

func TestWhoMakesACommitThatLeavesOutMostOfARoomIsTakenOut(t *testing.T) {
	w := newTrio(t)
	w.acme.resetAfter = time.Second
	w.acme.halt()
	w.acme.start()
	id := groupOf(t, w.alice, w.adam, w.bob, w.claire)
	inOrder(t, id, w.alice, w.adam, w.bob, w.claire)
	before := w.bob.rooms[id].state.Epoch()
	garbleFor(t, w.alice, id, w.bob, w.adam) // bob's and claire's, leaves 2 and 3
	receive(t, w.adam)
	if e := w.adam.rooms[id].state.Epoch(); e != before+1 {
		t.Fatalf("adam is in epoch %d after %d", e, before)
	}
	sendRoom(t, w.adam, id, "to nobody who reads it") // and is away for a while
	generation(t, id, 1, w.bob, w.claire)
	for _, d := range []*Device{w.bob, w.claire} {
		past, err := d.History()
		must(t, err)
		if slices.Contains(texts(past), "to nobody who reads it") {
			t.Errorf("%s read what was encrypted past it", d.Address())
		}
	}
	generation(t, id, 1, w.adam)
	three := []*Device{w.adam, w.bob, w.claire}
	agreeing(t, id, three...)
	sent, err := w.adam.Sent()
	must(t, err)
	for _, m := range sent[0].Members {
		if m.State != "unreadable" {
			t.Errorf("adam is told of his words: %+v", m)
		}
	}
	if n := len(sent[0].Members); n != 2 {
		t.Errorf("adam is told of %d people", n)
	}
	allRead(t, id, three...)
	for _, d := range three {
		if r := d.rooms[id]; len(r.people()) != 3 {
			t.Errorf("%s: %d people", d.Address(), len(r.people()))
		}
		if got := roomStates(t, d, "reset"); len(got) != 1 || !strings.Contains(got[0], "could not apply a Commit of alice@acme.example (its secret part does not fit); it goes on without that device") {
			t.Errorf("%s was told of the reset: %q", d.Address(), got)
		}
	}
	shown := receiveUntil(t, w.alice, "alice is told", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("reset")) })
	if got := texts(shown); len(got) > 0 || !w.alice.rooms[id].Ended {
		t.Errorf("alice reads %q after the reset, or stays in the room", got)
	}
}
