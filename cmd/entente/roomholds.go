package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
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

// warnApart tells who brings people together that they may not come in.
func warnApart(ctx context.Context, c *cobra.Command, s *device.Sender, id wire.RoomID) {
	if e, err := s.Holds(ctx, id); err == nil && len(e.Apart) > 0 {
		fmt.Fprintln(c.ErrOrStderr(), "note: "+apartText(e.Apart))
	}
}

// apartText is device.Effective.Apart for people.
func apartText(orgs []string) string {
	var names []string
	for _, o := range orgs {
		names = append(names, oneLine(o, 80))
	}
	return strings.Join(names, ", ") + " come into this room together only where they have an agreement with each other: yours with them carry no rooms of others (transit); ask your administrator"
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
	if len(e.Apart) > 0 {
		b.WriteString("note      " + apartText(e.Apart) + "\n")
	}
	return b.String()
}
