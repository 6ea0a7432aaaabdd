package federation

import (
	"sync"
	"time"
)

// bucket is a token bucket that may go into debt: what is larger than the burst
// passes when the bucket is not empty, and is paid off before anything else does.
type bucket struct {
	mu    sync.Mutex
	rate  float64 // per second
	burst float64
	level float64
	last  time.Time
}

func newBucket(rate, burst float64) *bucket {
	return &bucket{rate: rate, burst: burst, level: burst}
}

// take takes n and answers 0, or takes nothing and answers how long to wait.
func (b *bucket) take(now time.Time, n float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.IsZero() && now.After(b.last) {
		b.level = min(b.burst, b.level+b.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.level <= 0 || b.level < n && n <= b.burst {
		need := min(n, b.burst) - b.level
		return time.Duration(need / b.rate * float64(time.Second))
	}
	b.level -= n
	return 0
}

// full reports whether a bucket has all that it can hold, as a new one has.
func (b *bucket) full(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.level+b.rate*now.Sub(b.last).Seconds() >= b.burst
}
