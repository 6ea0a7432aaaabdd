package device

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// A device may hear that it is out of a room before it reads what was said there until then:
// a message of its own is refused while the mailbox still holds others'.
func TestWhatWasSaidUntilARemovalIsReadByWhoHeardOfItFirst(t *testing.T) {
	w, id := harbour(t)
	before := w.bob.rooms[id].state.Epoch()
	sendRoom(t, w.alice, id, "one")
	must(t, commitNow(t.Context(), w.alice))
	agreeing(t, id, w.alice, w.claire)
	sendRoom(t, w.alice, id, "two")
	must(t, with(t, w.alice, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.bob.Address()) }))
	if epoch := w.alice.rooms[id].state.Epoch(); epoch != before+2 {
		t.Fatalf("epoch %d, wanted %d", epoch, before+2)
	}
	w.bob.mu.Lock()
	err := w.bob.endRoom(id)
	w.bob.mu.Unlock()
	must(t, err)
	shown := receiveUntil(t, w.bob, "bob reads what waits for him", func([]Shown) bool { return !w.bob.rooms[id].Heard })
	if got := texts(shown); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("bob reads %q", got)
	}
	told := 0
	for _, s := range shown {
		switch {
		case s.State == "removed":
			told++
		case s.State == "gap", s.Event == "unreadable":
			t.Errorf("shown: %+v", s)
		}
	}
	if told != 1 || !w.bob.rooms[id].Ended {
		t.Errorf("bob is told %d times; %+v", told, w.bob.rooms[id])
	}
}

func TestAnEntryThatCannotBeReadIsNoGap(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, r := onlyRoom(t, p.bob)
	first, mark := r.Seq+1, p.bob.mark()
	for n, kind := range []pb.Kind{pb.Kind_KIND_PROPOSAL, pb.Kind_KIND_APPLICATION, pb.Kind_KIND_PROPOSAL} {
		made := &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: kind, Room: id[:], Epoch: r.state.Epoch(), Body: []byte("garbage")}
		if kind == pb.Kind_KIND_APPLICATION {
			made.Class, made.Deadline, made.ReturnHandle = pb.Class_CLASS_MESSAGE, p.bob.now().Add(time.Hour).Truncate(time.Minute).Unix(), make([]byte, wire.ReturnHandleLen)
		}
		core, err := wire.EncodeCore(made)
		must(t, err)
		unread, err := p.bob.handle(t.Context(), []*pb.Deliver{{Seq: mark + 1 + uint64(n), Envelope: &pb.Envelope{Core: core, Seq: first + uint64(n)}}})
		must(t, err)
		if len(unread) != 1 {
			t.Errorf("%s: %d deliveries are refused", kind, len(unread))
		}
	}
	said := ""
	must(t, p.bob.showNew(func(s Shown) error { said += fmt.Sprint(s.Event, " ", s.State, "; "); return nil }))
	if want := "unreadable ; unreadable ; unreadable ; "; said != want {
		t.Errorf("shown: %s, wanted: %s", said, want)
	}
	if _, r := onlyRoom(t, p.bob); r.Seq != first+2 {
		t.Errorf("the room is at place %d, wanted %d", r.Seq, first+2)
	}
}

// A hub that cannot be asked for a moment costs nobody an entry; one that cannot for long holds
// up nothing else.
func TestTheMailboxWaitsForAHubOnceForAMinute(t *testing.T) {
	p := newPair(t)
	now, id := time.Now(), wire.RoomID{7}
	p.bob.now = func() time.Time { return now }
	hub := wire.Refuse(pb.Code_CODE_UNREACHABLE, "the link was lost")
	for _, c := range []struct {
		after time.Duration
		err   error
		waits bool
	}{
		{0, hub, true},
		{hubPatience / 2, hub, true},
		{hubPatience, hub, false},
		{2 * hubPatience, hub, false},
		{2 * hubPatience, session.ErrAway, true},
		{2 * hubPatience, wire.Refuse(pb.Code_CODE_RATE_LIMITED, "comes back at"), false},
		{time.Hour, errUndecided, false},
		{time.Hour, errWelcomeComes, false},
		{time.Hour, hub, true},
		{time.Hour + hubPatience, hub, false},
	} {
		began := now
		now = began.Add(c.after)
		if got := p.bob.waitsFor(id, c.err); got != c.waits {
			t.Errorf("after %s, %v: waits %v", c.after, c.err, got)
		}
		now = began
	}
}
