package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// sayFile shows how far a file is: with --json an object for each tenth of a second, on a
// terminal a line that is written over, else lines on standard error.
func sayFile(c *cobra.Command, asJSON bool) func(device.FileProgress) {
	switch {
	case asJSON:
		return (&fileJSON{out: c.OutOrStdout()}).say
	case term.IsTerminal(int(os.Stderr.Fd())):
		return (&fileLine{out: c.ErrOrStderr()}).say
	}
	return (&fileLog{out: c.ErrOrStderr(), now: time.Now}).say
}

// fileText is a step for a person.
func fileText(p device.FileProgress) string {
	if p.Event == "waiting" {
		return "waiting: " + oneLine(whyAway(p.Reason), 200)
	}
	return fmt.Sprintf("%-11s %3d %%  %s of %s", p.Event, percent(p), bytesText(p.Done), bytesText(p.Size))
}

// whyAway leaves out of why a file waits what a node says of its attempts to reach another
// one: addresses and errors of the network, which --json has.
func whyAway(reason string) string {
	if status, rest, ok := strings.Cut(reason, ": connecting: "); ok && rest != "" {
		return status + ": the other organization does not answer; it goes on by itself"
	}
	return reason
}

func percent(p device.FileProgress) uint64 {
	if p.Size == 0 {
		return 100
	}
	return p.Done * 100 / p.Size
}

// ends reports whether a file has come to an end of what it does.
func ends(p device.FileProgress) bool {
	return p.Event == "saved" || p.Event != "hashing" && p.Event != "waiting" && p.Done == p.Size
}

type fileJSON struct {
	out   io.Writer
	event string
	last  time.Time
}

func (f *fileJSON) say(p device.FileProgress) {
	if now := time.Now(); p.Event != f.event || ends(p) || p.Event == "waiting" || now.Sub(f.last) >= 100*time.Millisecond {
		f.event, f.last = p.Event, now
		_ = printJSON(f.out, p)
	}
}

type fileLine struct {
	out   io.Writer
	event string
	last  time.Time
}

func (f *fileLine) say(p device.FileProgress) {
	now := time.Now()
	if p.Event == f.event && !ends(p) && now.Sub(f.last) < 100*time.Millisecond {
		return
	}
	f.event, f.last = p.Event, now
	_, _ = fmt.Fprintf(f.out, "\r%s\x1b[K", fileText(p))
	if ends(p) {
		_, _ = fmt.Fprint(f.out, "\r\x1b[K")
	}
}

// fileLog writes lines for a file that takes its time: nothing within the first second of
// a step, then one for each tenth of the way, and every three seconds. That it waits, and
// why, it says at once and when the reason is another.
type fileLog struct {
	out    io.Writer
	now    func() time.Time
	event  string
	reason string
	begun  time.Time
	last   time.Time
	said   uint64 // percent
}

func (f *fileLog) say(p device.FileProgress) {
	now := f.now()
	if p.Event == "waiting" {
		if p.Reason != f.reason || now.Sub(f.last) >= 3*time.Second {
			f.reason, f.last = p.Reason, now
			_, _ = fmt.Fprintln(f.out, fileText(p))
		}
		return
	}
	if p.Event != f.event {
		f.event, f.begun, f.last, f.said = p.Event, now, now, 0
	}
	if p.Event == "saved" || now.Sub(f.begun) < time.Second {
		return
	}
	if done := percent(p); done >= f.said+10 || now.Sub(f.last) >= 3*time.Second {
		f.last, f.said, f.reason = now, done, ""
		_, _ = fmt.Fprintln(f.out, fileText(p))
	}
}
