package main

import (
	"bytes"
	"fmt"
	"math"
)

// The plot is logarithmic on both sides: a straight line at 45 degrees is linear
// growth, a level one is none.
const (
	plotWidth, plotHeight = 780, 420
	plotLeft, plotTop     = 70, 40
	plotRight, plotBottom = 560, 370
)

// lines are what is drawn, times in milliseconds.
var lines = []struct {
	name, colour string
	of           func(row) float64
}{
	{"add all, Welcome", "#1b6ca8", func(r row) float64 { return float64(r.add.cpu) / 1e6 }},
	{"Commit", "#b8442d", func(r row) float64 { return float64(r.commit.cpu) / 1e6 }},
	{"join", "#2e8540", func(r row) float64 { return float64(r.join.cpu) / 1e6 }},
	{"process a Commit", "#7a4fa3", func(r row) float64 { return float64(r.process.cpu) / 1e6 }},
	{"receive", "#8a6d00", func(r row) float64 { return float64(r.receive) / 1e6 }},
	{"send", "#555555", func(r row) float64 { return float64(r.send) / 1e6 }},
}

const (
	lowest, highest = 0.01, 1000 // milliseconds
	fewest, most    = 2, 2000    // members
)

func between(v, low, high, from, to float64) float64 {
	return from + (to-from)*math.Log(v/low)/math.Log(high/low)
}

func across(members float64) float64 { return between(members, fewest, most, plotLeft, plotRight) }

func up(ms float64) float64 {
	return between(min(max(ms, lowest), highest), lowest, highest, plotBottom, plotTop)
}

// plot draws the rows as an SVG.
func plot(rows []row) []byte {
	var b bytes.Buffer
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`, plotWidth, plotHeight)
	p(`<rect width="100%%" height="100%%" fill="white"/>`)
	p(`<text x="%d" y="22" font-size="14">Processor time by members, suite 1 (go run ./mls/growth)</text>`, plotLeft)
	for ms := lowest; ms <= highest*1.01; ms *= 10 {
		p(`<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g ms</text>`,
			plotLeft, up(ms), plotRight, plotLeft-6, up(ms)+4, math.Round(ms*100)/100)
	}
	for _, n := range []float64{2, 10, 100, 500, 2000} {
		p(`<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`,
			across(n), plotTop, plotBottom, across(n), plotBottom+18, n)
	}
	p(`<text x="%d" y="%d" text-anchor="middle">members</text>`, (plotLeft+plotRight)/2, plotBottom+38)
	for _, l := range lines {
		d := ""
		for i, r := range rows {
			d += fmt.Sprintf("%c%.1f %.1f", "ML"[min(i, 1)], across(float64(r.members)), up(l.of(r)))
		}
		end := l.of(rows[len(rows)-1])
		p(`<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`, d, l.colour)
		p(`<text x="%d" y="%.1f" fill="%s">%s, %s</text>`, plotRight+8, up(end)+4, l.colour, l.name, inWords(end))
	}
	p(`</svg>`)
	return b.Bytes()
}

func inWords(ms float64) string {
	if ms < 1 {
		return fmt.Sprintf("%.0f us", ms*1000)
	}
	return fmt.Sprintf("%.3g ms", ms)
}
