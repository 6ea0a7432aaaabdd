package device

import (
	"errors"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What ended before anybody could read it is no message any more and yet one that somebody
// has sent: people are told that there was one, and its sender that it expired (P2).

// errEnded is a message that ended before it came: it is acknowledged as expired.
var errEnded = errors.New("device: a message that ended before it came")

// ended reports whether a message's own end has passed.
func (m *message) ended(now int64) bool {
	return m.Expires.Seconds > 0 && !m.Expires.Relative && m.Expires.Seconds <= now || m.Expires.Until > 0 && m.Expires.Until <= now || m.File != nil && m.File.Expires <= now
}

// tooLate notes a message that ended before it came, without what it said.
func (b *batch) tooLate(r *room, from memberKey, m message, s Shown) {
	if from == b.d.ownKey() || m.Replaces != nil || m.Reaction {
		return
	}
	s.Event, s.Text, s.File = "expired", "", nil
	b.writes = append(b.writes, func(t *txn) error {
		if _, err := t.history(seenKey(m.ID)); err == nil {
			return nil
		}
		return errors.Join(t.remember(m.ID, from, r.ID, 0), t.show(s))
	})
}

// endedThere takes a place of a room whose message the node hands out no more: the room's
// order goes on over it.
func (b *batch) endedThere(e *pb.Ended) error {
	r := b.room(wire.RoomID(e.Room))
	if r == nil || r.state == nil || e.Generation != r.Generation {
		return errEnded
	}
	switch {
	case b.advanceSeq(r, e.Seq):
		if len(e.EnvelopeId) == 32 {
			b.chainTo(r, e.Seq, e.Previous, wire.EnvelopeID(e.EnvelopeId), e.AcceptedMs)
		}
	case !r.fill(e.Seq):
		return errEnded // a repeated place
	}
	s := Shown{Event: "expired", Room: r.ID.String(), RoomName: r.Name, Seq: e.Seq, At: time.UnixMilli(e.AcceptedMs)}
	if r.Peer != (memberKey{}) {
		if b.d.hides(r, r.Peer) {
			b.hide(r, r.Peer)
			return errEnded
		}
		s.From = b.d.nameOf(r.Peer)
	}
	b.show(s)
	return errEnded
}
