package device

import (
	"context"
	"errors"

	"github.com/entente-im/entente/wire"
)

// mustCommit reports whether proposals wait that have to be committed before a message is
// encrypted in the room (RFC 9420 §12.4): what somebody proposed to remove shall not read it.
func (r *room) mustCommit() bool { return r.state != nil && !r.Ended && r.state.MustCommit() }

// commitBefore commits in the rooms in which messages wait for that, at once: the random
// wait of commitPending is for those who have nothing to say. Two who do so at the same time
// race, and the hub takes one; the other's messages go out in the epoch of that one. It
// returns whether there is something to encrypt now.
func (l *link) commitBefore(ctx context.Context, waiting []*outgoing) (bool, error) {
	d := l.d
	rooms := make(map[wire.RoomID]bool)
	for _, o := range waiting {
		if o.Core != nil && !o.Accepted {
			return false, nil // counters are taken in order: with its answer
		}
		if r := d.rooms[o.Room]; o.Core == nil && r != nil && d.pending(r) && r.mustCommit() {
			rooms[o.Room] = true
		}
	}
	moved := false
	for id := range rooms {
		epoch := d.rooms[id].state.Epoch()
		err := d.commitRoom(ctx, id)
		if r := d.rooms[id]; err == nil && r.Committing == 0 && r.state.Epoch() == epoch {
			err = d.catchUp(ctx, id) // another's was first
		}
		if err != nil && (temporary(err) || ctx.Err() != nil) {
			return moved, err
		}
		// One room that cannot be committed holds no other up.
		l.held[id] = err
		moved = moved || !d.rooms[id].mustCommit()
	}
	return moved, nil
}

// heldBack reports whether a room's messages wait for a Commit, whether ours is under way,
// and why it could not be made.
func (l *link) heldBack(id wire.RoomID) (held, committing bool, err error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	r := l.d.rooms[id]
	if r == nil {
		return false, false, nil
	}
	if !r.mustCommit() {
		return false, l.d.holdsFormer(r), nil // the hub's proposals are on their way
	}
	if why := l.held[id]; why != nil {
		return true, false, errors.Join(errors.New("device: the room's pending proposals cannot be committed"), why)
	}
	return true, r.Committing > 0, nil
}
