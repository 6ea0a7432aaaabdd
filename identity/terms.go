package identity

import (
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
)

// term is one term as people read it.
type term struct{ name, text string }

func (t Terms) lines() []term {
	rate := "the default of each side"
	if t.Rate > 0 {
		rate = fmt.Sprintf("%d items a second, each way", t.Rate)
	}
	retention := "none of its own"
	if t.Retention > 0 {
		retention = lengthText(t.Retention)
	}
	return []term{
		{"contact", string(t.Contact)}, {"directory", t.Directory}, {"rooms", yesNo(t.Rooms)},
		{"files", "up to " + sizeText(t.FileSize)}, {"calls", yesNo(t.Calls)}, {"guests", yesNo(t.Guests)},
		{"transit", t.Transit}, {"retention", retention}, {"rate", rate},
		{"valid", wire.FormatTime(t.ValidFrom) + " to " + wire.FormatTime(t.ValidUntil)}, {"abuse", t.Abuse},
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// lengthText is a length of time in the largest unit in which it is a whole number.
func lengthText(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		switch n := d / u.of; {
		case d%u.of != 0:
		case n == 1:
			return "1 " + u.name
		default:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return d.String()
}

// sizeText is a size in the largest unit in which it is a whole number: nothing is rounded in
// what somebody signs.
func sizeText(n uint64) string {
	for _, u := range []struct {
		of   uint64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.of && n%u.of == 0 {
			return fmt.Sprintf("%d %s", n/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Text shows the terms to people, every field on a line: who accepts them has seen
// what he raises.
func (t Terms) Text() string {
	var b strings.Builder
	for _, l := range t.lines() {
		fmt.Fprintf(&b, "  %-12s %s\n", l.name, l.text)
	}
	return b.String()
}

// Changes shows what would be other under next, a term a line, and whether it binds less
// than before.
func (t Terms) Changes(next Terms) string {
	var b strings.Builder
	after := next.lines()
	for i, l := range t.lines() {
		if l.text != after[i].text {
			fmt.Fprintf(&b, "  %-12s %s, would be %s%s\n", l.name, l.text, after[i].text, looser(l.name, t, next))
		}
	}
	return b.String()
}

// looser says so of a term that binds less under next.
func looser(name string, t, next Terms) string {
	order := map[string]int{"none": 0, "exact": 1, "groups": 1, "named": 1, "any": 2}
	more := func(a, b uint64) bool { return a != 0 && (b == 0 || b > a) } // 0: unbounded
	var is bool
	switch name {
	case "contact":
		is = next.Contact == ContactOpen
	case "directory":
		is = order[next.Directory] > order[t.Directory]
	case "rooms":
		is = next.Rooms
	case "files":
		is = next.FileSize > t.FileSize
	case "calls":
		is = next.Calls
	case "guests":
		is = next.Guests
	case "transit":
		is = order[next.Transit] > order[t.Transit]
	case "retention":
		is = more(uint64(t.Retention), uint64(next.Retention))
	case "rate":
		is = more(t.Rate, next.Rate)
	case "valid":
		is = next.ValidUntil.After(t.ValidUntil) || next.ValidFrom.Before(t.ValidFrom)
	}
	if is {
		return " (looser)"
	}
	return ""
}

// Strictest returns how long anything may be kept under two ceilings; 0 is none.
func Strictest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
