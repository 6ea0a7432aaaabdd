package federation

import (
	"context"

	"github.com/entente-im/entente/wire"
)

// Quarantine holds the messages of both directions back, at once and on our side alone,
// until Release: those for the partner stay in our outbox, its own are answered
// "quarantined" and stay in its outbox, until their deadlines. Handshakes and control
// pass, so that rooms still fit together afterwards. Suspending or ending the agreement
// drops what is held (docs/protocol.md 5.7).
func (f *Federation) Quarantine(ctx context.Context, id wire.OrganizationID, why string) error {
	return f.change(ctx, id, why, func(r *partnerRecord) error { return r.quarantine(true) })
}

// Release undoes Quarantine: what is held passes now, each message that has not expired.
func (f *Federation) Release(ctx context.Context, id wire.OrganizationID, why string) error {
	return f.change(ctx, id, why, func(r *partnerRecord) error { return r.quarantine(false) })
}

func (r *partnerRecord) quarantine(on bool) error {
	if r.Ended {
		return errEnded()
	}
	r.Quarantined = on
	return nil
}

// quarantined reports whether we hold messages of and for the partner back.
func (p *partner) quarantined() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record.Quarantined
}

// deals reports whether our side deals with the partner at all.
func (p *partner) deals() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.record.Suspended && !p.record.Ended
}

// holds notes that the partner holds our messages back, or does no more.
func (p *partner) holds(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link.holds = on
}

// holding notes that the partner holds its own messages to us back, or does no more.
func (p *partner) holding(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link.holding = on
}

// HoldsBack reports whether messages from an organization may come later than what
// followed them in their rooms: one side has the other in quarantine.
func (f *Federation) HoldsBack(id wire.OrganizationID) bool {
	p := f.find(id)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record.Quarantined || p.link.holding
}
