package device

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
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
		unread, err := p.bob.handle(t.Context(), []*pb.Deliver{{Seq: mark + 1 + uint64(n), Envelope: &pb.Envelope{Core: core, Seq: first + uint64(n)}}}, nothing)
		must(t, err)
		if len(unread) != 1 {
			t.Errorf("%s: %d deliveries are refused", kind, len(unread))
		}
	}
	said := ""
	must(t, p.bob.showNew(func(s Shown) error { said += fmt.Sprint(s.Event, " ", s.State, "; "); return nil }))
	if want := "unreadable change; unreadable message; unreadable change; "; said != want {
		t.Errorf("shown: %s, wanted: %s", said, want)
	}
	if _, r := onlyRoom(t, p.bob); r.Seq != first+2 {
		t.Errorf("the room is at place %d, wanted %d", r.Seq, first+2)
	}
}
