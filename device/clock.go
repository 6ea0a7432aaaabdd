package device

import (
	"fmt"
	"time"

	"github.com/entente-im/entente/wire"
)

// What a device signs, keeps and ends goes by its own clock: certificates, KeyPackages,
// deadlines, texts that burn. Its node says its clock with each session (docs/protocol.md
// 6.3). Neither sets the other's: a person is told that they differ, and which way.

// compareClock tells once, until that changes, that this device's clock and its node's are
// further apart than wire.ClockTolerance. A zero time says nothing.
func (d *Device) compareClock(node time.Time) {
	if node.IsZero() {
		return
	}
	by := d.now().Sub(node)
	off := by.Abs() > wire.ClockTolerance
	switch was := d.clockOff.Swap(off); {
	case off && !was:
		d.tellSession("clock", &clockError{by})
	case was && !off:
		d.tellSession("clock right", nil)
	}
}

// clockError says how far this device's clock is from its node's, and what follows.
type clockError struct{ ahead time.Duration }

func (e *clockError) Error() string {
	way, follows := "ahead of", "texts that end go early here, and others may not take what it signs yet"
	if e.ahead < 0 {
		way, follows = "behind", "texts that end stay too long here, and what it sends may have ended for others"
	}
	return fmt.Sprintf("%s %s its node's: %s", roughly(e.ahead.Abs()), way, follows)
}

// roughly is a length of time for people: in minutes, from two hours on in hours, from three
// days on in days.
func roughly(d time.Duration) string {
	switch {
	case d >= 72*time.Hour:
		return fmt.Sprintf("%d days", (d+12*time.Hour)/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", (d+30*time.Minute)/time.Hour)
	}
	return fmt.Sprintf("%d minutes", (d+30*time.Second)/time.Minute)
}
