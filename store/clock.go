package store

import (
	"sync"
	"time"
)

// agreedClock follows the wall clock as long as it goes with the time since boot,
// within HoldBound. Otherwise it holds: it goes on from the last good reading by the
// time since boot alone, so that a wrong clock neither destroys mail nor keeps it
// for ever. It never goes back.
type agreedClock struct {
	mu       sync.Mutex
	clock    Clock
	wall     time.Time     // last agreed reading
	boot     time.Duration // of that reading
	held     bool
	heldBoot time.Duration // when the hold began
}

// newAgreedClock starts from the last reading of the store's life before (zero: none).
func newAgreedClock(c Clock, last time.Time, trust bool) *agreedClock {
	a := &agreedClock{clock: c, wall: c.Now(), boot: c.Boot()}
	if off := a.wall.Sub(last); !last.IsZero() && !trust && (off > HoldBound || off < -HoldBound) {
		a.held, a.heldBoot, a.wall = true, a.boot, last
	}
	if a.wall.Before(last) && !trust {
		a.wall = last
	}
	return a
}

// agreed returns the time that deadlines go by.
func (a *agreedClock) agreed() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	wall, boot := a.clock.Now(), a.clock.Boot()
	passed := max(boot-a.boot, 0)
	expected := a.wall.Add(passed)
	off := wall.Sub(expected)
	inside := off <= HoldBound && off >= -HoldBound
	switch {
	case inside:
		a.held = false
	case !a.held:
		a.held, a.heldBoot = true, boot
	case boot-a.heldBoot >= HoldEnds && off > 0:
		a.held, inside = false, true
	}
	if !inside {
		wall = expected
	}
	if wall.After(a.wall) {
		a.wall, a.boot = wall, boot
	} else {
		a.boot = boot // never back: stand still
	}
	return a.wall
}

// isHeld reports whether the wall clock is not followed.
func (a *agreedClock) isHeld() bool {
	a.agreed()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// agree ends a hold: now is the time, by partners or by the operator's word.
func (a *agreedClock) agree(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.After(a.wall) {
		a.wall = now
	}
	a.boot, a.held = a.clock.Boot(), false
}

// AgreeClock ends a hold of the clock (Status.ClockHeld): now is what partners or
// the operator say. A time before the agreed one is not followed.
func (s *Store) AgreeClock(now time.Time) { s.clock.agree(now) }
