package device

import (
	"strings"
	"testing"
	"time"
)

func TestAClockIsComplainedOfOnceUntilItIsRight(t *testing.T) {
	var heard []string
	now := time.Now()
	d := &Device{now: func() time.Time { return now }}
	d.OnSession(func(state, reason string) { heard = append(heard, strings.TrimSpace(state+" "+reason)) })
	for _, ahead := range []time.Duration{0, 4 * time.Minute, -4 * time.Minute} {
		d.compareClock(now.Add(-ahead))
	}
	d.compareClock(time.Time{})
	if len(heard) > 0 {
		t.Errorf("a clock that is right enough: %q", heard)
	}
	for _, ahead := range []time.Duration{6 * time.Minute, 50 * time.Hour, 0, 0, -80 * time.Hour} {
		d.compareClock(now.Add(-ahead))
		d.compareClock(time.Time{}) // of a node that does not say: nothing changes
	}
	want := []string{"clock 6 minutes ahead", "clock right", "clock 3 days behind its node's: "}
	if len(heard) != len(want) {
		t.Fatalf("heard %q", heard)
	}
	for i, s := range heard {
		if !strings.HasPrefix(s, want[i]) {
			t.Errorf("heard %q, wanted %q", s, want[i])
		}
	}
}
