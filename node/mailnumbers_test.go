package node

import (
	"testing"
	"time"
)

func TestNumbersOfDeliveriesAreUnderstoodAcrossStartsAndNeverGivenTwice(t *testing.T) {
	s := newSite(t, "acme.example")
	last := uint64(s.store.Status().LSN)
	first := s.mailed
	given := first.out(last)
	if first.in(given) != last || first.in(given-1) != last-1 {
		t.Errorf("%d is given as %d and understood as %d", last, given, first.in(given))
	}
	second, err := openMailNumbers(s.store, time.Now)
	must(t, err)
	if second.in(given) != last {
		t.Errorf("after a start %d is understood as %d", last, second.in(given))
	}
	if second.out(1) <= given {
		t.Error("a number is given twice")
	}
	// What a start has given that this folder knows nothing of, as after a restore.
	if got := second.in(given + 1<<20); got != 0 {
		t.Errorf("a number of an unknown start acknowledges up to %d", got)
	}
	ahead := uint64(time.Now().Add(time.Hour).UnixNano())
	if got := second.in(ahead); got != 0 || second.out(1) <= ahead {
		t.Errorf("a device ahead of us acknowledges %d, and the next number is %d", got, second.out(1))
	}
	if before := second.out(1); second.in(^uint64(0)) != 0 || second.out(1) != before {
		t.Error("a device has used up the numbers")
	}
}

func TestOnlyTheLastStartsAreRemembered(t *testing.T) {
	s := newSite(t, "acme.example")
	var m *mailNumbers
	var err error
	for range maxMailBases + 5 {
		m, err = openMailNumbers(s.store, time.Now)
		must(t, err)
	}
	if len(m.bases) != maxMailBases+1 {
		t.Errorf("%d starts are remembered", len(m.bases)-1)
	}
	if m, err = openMailNumbers(s.store, time.Now); err != nil || len(m.bases) != maxMailBases+1 {
		t.Errorf("%d starts are read: %v", len(m.bases)-1, err)
	}
}

// A device that claims numbers of the future, again and again, has the node forget nobody else's;
// two devices of a start that the node has lost both get what is new.
func TestADeviceThatIsAheadMovesTheNumbersSeldom(t *testing.T) {
	s := newSite(t, "acme.example")
	m, err := openMailNumbers(s.store, time.Now)
	must(t, err)
	last := uint64(s.store.Status().LSN)
	given := m.out(last)
	lost := uint64(time.Now().Add(time.Hour).UnixNano())
	if m.in(lost) != 0 || m.in(lost+1) != 0 || m.in(lost+last) != 0 {
		t.Error("numbers of a start that was lost acknowledge something")
	}
	if m.leaps != 1 || m.out(1) <= lost+last {
		t.Errorf("after %d leaps the next number is %d", m.leaps, m.out(1))
	}
	for n := range uint64(2 * maxMailBases) {
		m.in(m.out(1<<20) + n)
		if n < 5 && m.of(m.out(1<<20)+n) != 0 {
			t.Error("a delivery that was not given is known")
		}
	}
	if m.leaps != maxMailLeaps || m.in(given) != last {
		t.Errorf("after %d leaps %d is understood as %d, wanted %d", m.leaps, given, m.in(given), last)
	}
	before := m.out(1)
	m.of(m.out(1 << 21))
	if m.out(1) != before {
		t.Error("the name of a delivery moves the numbers")
	}
}
