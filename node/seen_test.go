package node

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func TestADeviceThatStaysAwayIsProposedForRemoval(t *testing.T) {
	acme := newSite(t, "acme.example")
	alice := acme.client("alice")
	acme.halt()
	clock := &movedClock{began: time.Now()}
	acme.startWith(Options{Clock: clock}, func(*Config) {})
	visit := func() (seen time.Time, idle bool) {
		t.Helper()
		list, err := acme.visits(alice.member)
		must(t, err)
		if len(list) != 1 || wire.DeviceID(list[0].Device) != alice.id {
			t.Fatalf("%d visits", len(list))
		}
		return time.Unix(list[0].SeenUnix, 0), list[0].Idle
	}
	day := func(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }
	if seen, idle := visit(); idle || !seen.Equal(day(time.Now())) {
		t.Errorf("before its first visit: %s, %v", seen, idle)
	}
	clock.move(wire.DeviceIdle + 24*time.Hour)
	if _, idle := visit(); !idle || acme.idleDevices() != 1 {
		t.Errorf("31 days after its certificate: idle %v, %d in all", idle, acme.idleDevices())
	}
	_, err := acme.openSession(t.Context(), alice.id)
	must(t, err)
	if seen, idle := visit(); idle || !seen.Equal(day(clock.Now())) {
		t.Errorf("after a visit: %s, %v", seen, idle)
	}
	clock.move(wire.DeviceIdle + 24*time.Hour)
	if _, idle := visit(); !idle {
		t.Error("31 days after its visit it is not idle")
	}
	clock.move(-2 * 24 * time.Hour)
	if _, idle := visit(); idle {
		t.Error("29 days after its visit it is idle")
	}
}

// movedClock is a node's clock that a test moves.
type movedClock struct {
	began time.Time
	ahead atomic.Int64 // time.Duration
}

func (c *movedClock) Now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *movedClock) Boot() time.Duration  { return time.Since(c.began) }
func (c *movedClock) move(d time.Duration) { c.ahead.Add(int64(d)) }
