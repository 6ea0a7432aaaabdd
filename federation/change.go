package federation

import (
	"context"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// Suspend stops everything with a partner at once, on our side alone: it is answered
// "suspended", its connections are closed, nothing is sent. What waits in the outbox
// is the caller's to drop.
func (f *Federation) Suspend(ctx context.Context, id wire.OrganizationID) error {
	return f.change(ctx, id, func(r *partnerRecord) { r.Suspended = true })
}

// Resume undoes Suspend; an agreement that was ended stays so.
func (f *Federation) Resume(ctx context.Context, id wire.OrganizationID) error {
	return f.change(ctx, id, func(r *partnerRecord) { r.Suspended = false })
}

// End ends the agreement for good: the partner's peer is a stranger from now on. A
// new agreement can be made with a new token.
func (f *Federation) End(ctx context.Context, id wire.OrganizationID) error {
	return f.change(ctx, id, func(r *partnerRecord) { r.Ended = true })
}

// change writes a partner's new state and then brings it about. When it returns,
// no connection is left that the new state does not allow.
func (f *Federation) change(ctx context.Context, id wire.OrganizationID, with func(*partnerRecord)) error {
	f.making.Lock()
	defer f.making.Unlock()
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	with(&rec)
	if err := f.put(ctx, partnerKey(id), rec); err != nil {
		return err
	}
	st := p.standing()
	if _, err := f.install(id, rec, st); err != nil {
		return err
	}
	if !rec.Suspended && !rec.Ended {
		f.startWorker(p)
		return nil
	}
	p.stopWorker()
	p.dropLinks()
	f.host.Network().ClosePeer(st.peer) // a gater closes nothing that is open
	return nil
}
