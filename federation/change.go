package federation

import (
	"context"
	"errors"
	"time"
	"unicode"
	"unicode/utf8"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// MaxWhy bounds what an operator notes at a change, in bytes. It stays on this node.
const MaxWhy = 256

// Suspend stops everything with a partner at once, on our side alone: it is answered
// "suspended", its connections are closed, nothing is sent. What waits in the outbox
// is the caller's to drop. Why is the operator's own note and may be empty.
func (f *Federation) Suspend(ctx context.Context, id wire.OrganizationID, why string) error {
	return f.change(ctx, id, why, func(r *partnerRecord) error { return r.suspend(f.clock.Now()) })
}

// Expel is Suspend with the partner's devices taken out of our rooms at once, and not after
// wire.RemovalDelay: Removals lists it from now on.
func (f *Federation) Expel(ctx context.Context, id wire.OrganizationID, why string) error {
	return f.change(ctx, id, why, func(r *partnerRecord) error {
		r.Remove = true
		return r.suspend(f.clock.Now())
	})
}

// Resume undoes Suspend. Who was taken out of a room meanwhile stays out.
func (f *Federation) Resume(ctx context.Context, id wire.OrganizationID, why string) error {
	return f.change(ctx, id, why, func(r *partnerRecord) error { return r.resume() })
}

// End ends the agreement for good: the partner's peer is a stranger from now on. A
// new agreement can be made with a new token.
func (f *Federation) End(ctx context.Context, id wire.OrganizationID, why string) error {
	return f.change(ctx, id, why, func(r *partnerRecord) error {
		r.Ended = true
		return nil
	})
}

// change writes a partner's new state and then brings it about. When it returns nil,
// the state is on stable storage and no connection is left that it does not allow.
// Repeating it is a success; an agreement that has ended stays as it is.
func (f *Federation) change(ctx context.Context, id wire.OrganizationID, why string, with func(*partnerRecord) error) error {
	if err := CheckWhy(why); err != nil {
		return err
	}
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	stopped, err := f.changeRecord(ctx, p, why, with)
	if err != nil || stopped == nil {
		return err
	}
	<-stopped
	p.dropLinks()
	if p.deals() { // in quarantine, or out of it: both sides say hello anew
		f.startWorker(p)
		return nil
	}
	f.host.Network().ClosePeer(p.standing().peer) // a gater closes nothing that is open
	return nil
}

// changeRecord writes the new state and starts or stops the worker; then stopped is
// closed when it has ended.
func (f *Federation) changeRecord(ctx context.Context, p *partner, why string, with func(*partnerRecord) error) (stopped <-chan struct{}, err error) {
	f.making.Lock()
	defer f.making.Unlock()
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	before := rec
	if err := with(&rec); err != nil {
		return nil, err
	}
	if rec.Suspended != before.Suspended || rec.Ended != before.Ended || rec.Quarantined != before.Quarantined || rec.Remove != before.Remove {
		last := rec.changedAt()
		if rec.Why, rec.Changed = why, f.clock.Now().UTC(); !rec.Changed.After(last) { // the clock went back
			rec.Changed = last.Add(time.Millisecond)
		}
		if err := f.put(ctx, partnerKey(p.id), rec); err != nil {
			return nil, err
		}
	}
	if _, err := f.install(p.id, rec, p.standing()); err != nil {
		return nil, err
	}
	if !rec.Suspended && !rec.Ended && rec.Quarantined == before.Quarantined {
		f.startWorker(p)
		return nil, nil
	}
	return p.stopWorker(), nil
}

// suspend keeps the time of the first of several suspensions in a row.
func (r *partnerRecord) suspend(now time.Time) error {
	if r.Ended {
		return errEnded()
	}
	if !r.Suspended {
		r.Suspended, r.SuspendedAt = true, now.UTC()
	}
	return nil
}

func (r *partnerRecord) resume() error {
	if r.Ended {
		return errEnded()
	}
	r.Suspended, r.SuspendedAt, r.Remove = false, time.Time{}, false
	return nil
}

// CheckWhy refuses an operator's note that is too long, or more than a line of printable text.
func CheckWhy(why string) error {
	if len(why) > MaxWhy || !utf8.ValidString(why) {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a reason is at most %d bytes of text", MaxWhy)
	}
	for _, r := range why {
		if !unicode.IsPrint(r) {
			return wire.Refuse(pb.Code_CODE_MALFORMED, "a reason is one line of printable text")
		}
	}
	return nil
}

// Takes returns the agreement under which an organization takes messages now. Beside
// what InForce refuses, it refuses as suspended while the partner's last word was
// that its side has suspended the agreement; its next word ends that.
func (f *Federation) Takes(id wire.OrganizationID, now time.Time) (*identity.Agreement, error) {
	p := f.find(id)
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	a, err := p.inForce(now)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link.refused == pb.Code_CODE_SUSPENDED {
		return nil, wire.Refuse(pb.Code_CODE_SUSPENDED, "%s has suspended the agreement", p.terms.org.Manifest.Name)
	}
	return a, nil
}

// heed takes a partner's refusal of the whole link to heart: who has suspended the
// agreement will never get what waits (docs/protocol.md 5.6). An error is logged: the
// next attempt is refused again.
func (f *Federation) heed(ctx context.Context, p *partner, err error) {
	var refusal *wire.StatusError
	if !errors.As(err, &refusal) || wire.ClassOf(refusal.Status.Code) != wire.Policy {
		return
	}
	p.mu.Lock()
	p.link.refused = refusal.Status.Code
	p.mu.Unlock()
	f.answered(ctx, p)
	if refusal.Status.Code != pb.Code_CODE_SUSPENDED {
		return
	}
	status := wire.Status(pb.Code_CODE_SUSPENDED, "")
	if err := f.opts.Outbox.Refuse(ctx, p.id, status); err != nil && ctx.Err() == nil {
		f.log.Error("what waits for a partner that has suspended us stays for now", "partner", p.id.String(), "error", err.Error())
	}
}
