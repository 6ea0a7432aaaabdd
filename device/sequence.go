package device

import (
	"bytes"
	"fmt"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// The room's sequence as this device sees it: places that come one after the other, some that
// are passed over, and what the hub says of their order.

// advanceSeq notes a place of the room's sequence; false when it was seen before.
func (b *batch) advanceSeq(r *room, seq uint64) bool {
	if seq <= r.Seq {
		return false
	}
	if r.Seq > 0 && seq > r.Seq+1 && !b.ownBetween(r, seq) {
		b.show(Shown{Event: "room", State: "gap", Room: r.ID.String(), Seq: seq,
			Reason: fmt.Sprintf("entries %d to %d did not arrive", r.Seq+1, seq-1), At: b.d.now()})
		r.Holes = append(r.Holes[max(0, len(r.Holes)+1-maxHoles):len(r.Holes):len(r.Holes)], [2]uint64{r.Seq + 1, seq - 1})
	}
	r.Seq = seq
	b.touch(r.ID)
	return true
}

// chain holds an entry against the one before it, where we were delivered that one: the
// hub gives every entry the hash of its predecessor (docs/protocol.md 3.4), and two
// that name another order for one place are a fork that people are told of. Entries of
// our own are not delivered to us and leave a hole in what we can check.
func (b *batch) chain(r *room, env *pb.Envelope) {
	if len(env.Previous) != 32 || env.Seq == 0 {
		return // from the room log of a page that was checked by MLS
	}
	if r.HeadSeq > 0 && r.HeadSeq+1 == env.Seq && !bytes.Equal(r.Head, env.Previous) {
		b.show(Shown{Event: "room", State: "forked", Room: r.ID.String(), RoomName: r.Name, Seq: env.Seq, At: b.d.now(),
			Reason: "its hub names another order than before: compare the room's code with others (entente room show)"})
	}
	head := wire.SequenceHash(r.ID, env.Seq, [32]byte(env.Previous), wire.IDOf(env.Core), env.AcceptedMs)
	r.Head, r.HeadSeq = head[:], env.Seq
	b.touch(r.ID)
}

// ownBetween reports whether all entries between are our own: nobody delivers
// these to us.
func (b *batch) ownBetween(r *room, seq uint64) bool {
	missing := false
	_ = b.d.vault.view(func(t *txn) error {
		for n := r.Seq + 1; n < seq && n < r.Seq+1_000; n++ {
			if _, err := t.history(placeKey(r.ID, n)); err != nil {
				missing = true
			}
		}
		return nil
	})
	if !missing {
		return true
	}
	waiting, err := b.d.waiting() // sequenced perhaps, and the answer is still to come
	for _, o := range waiting {
		if o.Room == r.ID && o.Counter > 0 {
			return true
		}
	}
	return err != nil || r.Committing > 0
}

// maxHoles bounds the runs of places of a room that a device remembers as passed over;
// beyond them the oldest is forgotten, and what comes for it later is a repeated place.
const maxHoles = 32

// fill reports whether a place was passed over, and notes that it is no more. A message
// that was held back in quarantine comes after what followed it (docs/protocol.md 5.7);
// that nothing is shown twice is MLS's to say, by keys that are used once.
func (r *room) fill(seq uint64) bool {
	for i, h := range r.Holes {
		if seq < h[0] || seq > h[1] {
			continue
		}
		holes := append([][2]uint64(nil), r.Holes[:i]...)
		if seq > h[0] {
			holes = append(holes, [2]uint64{h[0], seq - 1})
		}
		if seq < h[1] {
			holes = append(holes, [2]uint64{seq + 1, h[1]})
		}
		r.Holes = append(holes, r.Holes[i+1:]...)
		return true
	}
	return false
}
