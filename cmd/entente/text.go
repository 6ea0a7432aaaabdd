package main

import (
	"strings"
	"unicode"
)

// safe makes a text of somebody else's harmless for a terminal: control characters
// and direction marks become visible, newlines stay.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// indented is safe text whose every line stands in by two: what somebody has written does
// not pass for a line of ours.
func indented(s string) string {
	return "  " + strings.ReplaceAll(safe(s), "\n", "\n  ")
}

// oneLine is safe text on one line, at most n characters.
func oneLine(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(safe(s)), " "))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}
