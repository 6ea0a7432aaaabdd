package node

import (
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// aheadClock is a machine's clock that has jumped.
type aheadClock struct {
	by    time.Duration
	began time.Time
}

func (c aheadClock) Now() time.Time      { return time.Now().Add(c.by) }
func (c aheadClock) Boot() time.Duration { return time.Since(c.began) }

// startAhead runs the node on a clock that is ahead of what its store has seen.
func (s *site) startAhead(by time.Duration) {
	s.t.Helper()
	s.startWith(Options{Clock: aheadClock{by, time.Now()}}, func(c *Config) { c.TrustClock = false })
}

func TestANodeWhoseClockHasJumpedTakesNothingThatItCouldNotDestroyInTime(t *testing.T) {
	w := newWorld(t)
	w.acme.halt()
	w.acme.startAhead(40 * 24 * time.Hour)
	if !w.acme.store.Status().ClockHeld {
		t.Fatal("a jump of 40 days is followed")
	}
	later := func(c *pb.EnvelopeCore) { c.Deadline = time.Now().Add(40*24*time.Hour + time.Hour).Unix() }
	st := w.bob.submit(w.bob.message(w.room, "x", later))
	if st.Code != pb.Code_CODE_CLOCK_SUSPECT || wire.ClassOf(st.Code) != wire.Temporary {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	// Its operator has looked, and nothing of the world before was destroyed meanwhile.
	w.acme.halt()
	w.acme.start()
	if st := w.bob.submit(w.bob.message(w.room, "y")); wire.ClassOf(st.Code) != wire.Success {
		t.Errorf("afterwards: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}
