package device

import (
	"encoding/json"
	"errors"

	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// Two members who write to each other at once make two rooms. The smaller room ID wins
// (FORMATS, Identifiers; docs/protocol.md 7.19): people see one room, what was said in the
// other is shown as of the one that wins, and the other is left when nothing of ours waits
// there. The list of rooms decides, so restarts and races change nothing: what was not done
// by one visit is done by the next.

// merged returns the room of two that a room has been merged into, nil when it stands
// for itself.
func (d *Device) merged(r *room) *room {
	if r == nil || r.Peer == (memberKey{}) || r.Creating != nil || r.state == nil {
		return nil
	}
	if r.Ended || r.Leaving {
		if r.Into == (wire.RoomID{}) || r.Into == r.ID {
			return nil
		}
		return d.rooms[r.Into]
	}
	best := d.roomWith(r.Peer)
	switch {
	case best != nil && best.ID != r.ID:
		return best
	case r.Into != r.ID && !r.holds(r.Peer):
		return d.rooms[r.Into] // both were left, the one that wins first
	}
	return nil
}

// remember notes which rooms are merged into which, for when the other member has left both.
// A room that people go on in, since only the other one was left, stands for itself again.
func (d *Device) remember() error {
	for id, r := range d.rooms {
		if r.Peer == (memberKey{}) || r.Ended || r.Leaving || r.state == nil {
			continue
		}
		into := r.Into
		if w := d.merged(r); w != nil {
			into = w.ID
		} else if len(r.state.Public().PendingRefs()) == 0 {
			into = wire.RoomID{}
		}
		if into != r.Into {
			if err := d.alter(id, func(c *room) { c.Into = into }); err != nil {
				return err
			}
		}
	}
	return nil
}

// view is the room that stands for one in listings and for what is said next.
func (d *Device) view(id wire.RoomID) wire.RoomID {
	for range len(d.rooms) { // each step leads to another room
		w := d.merged(d.rooms[id])
		if w == nil {
			break
		}
		id = w.ID
	}
	return id
}

// sameView reports whether two rooms are one for people.
func (d *Device) sameView(a, b wire.RoomID) bool { return a == b || d.view(a) == d.view(b) }

// viewText is view of a room ID in text.
func (d *Device) viewText(id string) string {
	if room, err := wire.ParseRoomID(id); err == nil {
		return d.view(room).String()
	}
	return id
}

// asViewed makes a room's ID that of its view. A place in a room that was merged is none in
// the one that it was merged into: it is not told.
func (d *Device) asViewed(room *string, seq *uint64) {
	if v := d.viewText(*room); v != *room {
		*room, *seq = v, 0
	}
}

// mergePairs brings what waits in rooms that are merged into the ones that win, and begins
// to leave them; d.mu is held.
func (d *Device) mergePairs() error {
	if err := d.remember(); err != nil {
		return err
	}
	var due []*room
	for _, r := range d.rooms {
		if d.merged(r) != nil {
			due = append(due, r)
		}
	}
	if len(due) == 0 {
		return nil
	}
	waiting, err := d.waiting()
	if err != nil {
		return err
	}
	for _, r := range due { // also those left by another device of ours: what waits here goes on
		into := d.rooms[d.view(r.ID)]
		err := d.vault.update(func(t *txn) error { return d.moveWaiting(t, waiting, r, into) })
		if err != nil {
			return err
		}
		if r.Ended || r.Leaving {
			continue
		}
		if err := d.leaveMerged(r, into); err != nil {
			return err
		}
	}
	return nil
}

// leaveMerged begins to leave a room that nothing of ours waits in any more. Of the two
// members that one leaves whom the other has invited into the room that wins: it knows
// that both are there, and the other, who commits the removal, does not leave as well.
func (d *Device) leaveMerged(r, into *room) error {
	waiting, err := d.waiting()
	if err != nil {
		return err
	}
	for _, o := range waiting {
		if o.Room == r.ID {
			return nil
		}
	}
	c := *r
	switch c.Into = into.ID; {
	case !r.holds(r.Peer):
		c.Ended = true // the other has left it
	case into.Invited && r.Committing == 0 && r.Stopped == "" && !r.stalled() && !into.stalled() && r.within(into):
		c.Leaving = true
	default:
		return nil
	}
	err = d.vault.update(func(t *txn) error { return c.save(t) })
	if err == nil {
		d.rooms[r.ID] = &c
	}
	return err
}

// within reports whether all devices of a room are in another one too.
func (r *room) within(other *room) bool {
	in := make(map[wire.DeviceID]bool)
	for _, m := range other.state.Members() {
		if c, err := policy.CredentialOf(m.Node); err == nil {
			in[c.Device] = true
		}
	}
	for _, m := range r.state.Members() {
		if c, err := policy.CredentialOf(m.Node); err != nil || !in[c.Device] {
			return false
		}
	}
	return true
}

// moveWaiting makes the messages that wait in one room, and are not under way, messages
// of another. The room is part of a message's ID (docs/protocol.md 7.4), so they get new
// ones, and what refers to one of them follows.
func (d *Device) moveWaiting(t *txn, waiting []*outgoing, from, into *room) error {
	own := wire.MemberURI(d.account.Organization, d.account.Member)
	now := make(map[MessageID]MessageID)
	for _, o := range waiting {
		if o.Room != from.ID || o.Core != nil {
			continue
		}
		m, err := parseContent(own, wire.RoomURI(from.Hub, from.ID), o.Content)
		if err != nil {
			return err
		}
		for _, ref := range []*MessageID{m.Replaces, m.ReplyTo} {
			if ref == nil {
				continue
			}
			if id, ok := now[*ref]; ok {
				*ref = id
			}
		}
		n := *o
		if n.Content, n.ID, err = newContent(own, wire.RoomURI(into.Hub, into.ID), m); err != nil {
			return err
		}
		n.Room, n.Counter, n.Epoch, n.Accepted = into.ID, 0, 0, false
		now[o.ID] = n.ID
		if err := errors.Join(t.deleteState(append([]byte(outPrefix), o.ID[:]...)), n.save(t), t.moveSent(o.ID, n.ID, into.ID)); err != nil {
			return err
		}
	}
	return nil
}

func movedKey(id MessageID) []byte { return append([]byte("mv/"), id[:]...) }

// moveSent gives what is known of a sent message another ID and room, and notes where it
// is, for whoever waits for it.
func (t *txn) moveSent(from, to MessageID, room wire.RoomID) error {
	raw, err := t.history(sentKey(from))
	if errors.Is(err, errNoRecord) {
		return nil // about the room itself
	}
	var s Sent
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return err
	}
	if text, err := t.state(expiringKey(from)); err == nil {
		if err := errors.Join(t.putState(expiringKey(to), text), t.deleteState(expiringKey(from))); err != nil {
			return err
		}
	}
	s.ID, s.Room = to.String(), room.String()
	if _, err := t.changeSent(to, func(x *Sent) { *x = s }); err != nil {
		return err
	}
	return errors.Join(t.tx.Bucket(historyBucket).Delete(sentKey(from)), t.putHistory(movedKey(from), s.At.Add(HistoryLife), to[:]))
}

// sentAs is the ID that a message has now.
func (t *txn) sentAs(id MessageID) MessageID {
	for range maxMoves {
		raw, err := t.history(movedKey(id))
		if err != nil || len(raw) != len(id) {
			break
		}
		id = MessageID(raw)
	}
	return id
}

// maxMoves bounds how often a message is followed to another room.
const maxMoves = 8

// reviveLeaving has proposals to leave that the node never had made again; mark is the
// highest counter that it had.
func (d *Device) reviveLeaving(mark uint64) error {
	for id, r := range d.rooms {
		if !r.Leaving || r.Ended || r.LeaveCounter <= mark {
			continue
		}
		c := *r
		c.LeaveEpoch, c.LeaveCounter = 0, 0
		if err := d.vault.update(func(t *txn) error { return c.save(t) }); err != nil {
			return err
		}
		d.rooms[id] = &c
	}
	return nil
}
