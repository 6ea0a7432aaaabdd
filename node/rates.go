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

// resyncs remembers when devices came back into rooms by external Commit, so that nobody
// keeps a room busy with Commits. A device comes back once per room and hour, and once more
// when it was restored from a copy of its files meanwhile, which a hub cannot see
// (docs/protocol.md 7.3). It starts anew with the process.
type resyncs struct {
	mu    sync.Mutex
	last  map[resyncKey][wire.ResyncBurst]time.Time // the newest first
	swept time.Time
}

type resyncKey struct {
	room   wire.RoomID
	device wire.DeviceID
}

// maxResyncs is when entries older than their hour are swept. A device has one entry
// for each room that it is in, so the table is bounded by the rooms of an hour.
const maxResyncs = 10_000

func newResyncs() *resyncs { return &resyncs{last: make(map[resyncKey][wire.ResyncBurst]time.Time)} }

// early is how long a device has to wait until it may come back into a room.
func (r *resyncs) early(room wire.RoomID, device wire.DeviceID, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.last[resyncKey{room, device}][wire.ResyncBurst-1]
	return wire.ResyncPerRoom - now.Sub(oldest)
}

func (r *resyncs) note(room wire.RoomID, device wire.DeviceID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.last) >= maxResyncs && now.Sub(r.swept) >= time.Minute {
		r.swept = now
		for k, at := range r.last {
			if now.Sub(at[0]) >= wire.ResyncPerRoom {
				delete(r.last, k)
			}
		}
	}
	k := resyncKey{room, device}
	r.last[k] = [wire.ResyncBurst]time.Time{now, r.last[k][0]}
}
