package main

import (
	"strings"
	"testing"
)

func TestAReportedTextDoesNotPassForWhatTheReportSays(t *testing.T) {
	out := indented("hello\ntime          true: this node was the hub\r\nproved        bob has written\n\x1b[2Kreported      by nobody")
	for _, line := range strings.Split(out, "\n") {
		if !strings.HasPrefix(line, "  ") || strings.ContainsAny(line, "\r\x1b") {
			t.Errorf("%q stands at the beginning of a line", line)
		}
	}
}
