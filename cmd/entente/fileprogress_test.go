package main

import (
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/device"
)

func TestAFileThatTakesItsTimeIsToldOfAlsoWithoutATerminal(t *testing.T) {
	var out strings.Builder
	now := time.Now()
	f := &fileLog{out: &out, now: func() time.Time { return now }}
	const size = 1000 << 20
	for done := uint64(0); done <= size; done += 1 << 20 {
		f.say(device.FileProgress{Event: "uploading", Name: "a", Done: done, Size: size})
		now = now.Add(20 * time.Millisecond) // 20 s in all
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) < 9 || len(lines) > 17 || !strings.Contains(out.String(), "uploading") || !strings.Contains(lines[len(lines)-1], "1000.0 MiB") {
		t.Errorf("%d lines:\n%s", len(lines), out.String())
	}
	out.Reset()
	for range 5 {
		f.say(device.FileProgress{Event: "waiting", Size: size, Reason: "unreachable: nobody answers"})
	}
	if got := out.String(); got != "waiting: unreachable: nobody answers\n" {
		t.Errorf("waiting: %q", got)
	}
	if got := fileText(device.FileProgress{Event: "waiting", Reason: "unreachable: connecting: failed to dial: all dials failed"}); got != "waiting: unreachable: the other organization does not answer; it goes on by itself" {
		t.Error(got)
	}
}

func TestAFileThatIsQuickIsNotTalkedAbout(t *testing.T) {
	var out strings.Builder
	f := &fileLog{out: &out, now: time.Now}
	for _, p := range []device.FileProgress{{Event: "hashing", Done: 5, Size: 5}, {Event: "uploading", Done: 5, Size: 5}, {Event: "saved", Done: 5, Size: 5}} {
		f.say(p)
	}
	if out.Len() > 0 {
		t.Errorf("said %q", out.String())
	}
}
