package node

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// says submits what a change makes of the envelope of an honest message of bob's.
func says(edit func(w *world, c *pb.EnvelopeCore)) func(*world) *pb.Status {
	return func(w *world) *pb.Status {
		return w.bob.submit(w.bob.message(w.room, "x", func(c *pb.EnvelopeCore) { edit(w, c) }))
	}
}

func TestAMessageThatIsNotWhatItsEnvelopeSaysIsRefused(t *testing.T) {
	w := newWorld(t)
	var other wire.RoomID
	rand.Read(other[:])
	_, elsewhere := w.creation(other, w.bob)
	unsupported := pb.Code_CODE_UNSUPPORTED
	runHubCases(t, w, []hubCase{
		{"of the epoch before the first Commit", wrongEpoch, "", says(func(_ *world, c *pb.EnvelopeCore) { c.Epoch = 0 })},
		{"of the next epoch", wrongEpoch, "", says(func(_ *world, c *pb.EnvelopeCore) { c.Epoch++ })},
		{"of the last epoch there is", wrongEpoch, "", says(func(_ *world, c *pb.EnvelopeCore) { c.Epoch = 1<<64 - 1 })},
		{"of another room's group", malformed, "another than its envelope", says(func(w *world, c *pb.EnvelopeCore) {
			_, body, err := elsewhere[w.bob].Encrypt(nil, []byte("x"), 0)
			must(w.t, err)
			c.Body = body
		})},
		{"another epoch inside", malformed, "another than its envelope", says(func(w *world, c *pb.EnvelopeCore) {
			b, _ := w.alice.commit(w.alice.state, group.CommitParams{})
			next, _, err := w.bob.state.Process(b.Commit)
			must(w.t, err)
			_, c.Body, err = next.Encrypt(nil, []byte("x"), 0)
			must(w.t, err)
		})},
		{"a handshake inside", malformed, "another than its envelope", says(func(w *world, c *pb.EnvelopeCore) {
			cfg := w.bob.config()
			cfg.Private = true
			private, err := group.Restore(cfg, w.bob.state.Records(nil))
			must(w.t, err)
			_, c.Body, err = private.ProposeRemove(w.pat.state.OwnLeaf(), nil)
			must(w.t, err)
		})},
		{"a public message", malformed, "no MLS PrivateMessage", says(func(w *world, c *pb.EnvelopeCore) { c.Body = w.proposeRemove(w.bob, w.pat, "") })},
		{"a KeyPackage", malformed, "no MLS PrivateMessage", says(func(w *world, c *pb.EnvelopeCore) { c.Body, _ = w.carol.keyPackage() })},
		{"plain text", malformed, "no MLS PrivateMessage", says(func(_ *world, c *pb.EnvelopeCore) { c.Body = []byte("hello") })},
		{"nothing", malformed, "no MLS PrivateMessage", says(func(_ *world, c *pb.EnvelopeCore) { c.Body = nil })},
		{"a byte more", malformed, "no MLS PrivateMessage", says(func(_ *world, c *pb.EnvelopeCore) { c.Body = append(c.Body, 0) })},
		{"a deadline that has passed", pb.Code_CODE_DEADLINE_PASSED, "", says(func(_ *world, c *pb.EnvelopeCore) { c.Deadline = time.Now().Add(-time.Second).Unix() })},
		{"another generation", unknownRoom, "", says(func(_ *world, c *pb.EnvelopeCore) { c.Generation = 1 })},
		{"another room", unknownRoom, "", says(func(_ *world, c *pb.EnvelopeCore) { c.Room = other[:] })},
		{"a return handle", forbidden, "without a return handle", says(func(_ *world, c *pb.EnvelopeCore) { c.ReturnHandle = make([]byte, wire.ReturnHandleLen) })},
		{"control", forbidden, "submits messages and handshakes", says(func(_ *world, c *pb.EnvelopeCore) { c.Class, c.Kind = pb.Class_CLASS_CONTROL, pb.Kind_KIND_NOTICE })},
		{"a Commit without its bundle", malformed, "without its bundle", says(func(_ *world, c *pb.EnvelopeCore) {
			c.Class, c.Kind, c.Deadline = pb.Class_CLASS_HANDSHAKE, pb.Kind_KIND_COMMIT, 0
		})},
		{"by who is not in the room", forbidden, "not in this room", func(w *world) *pb.Status {
			return w.carol.submit(w.bob.message(w.room, "x"))
		}},
		{"over the limit", tooLarge, "", func(w *world) *pb.Status {
			return w.bob.submit(raw(w.t, w.bob.message(w.room, "x"), func(c *pb.EnvelopeCore) { c.Body = make([]byte, wire.MaxMessageBody+1) }))
		}},
		{"much beside the body", tooLarge, "beside its body", func(w *world) *pb.Status {
			return w.bob.submit(append(w.bob.message(w.room, "x"), raw(w.t, nil, func(c *pb.EnvelopeCore) {
				c.ProtoReflect().SetUnknown(append([]byte{0xfa, 0x7f, 0x81, 0x20}, make([]byte, 4097)...))
			})...))
		}},
		{"another version", unsupported, "", func(w *world) *pb.Status {
			return w.bob.submit(raw(w.t, w.bob.message(w.room, "x"), func(c *pb.EnvelopeCore) { c.Version = 2 }))
		}},
		{"another kind", unsupported, "", func(w *world) *pb.Status {
			return w.bob.submit(raw(w.t, w.bob.message(w.room, "x"), func(c *pb.EnvelopeCore) { c.Kind = pb.Kind_KIND_COMMIT }))
		}},
		{"noise", malformed, "", func(w *world) *pb.Status { return w.bob.submit([]byte{0xff, 0xff}) }},
		{"no counter", malformed, "without a counter", func(w *world) *pb.Status {
			return w.acme.submit(w.t.Context(), w.bob.id, []ownSubmission{{core: w.bob.message(w.room, "x")}})[0]
		}},
	})
}

// raw changes a core's bytes past every check.
func raw(t testing.TB, b []byte, edit func(*pb.EnvelopeCore)) []byte {
	t.Helper()
	var c pb.EnvelopeCore
	must(t, proto.Unmarshal(b, &c))
	edit(&c)
	out, err := proto.Marshal(&c)
	must(t, err)
	return out
}

// TestAMessageOfTheEpochBeforeIsTakenWhileNobodyCameOrWent is the one-epoch-before
// rule: everybody who is in the room can read it, and nobody else.
func TestAMessageOfTheEpochBeforeIsTakenWhileNobodyCameOrWent(t *testing.T) {
	w := newWorld(t)
	first := w.bob.message(w.room, "of epoch 1")
	if st := w.bob.submit(w.bob.message(w.room, "in epoch 1, first epoch")); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	quiet, second := w.alice.commit(w.alice.state, group.CommitParams{})
	if st := w.alice.hand(w.room, 1, quiet); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	if st := w.bob.submit(first); st.Code != sequenced || st.Epoch != 2 {
		t.Errorf("of the epoch before a quiet Commit: %s %s, the room is in %d", wire.CodeName(st.Code), st.Detail, st.Epoch)
	}
	late := w.bob.message(w.room, "of epoch 1, too")
	w.follow(w.bob, quiet.Commit)
	w.follow(w.pat, quiet.Commit)
	w.alice.state = second
	quieter, third := w.alice.commit(second, group.CommitParams{})
	if st := w.alice.hand(w.room, 2, quieter); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { return w.bob.submit(late) }) // two epochs before
	second1 := w.bob.message(w.room, "of epoch 2")
	w.follow(w.bob, quieter.Commit)
	w.follow(w.pat, quieter.Commit)
	w.alice.state = third
	if st := w.bob.submit(second1); st.Code != sequenced {
		t.Errorf("one epoch before: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	before := w.bob.message(w.room, "carol must not miss this")
	adding, states := w.alice.add(third, w.carol)
	if st := w.alice.hand(w.room, 3, adding); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { return w.bob.submit(before) })
	w.follow(w.bob, adding.Commit)
	w.follow(w.pat, adding.Commit)
	w.alice.state, w.carol.state = states[w.alice], states[w.carol]
	before = w.bob.message(w.room, "carol must not read this")
	removing, next := w.alice.commit(w.alice.state, group.CommitParams{Removes: []mls.LeafIndex{w.carol.state.OwnLeaf()}})
	if st := w.alice.hand(w.room, 4, removing); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { return w.bob.submit(before) })
	w.acme.refuses(w.room, forbidden, "not in this room", func() *pb.Status { return w.carol.submit(w.carol.message(w.room, "still here?")) })
	w.follow(w.bob, removing.Commit)
	w.follow(w.pat, removing.Commit)
	w.alice.state = next
	w.takes()
}

func TestNoCopyIsKeptLongerThanItsRoomAllows(t *testing.T) {
	w := newWorld(t) // its room allows two hours
	at := time.Now()
	if st := w.alice.submit(w.alice.message(w.room, "for a month", func(c *pb.EnvelopeCore) { c.Deadline = at.Add(30 * 24 * time.Hour).Unix() })); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	got, err := w.acme.mail.Fetch(t.Context(), w.bob.id, 0, 10, 1<<20)
	if err != nil || len(got) == 0 {
		t.Fatalf("bob has %d entries, %v", len(got), err)
	}
	// A bucket is an hour: the copy ends with the one that its deadline is in.
	if last := got[len(got)-1]; last.Deadline.After(at.Add(2*time.Hour+DefaultConfig().Bucket+time.Minute)) || last.Deadline.Before(at.Add(time.Hour)) {
		t.Errorf("kept until %s, it is %s", last.Deadline, at)
	}
	box := w.acme.mail.Outbox(w.globex.org.ID)
	var numbers []uint64
	waiting, err := box.List(t.Context(), 0, 10)
	for _, l := range waiting {
		numbers = append(numbers, l.Number)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := box.Open(t.Context(), numbers)
	if err != nil || len(out) == 0 || out[len(out)-1].Deadline.After(at.Add(3*time.Hour+time.Minute)) {
		t.Errorf("%d items for the partner, %v", len(out), err)
	}
}

// TestNothingOfARoomGoesToWhoIsNoLongerInIt: from a removal on (P4).
func TestNothingOfARoomGoesToWhoIsNoLongerInIt(t *testing.T) {
	w := newWorld(t)
	removing, next := w.alice.commit(w.alice.state, group.CommitParams{Removes: []mls.LeafIndex{w.bob.state.OwnLeaf(), w.pat.state.OwnLeaf()}})
	if st := w.alice.hand(w.room, 1, removing); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
	bobs, out := w.acme.mail.Usage(w.bob.id), w.acme.mail.Totals().Outboxes
	if st := w.alice.submit(w.alice.message(w.room, "among us")); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	if got := w.acme.mail.Usage(w.bob.id); got != bobs {
		t.Errorf("bob's mailbox went from %+v to %+v", bobs, got)
	}
	if got := w.acme.mail.Totals().Outboxes; got != out {
		t.Errorf("the partner's outbox went from %+v to %+v", out, got)
	}
	for name, q := range map[string]*pb.QueryRequest{
		"GroupInfo": {Query: &pb.QueryRequest_GroupInfo{GroupInfo: &pb.GroupInfoQuery{Room: w.room[:]}}},
		"room log":  {Query: &pb.QueryRequest_RoomLog{RoomLog: &pb.RoomLogQuery{Room: w.room[:]}}},
	} {
		if a := w.acme.Query(t.Context(), w.globex.org.ID, q); a.Status.Code != unknownRoom || a.Answer != nil {
			t.Errorf("the %s is shown to an organization that left: %s", name, wire.CodeName(a.Status.Code))
		}
	}
	for _, c := range []*client{w.bob, w.carol} {
		if err := w.acme.inRoom(c.id, w.room); wire.StatusOf(err).Code != unknownRoom {
			t.Errorf("%s may ask about the room: %v", c.name, err)
		}
	}
}
