package device

import (
	"context"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// An organization that takes questions and lets them run out (30 s each) would hold up all of
// the device's mail, which is taken one after the other: with each room of its own that waits,
// each time that it is tried again. So whoever has not answered in time is not asked again for
// a while; what needs it waits without (docs/protocol.md 6.4).
const (
	slowFrom  = time.Second     // an answer that takes less costs others little
	slowTimes = 4               // as long as it took
	slowMost  = 2 * time.Minute // and no longer
)

// slow are organizations that are not asked before a time.
type slow struct {
	mu    sync.Mutex
	until map[wire.OrganizationID]time.Time
}

type slowKey struct{}

// sparing has the calls under a context spare organizations that do not answer in time.
func (d *Device) sparing(ctx context.Context) context.Context {
	return context.WithValue(ctx, slowKey{}, &d.slow)
}

// askedOf is the organization that a call asks by way of the home node; false: none.
func askedOf(q any) (id wire.OrganizationID, ok bool) {
	var raw []byte
	switch q := q.(type) {
	case interface{ GetHub() []byte }:
		raw = q.GetHub()
	case interface{ GetOrganization() []byte }:
		raw = q.GetOrganization()
	}
	if len(raw) != len(id) {
		return id, false
	}
	return wire.OrganizationID(raw), true
}

// spares returns the refusal of a call that is not made.
func (s *slow) spares(of wire.OrganizationID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := time.Until(s.until[of]); left > 0 {
		st := wire.Status(pb.Code_CODE_UNREACHABLE, "it has not answered in time a moment ago, and is asked again later")
		return &wire.StatusError{Status: wire.Retry(st, left)}
	}
	return nil
}

// answered notes how long an organization took, and whether it was away.
func (s *slow) answered(of wire.OrganizationID, took time.Duration, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, of)
	if !away || took < slowFrom {
		return
	}
	if s.until == nil {
		s.until = make(map[wire.OrganizationID]time.Time)
	}
	s.until[of] = time.Now().Add(min(slowTimes*took, slowMost))
}
