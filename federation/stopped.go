package federation

import (
	"errors"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// A node that is restored from a backup has lost that its operator suspended a partner since,
// or put it in quarantine, and traffic would flow again. The partner was told so, with the time
// (DeliverWelcome), keeps that, and says it when the restored node asks what is in force
// (docs/protocol.md 5.8). Who claims falsely that it was stopped stops itself alone; nothing
// that a partner says ends a stop.

// changedAt is when the operator changed the partner's state last, or the agreement was made.
func (r *partnerRecord) changedAt() time.Time {
	if r.Since.After(r.Changed) {
		return r.Since
	}
	return r.Changed
}

func (p *partner) changedMs() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record.changedAt().UnixMilli()
}

// heardStop notes how the partner has stopped us, by its welcome.
func (p *partner) heardStop(w *pb.DeliverWelcome) {
	state := ""
	switch {
	case w.Status.GetCode() == pb.Code_CODE_SUSPENDED:
		state = wire.AgreementSuspended
	case w.Status.GetCode() != pb.Code_CODE_OK:
		return
	case w.Quarantined:
		state = wire.AgreementQuarantined
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.ChangedMs >= p.link.stoppedMs {
		p.link.stopped, p.link.stoppedMs = state, w.ChangedMs
	}
}

// stopAgain stops a partner that says that it was stopped later than we have changed anything.
// The change ends the worker, which may have asked, so it is made beside it.
func (f *Federation) stopAgain(p *partner, a *pb.AmendAnswer) {
	state, at := a.GetStopped(), time.UnixMilli(a.GetStoppedMs())
	rec, _ := p.recorded()
	lost := state == wire.AgreementSuspended && !rec.Suspended || state == wire.AgreementQuarantined && !rec.Quarantined
	if !lost || rec.Ended || at.UnixMilli() <= rec.changedAt().UnixMilli() {
		return
	}
	f.running.Go(func() {
		err := f.change(f.ctx, p.id, "again, as the partner was told before this node was restored", func(r *partnerRecord) error {
			if r.changedAt().UnixMilli() >= at.UnixMilli() {
				return errOvertaken
			}
			r.Changed = at.UTC() // nothing of now is before it
			if state == wire.AgreementSuspended {
				return r.suspend(earlier(at, f.clock.Now()))
			}
			return r.quarantine(true)
		})
		switch {
		case errors.Is(err, errOvertaken): // by its own word, which came twice, or by the operator
			f.log.Debug("a partner's word that it was stopped adds nothing", "partner", p.id.String(), "state", state)
		case err == nil:
			f.opts.StoppedAgain(p.id, state, at)
		case f.ctx.Err() == nil:
			f.log.Error("a partner that says that it was stopped is not stopped again", "partner", p.id.String(), "state", state, "error", err.Error())
		}
	})
}

var errOvertaken = wire.Refuse(pb.Code_CODE_EXISTS, "the partner's state was changed meanwhile, or its word came before")

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
