package device

import (
	"context"
	"time"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// change makes a Commit in a room and waits until the hub has taken it. When another
// was first, the change is made again from what holds then. A hub elsewhere that does
// not answer in time leaves it standing: it takes effect when the answer comes.
func (s *Sender) change(ctx context.Context, id wire.RoomID, build func(*room) (group.CommitParams, error)) error {
	l := s.l
	for range maxAttempts {
		if err := l.handedOver(ctx); err != nil {
			return err
		}
		if err := l.awaitEarlier(ctx, id); err != nil {
			return err
		}
		counter, err := l.startChange(ctx, id, build)
		if err != nil {
			return err
		}
		st, err := l.awaitOutcome(ctx, id, counter)
		if err != nil {
			return err
		}
		switch st.Code {
		case pb.Code_CODE_SEQUENCED:
			return l.handedOver(ctx) // with the room's name, for who is new
		case pb.Code_CODE_WRONG_EPOCH:
			l.d.mu.Lock()
			err = l.d.catchUp(ctx, id)
			l.d.mu.Unlock()
			if err != nil {
				return err
			}
		default:
			return wire.Err(st)
		}
	}
	return wire.Refuse(pb.Code_CODE_WRONG_EPOCH, "the room moved on %d times: try again", maxAttempts)
}

// PendingError is a change of a room that stands at the home node, and that the room's hub
// has not answered: it takes effect when it does, and nobody has to do anything.
type PendingError struct{ why string }

func (e *PendingError) Error() string { return e.why }

// handedOver submits what waits and returns when the node has answered all of it:
// submissions are taken in the order of their counters.
func (l *link) handedOver(ctx context.Context) error {
	if err := l.submitWaiting(ctx); err != nil {
		return err
	}
	for {
		open, err := l.d.unanswered()
		if err != nil || !open {
			return err
		}
		if err := l.pause(ctx, time.Now().Add(time.Minute)); err != nil {
			return err
		}
	}
}

// awaitEarlier waits a while for the answer to a Commit that was made before.
func (l *link) awaitEarlier(ctx context.Context, id wire.RoomID) error {
	for patience := time.Now().Add(DefaultWait); time.Now().Before(patience); {
		l.d.mu.Lock()
		r := l.d.rooms[id]
		open := r != nil && (r.Committing > 0 || r.Resyncing)
		l.d.mu.Unlock()
		if !open {
			return nil
		}
		if err := l.pause(ctx, patience); err != nil {
			return err
		}
	}
	return nil
}

// unanswered reports whether a submission is on its way to the home node.
func (d *Device) unanswered() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting, err := d.waiting()
	for _, o := range waiting {
		if o.Core != nil && !o.Accepted {
			return true, err
		}
	}
	return false, err
}

// pause waits until something was settled, or until then.
func (l *link) pause(ctx context.Context, then time.Time) error {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.settled:
			return nil
		case <-timer.C:
			return nil
		case why := <-l.trouble:
			if final(why) {
				return why
			}
		case err := <-l.ended:
			l.ended <- err
			return err
		}
	}
}

func (l *link) startChange(ctx context.Context, id wire.RoomID, build func(*room) (group.CommitParams, error)) (uint64, error) {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	switch {
	case r == nil || r.state == nil || r.Ended:
		return 0, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	case r.Stopped != "":
		return 0, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s", r.Stopped)
	case d.waitsIn(id):
		return 0, wire.Refuse(pb.Code_CODE_UNREACHABLE, waitsReason)
	case r.Committing > 0 || r.stalled() || r.Creating != nil:
		return 0, wire.Refuse(pb.Code_CODE_UNREACHABLE, "an earlier change of the room waits for its hub: try again later")
	}
	c := *r
	p, err := build(&c)
	if err != nil {
		return 0, err
	}
	if c.Announce && !r.Announce {
		if err := d.vault.update(func(t *txn) error { return c.save(t) }); err != nil {
			return 0, err
		}
		d.rooms[id] = &c
	}
	return d.commitWith(ctx, id, p)
}

// awaitOutcome waits for the hub's answer to our Commit.
func (l *link) awaitOutcome(ctx context.Context, id wire.RoomID, counter uint64) (*pb.Status, error) {
	patience := time.Now().Add(DefaultWait)
	for {
		l.d.mu.Lock()
		st := l.d.outcome(counter)
		r := l.d.rooms[id]
		waits := r != nil && r.Committing == counter
		l.d.mu.Unlock()
		switch {
		case st != nil:
			return st, nil
		case !waits: // another Commit was applied instead
			return wire.Status(pb.Code_CODE_WRONG_EPOCH, ""), nil
		case !time.Now().Before(patience):
			return nil, &PendingError{l.d.hubAway(id)}
		}
		if err := l.pause(ctx, patience); err != nil {
			return nil, err
		}
	}
}
