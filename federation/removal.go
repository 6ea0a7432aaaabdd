package federation

import (
	"time"

	"github.com/entente-im/entente/wire"
)

// Removal says why, and since when, the devices of a partner are to be taken out of the rooms
// that we order: docs/protocol.md 5.6.
type Removal struct {
	Partner   wire.OrganizationID
	Agreement [32]byte // SHA-256 of its text
	Reason    string   // suspended, ended or expired
	Since     time.Time
}

// Removals lists the partners whose devices are to leave our rooms now: those suspended for
// wire.RemovalDelay or with Expel, and those whose agreement has ended or expired.
func (f *Federation) Removals(now time.Time) []Removal {
	var out []Removal
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.partners { // asked with every Commit: in no order
		p.mu.Lock()
		since, reason := p.removalLocked(now)
		if reason != "" && !now.Before(since) {
			out = append(out, Removal{Partner: p.id, Agreement: p.terms.digest, Reason: reason, Since: since})
		}
		p.mu.Unlock()
	}
	return out
}

// removalLocked tells from when on the partner's devices are taken out, and why; an empty
// reason: they are not. p.mu is held.
func (p *partner) removalLocked(now time.Time) (since time.Time, reason string) {
	r, until := p.record, p.terms.agreement.Terms.ValidUntil
	if r.Ended {
		return r.Changed, "ended"
	}
	if r.Suspended {
		since, reason = r.SuspendedAt, "suspended"
		if since.IsZero() {
			since = r.Changed
		}
		if !r.Remove {
			since = since.Add(wire.RemovalDelay)
		}
	}
	if !now.Before(until) && (reason == "" || until.Before(since)) {
		return until, "expired"
	}
	return since, reason
}
