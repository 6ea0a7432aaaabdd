package device

import (
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A Commit from the room log overtakes what lies in the mailbox while a message of our own
// waits for its answer: what comes then is no repeated place, and is shown.
func TestWhatWasOvertakenIsStillTakenWhileAnOwnMessageWaits(t *testing.T) {
	p := newPair(t)
	d, id := p.alice, wire.RoomID{7}
	err := d.vault.update(func(t *txn) error {
		o := &outgoing{ID: MessageID{1}, Room: id, Counter: 9, Queued: time.Now()}
		if err := o.save(t); err != nil {
			return err
		}
		return t.ownPlace(id, 14)
	})
	if err != nil {
		t.Fatal(err)
	}
	b := d.newBatch(t.Context())
	r := &room{ID: id, Seq: 10}
	b.rooms[id] = r
	if !b.advanceSeq(r, 17) {
		t.Fatal("a place ahead is refused")
	}
	if len(b.writes) > 0 {
		t.Error("people are told of a gap that may be their own message")
	}
	for seq, want := range map[uint64]bool{10: false, 11: true, 13: true, 14: false, 15: true, 16: true, 17: false} {
		if got := r.fill(seq); got != want {
			t.Errorf("place %d still comes: %v", seq, got)
		}
		if r.fill(seq) {
			t.Errorf("place %d comes twice", seq)
		}
	}
	if !b.advanceSeq(r, 20) {
		t.Fatal("a place ahead is refused")
	}
	b.ownPlace(id, 18) // the answer
	if r.fill(18) || !r.fill(19) {
		t.Error("a place that turned out to be our own is waited for, or another is not")
	}
}

// The answer to a proposal of our own may be lost, and nobody delivers the proposal to us.
func TestAPlaceThatMayBeAProposalToLeaveIsNoGap(t *testing.T) {
	p := newPair(t)
	for _, leaving := range []bool{false, true} {
		b, r := p.alice.newBatch(t.Context()), &room{ID: wire.RoomID{7}, Seq: 2}
		if leaving {
			r.Leaving, r.LeaveCounter = true, 5
		}
		b.rooms[r.ID] = r
		b.advanceSeq(r, 4)
		if told := len(b.writes) > 0; told == leaving {
			t.Errorf("leaving: %v, told of a gap: %v", leaving, told)
		}
		if !r.fill(3) {
			t.Error("what was passed over is not taken any more")
		}
	}
}

// The answer to a Commit of our own and what follows it may come in one batch.
func TestAnOwnPlaceThatCameInTheSameBatchIsNoGap(t *testing.T) {
	p := newPair(t)
	for _, known := range []bool{false, true} {
		b, r := p.alice.newBatch(t.Context()), &room{ID: wire.RoomID{7}, Seq: 2}
		b.rooms[r.ID] = r
		if known {
			b.ownPlace(r.ID, 4)
		}
		b.advanceSeq(r, 3)
		before := len(b.writes)
		b.advanceSeq(r, 5)
		if told := len(b.writes) > before; told == known {
			t.Errorf("known: %v, told of a gap: %v", known, told)
		}
	}
}

func TestAGapNamesWhatIsMissingAndNothingElse(t *testing.T) {
	p := newPair(t)
	id := wire.RoomID{7}
	must(t, p.alice.vault.update(func(t *txn) error { return t.ownPlace(id, 14) }))
	for told, want := range map[uint64]string{
		0:  "4 messages or changes did not arrive (in the room's order: 11 to 13, 15)",
		12: "2 messages or changes did not arrive (in the room's order: 13, 15)",
		13: "1 message or change did not arrive (in the room's order: 15)",
		15: "",
		30: "",
	} {
		b, r := p.alice.newBatch(t.Context()), &room{ID: id, Seq: 10, Told: told}
		b.rooms[id] = r
		if missing := after(b.notOwn(r, 11, 15), told); len(missing) == 0 && want != "" || len(missing) > 0 && gapText(missing) != want {
			t.Errorf("told up to %d: %v, wanted %q", told, missing, want)
		}
		if b.advanceSeq(r, 16); len(b.writes) > 0 != (want != "") {
			t.Errorf("told up to %d: told again: %v", told, len(b.writes) > 0)
		}
		if !r.fill(12) {
			t.Error("what was passed over is not taken any more")
		}
	}
	if got := gapText([][2]uint64{{1, 1}, {3, 3}, {5, 5}, {7, 7}, {9, 9}, {11, 12}}); got != "7 messages or changes did not arrive (in the room's order: 1, 3, 5, and others up to 12)" {
		t.Error(got)
	}
}

// A hub that names a place far on for a device's return after a restore would have what it
// withholds from then on pass for what the device has lost itself.
func TestAHubThatPutsAReturnAfterWhatFollowsItHidesNoGap(t *testing.T) {
	for _, told := range []uint64{0, 1 << 40} {
		p := newPair(t)
		send(t, p.alice, p.bob.Address(), "one", SendOptions{})
		receiveUntil(t, p.bob, "the message", hasTexts(1))
		id := p.room(t)
		p.bob.mu.Lock()
		r := p.bob.rooms[id]
		r.Told = told
		next := r.Seq + 2
		p.bob.mu.Unlock()
		p.bob.handed(t, &pb.Envelope{Core: p.alice.unsent(t, id, "three"), Seq: next, Previous: make([]byte, 32), AcceptedMs: time.Now().UnixMilli()})
		if !slices.ContainsFunc(shownNew(t, p.bob), func(s Shown) bool { return s.State == "gap" }) {
			t.Errorf("the return is at %d: nobody is told of the gap after it", told)
		}
	}
}
