package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
)

// holdsText says what holds in a room, in a line.
func holdsText(e *device.Effective) string {
	if e == nil {
		return "not known"
	}
	files := "no files"
	if e.FileSize > 0 {
		files = "files up to " + bytesText(e.FileSize)
	}
	return fmt.Sprintf("kept undelivered at most %s, %s, contact %s", lengthText(time.Duration(e.Retention)*time.Second), files, e.Contact)
}

// agreedText names the agreements of a room, a line each.
func agreedText(e *device.Effective) string {
	var b strings.Builder
	if e == nil {
		return ""
	}
	for _, a := range e.Agreements {
		said := "none that this device knows of"
		if a.Version > 0 {
			said = fmt.Sprintf("version %d, until %s, abuse: %s", a.Version, a.Until.Format(time.DateOnly), safe(a.Abuse))
		}
		fmt.Fprintf(&b, "agreed    with %s: %s\n", oneLine(a.Organization, 80), said)
	}
	return b.String()
}
