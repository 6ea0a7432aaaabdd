package node

import (
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	"golang.org/x/time/rate"
)

// rates bound how fast each device of ours may submit (docs/protocol.md 9). The
// table holds enrolled devices only, so it is bounded by the directory.
type rates struct {
	limit rate.Limit
	burst int
	mu    sync.Mutex
	by    map[wire.DeviceID]*rate.Limiter
}

func newRates(c LimitConfig) *rates {
	return &rates{limit: rate.Limit(c.DeviceRate), burst: c.DeviceBurst, by: make(map[wire.DeviceID]*rate.Limiter)}
}

// device takes one from a device's allowance, or says how long to wait for one.
func (r *rates) device(id wire.DeviceID) (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.by[id]
	if l == nil {
		l = rate.NewLimiter(r.limit, r.burst)
		r.by[id] = l
	}
	reservation := l.Reserve()
	if wait := reservation.Delay(); wait > 0 {
		reservation.Cancel()
		return wait, false
	}
	return 0, true
}
