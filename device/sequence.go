package device

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// The room's sequence as this device sees it: places that come one after the other, some that
// are passed over, and what the hub says of their order.

// advanceSeq notes a place of the room's sequence; false when it was seen before. Places
// that are passed over may still come: a Commit from the room log overtakes what lies in the
// mailbox. Only those of our own never do. People are told of the others as a gap, unless
// they may be our own too, or lie before a place up to which they have been told already.
func (b *batch) advanceSeq(r *room, seq uint64) bool {
	if seq <= r.Seq {
		return false
	}
	if r.Seq > 0 && seq > r.Seq+1 {
		passed := b.notOwn(r, r.Seq+1, seq-1)
		if missing := after(passed, r.Told); len(missing) > 0 && !b.ownToCome(r) {
			s := b.d.ofRoom(r, "gap", gapText(missing))
			s.Seq = seq
			b.show(s)
		}
		holes := append(r.Holes[:len(r.Holes):len(r.Holes)], passed...)
		r.Holes = holes[max(0, len(holes)-maxHoles):]
	}
	r.Seq = seq
	b.touch(r.ID)
	return true
}

// sinceReturn holds the place that a hub has given to this device's return after a restore (Told)
// against an entry of the epochs since: it comes after that place. A hub that names one further
// on would have all that it withholds pass for known.
func (r *room) sinceReturn(epoch, seq uint64) {
	if epoch >= r.state.Epoch() && seq <= r.Told {
		r.Told = 0
	}
}

// after cuts runs of places, first and last, down to what comes after a place.
func after(runs [][2]uint64, place uint64) (out [][2]uint64) {
	for _, run := range runs {
		if run[1] > place {
			out = append(out, [2]uint64{max(run[0], place+1), run[1]})
		}
	}
	return out
}

// gapText says what of a room did not come. A place has a message or a change.
func gapText(runs [][2]uint64) string {
	const most = 4 // that are named
	var n uint64
	var named []string
	for _, run := range runs {
		n += run[1] - run[0] + 1
		switch {
		case len(named) == most:
			named[most-1] = fmt.Sprintf("and others up to %d", run[1])
		case run[0] == run[1]:
			named = append(named, fmt.Sprint(run[0]))
		default:
			named = append(named, fmt.Sprintf("%d to %d", run[0], run[1]))
		}
	}
	what := "messages or changes"
	if n == 1 {
		what = "message or change"
	}
	return fmt.Sprintf("%d %s did not arrive (in the room's order: %s)", n, what, strings.Join(named, ", "))
}

// takePlace notes the place of an entry that has come and cannot be read: people are told that
// it is unreadable, and it is no gap.
func (b *batch) takePlace(x *pb.Deliver) {
	core, err := wire.ParseCore(x.GetEnvelope().GetCore())
	if err != nil || x.Envelope.Seq == 0 {
		return
	}
	r := b.room(wire.RoomID(core.Room))
	if r == nil || r.state == nil || core.Generation != r.Generation {
		return
	}
	if b.advanceSeq(r, x.Envelope.Seq) {
		b.chain(r, x.Envelope)
	}
}

// delivered reports whether an error of decrypting says that the message was opened before, or
// belongs to an epoch whose keys are gone: a place that repeats then is a repetition.
func delivered(err error) bool {
	var epoch *mls.EpochError
	return errors.Is(err, group.ErrReplay) || errors.As(err, &epoch)
}

// givenTwice tells people that a message that was never opened came in a place that was taken:
// the hub has lost what it has given, or shows two orders. The message itself is shown.
func (b *batch) givenTwice(r *room, env *pb.Envelope) {
	b.show(Shown{Event: "room", State: "forked", Room: r.ID.String(), RoomName: r.Name, Seq: env.Seq, At: b.d.now(),
		Reason: "its hub has given this place to two entries: it was restored from an older copy, or shows others another order: compare the room's code with others (entente room show)"})
}

// forkedThere tells people that the room's hub contradicts, in an entry that our home node has
// refused, what it had said of the room's order. It is the home node's word.
func (b *batch) forkedThere(core *pb.EnvelopeCore) error {
	var body pb.ForkedBody
	r := b.room(wire.RoomID(core.Room))
	if err := proto.Unmarshal(core.Body, &body); err != nil || r == nil || r.Generation != core.Generation {
		return err
	}
	b.show(Shown{Event: "room", State: "forked", Room: r.ID.String(), RoomName: r.Name, Seq: body.Seq, At: b.d.now(),
		Reason: "its hub has sent our node an entry that contradicts the order before it, and which was refused: the hub was restored from an older copy, or shows others another order: compare the room's code with others (entente room show)"})
	return nil
}

// chain holds an entry against the one before it, where we were delivered that one: the
// hub gives every entry the hash of its predecessor (docs/protocol.md 3.4), and two
// that name another order for one place are a fork that people are told of. Entries of
// our own are not delivered to us and leave a hole in what we can check.
func (b *batch) chain(r *room, env *pb.Envelope) {
	b.chainTo(r, env.Seq, env.Previous, wire.IDOf(env.Core), env.AcceptedMs)
}

// chainTo is chain of an entry by its envelope's ID.
func (b *batch) chainTo(r *room, seq uint64, previous []byte, id wire.EnvelopeID, acceptedMs int64) {
	if len(previous) != 32 || seq == 0 {
		return // from the room log of a page that was checked by MLS
	}
	if r.HeadSeq > 0 && r.HeadSeq+1 == seq && !bytes.Equal(r.Head, previous) {
		b.show(Shown{Event: "room", State: "forked", Room: r.ID.String(), RoomName: r.Name, Seq: seq, At: b.d.now(),
			Reason: "its hub names another order than before: compare the room's code with others (entente room show)"})
	}
	head := wire.SequenceHash(r.ID, seq, [32]byte(previous), id, acceptedMs)
	r.Head, r.HeadSeq = head[:], seq
	b.touch(r.ID)
}

// notOwn lists the runs of places, first and last, that are not known to be our own:
// nobody delivers these to us.
func (b *batch) notOwn(r *room, first, last uint64) (runs [][2]uint64) {
	_ = b.d.vault.view(func(t *txn) error {
		for n := first; n <= last; n++ {
			if n-first >= maxPassed {
				runs = append(runs, [2]uint64{n, last})
				return nil
			}
			if b.own[ownEntry{r.ID, n}] {
				continue
			}
			if _, err := t.history(placeKey(r.ID, n)); err == nil {
				continue
			}
			if k := len(runs) - 1; k >= 0 && runs[k][1] == n-1 {
				runs[k][1] = n
			} else {
				runs = append(runs, [2]uint64{n, n})
			}
		}
		return nil
	})
	return runs
}

// ownToCome reports whether something of ours may have a place that we do not know yet: a
// message or a Commit without its answer, or a proposal to leave, whose answer may be lost.
func (b *batch) ownToCome(r *room) bool {
	waiting, err := b.d.waiting() // sequenced perhaps, and the answer is still to come
	for _, o := range waiting {
		if o.Room == r.ID && o.Counter > 0 {
			return true
		}
	}
	return err != nil || r.Committing > 0 || r.Leaving && r.LeaveCounter > 0
}

const (
	// maxHoles bounds the runs of places of a room that a device remembers as passed over;
	// beyond them the oldest is forgotten, and what comes for it later is a repeated place.
	maxHoles = 128
	// maxPassed is how many places are looked at one by one.
	maxPassed = 1_000
)

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
