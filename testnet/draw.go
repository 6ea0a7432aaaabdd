package testnet

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// canvas is an SVG that grows.
type canvas struct{ strings.Builder }

func (c *canvas) add(format string, a ...any) { fmt.Fprintf(c, format+"\n", a...) }

func (c *canvas) text(x, y int, attributes, s string) {
	c.add(`<text x="%d" y="%d" %s>%s</text>`, x, y, attributes, html.EscapeString(s))
}

func (c *canvas) box(x, y, w, h int, fill, stroke string) {
	c.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="%s"/>`, x, y, w, h, fill, stroke)
}

func (c *canvas) svg(w, h int, title string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img">
<title>%s</title>
<rect width="100%%" height="100%%" fill="white"/>
<text x="20" y="28" font-size="15" font-weight="bold">%s</text>
<text x="20" y="%d" font-size="11" fill="#777">Drawn from what the nodes said in one run of: entente testnet walk --pictures docs</text>
%s</svg>
`, w, h, html.EscapeString(title), html.EscapeString(title), h-12, c.String())
}

// stateColours are those of the states that a walk comes by: fill and stroke.
var stateColours = map[string][2]string{
	"connected":        {"#d9f0d3", "#4d9a4d"},
	"quarantined":      {"#fff2cc", "#c9a227"},
	"quarantinedThere": {"#fff9e6", "#c9a227"},
	"suspended":        {"#f8d0d0", "#b94a48"},
	"refused":          {"#fbe9e9", "#b94a48"}, // by the other side
}

// drawMoments shows, a line per moment, how each side of each agreement stood.
func drawMoments(moments []moment) string {
	var pairs [][2]string
	seen := make(map[[2]string]bool)
	for _, m := range moments {
		for _, v := range m.views {
			if k := [2]string{v.at, v.of}; !seen[k] {
				seen[k] = true
				pairs = append(pairs, k)
			}
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	const left, top, width, height = 250, 92, 132, 34
	c := &canvas{}
	for i, p := range pairs {
		x := left + i*(width+8)
		c.text(x, 62, `font-weight="bold"`, organization(p[0]))
		c.text(x, 78, `fill="#555"`, "says of "+organization(p[1]))
	}
	for i, m := range moments {
		y := top + i*(height+8)
		c.text(20, y+22, "", m.title)
		for j, p := range pairs {
			state := ""
			for _, v := range m.views {
				if v.at == p[0] && v.of == p[1] {
					state = v.state
				}
			}
			if state == "" {
				continue
			}
			colour, ok := stateColours[state]
			if !ok {
				colour = [2]string{"#eeeeee", "#999999"}
			}
			x := left + j*(width+8)
			c.box(x, y, width, height, colour[0], colour[1])
			c.text(x+width/2, y+22, `text-anchor="middle"`, state)
		}
	}
	return c.svg(left+len(pairs)*(width+8)+12, top+len(moments)*(height+8)+36, "Agreements: each side's own word, and what the other sees of it")
}

// drawLogs shows each log entry by entry, with the partners' copies under it.
func drawLogs(logs []logView) string {
	const left, cell, height = 270, 30, 26
	c := &canvas{}
	y, longest := 56, 0
	for _, l := range logs {
		longest = max(longest, l.size)
		c.text(20, y+18, `font-weight="bold"`, organization(l.owner)+"'s log")
		c.text(left-14, y+18, `text-anchor="end" fill="#555"`, "signed")
		for i := range l.size {
			c.box(left+i*cell, y, cell-4, height, "#d6e6f5", "#1b6ca8")
			c.text(left+i*cell+(cell-4)/2, y+18, `text-anchor="middle" font-size="11"`, fmt.Sprint(i+1))
		}
		y += height + 6
		for _, k := range l.copies {
			c.text(40, y+18, "", "copy at "+organization(k.at))
			c.text(left-14, y+18, `text-anchor="end" fill="#555"`, fmt.Sprintf("cosigned %d", k.cosigned))
			for i := range k.size {
				fill := "#d9f0d3"
				if i >= k.cosigned {
					fill = "white" // held and computed, not vouched for yet
				}
				c.box(left+i*cell, y, cell-4, height, fill, "#4d9a4d")
			}
			y += height + 6
		}
		y += 14
	}
	return c.svg(max(left+longest*cell+20, 760), y+24, "Directories: every partner keeps a copy, computes it anew, and cosigns it")
}

// drawFork shows one log with two ends.
func drawFork(p twoPasts) string {
	const left, cell, height = 40, 46, 32
	c := &canvas{}
	c.text(20, 56, "", fmt.Sprintf("%s had %d entries. Then its node was run twice, from a copy of its folder.", organization(p.liar), p.common))
	for i := range p.common {
		c.box(left+i*cell, 120, cell-6, height, "#d6e6f5", "#1b6ca8")
		c.text(left+i*cell+20, 141, `text-anchor="middle"`, fmt.Sprint(i+1))
	}
	fork := left + p.common*cell
	for n, h := range p.heads {
		y := 84 + n*72
		c.add(`<path d="M%d 136 L%d %d" stroke="#b94a48" fill="none"/>`, fork-6, fork+14, y+height/2)
		for i := p.common; i < h.size; i++ {
			x := fork + 14 + (i-p.common)*cell
			c.box(x, y, cell-6, height, "#f8d0d0", "#b94a48")
			c.text(x+20, y+21, `text-anchor="middle"`, fmt.Sprint(i+1))
		}
		x := fork + 22 + (h.size-p.common)*cell
		c.text(x, y+14, `font-size="12"`, fmt.Sprintf("%d entries, root %s…, signed", h.size, h.root[:min(10, len(h.root))]))
		if to := p.shown[h.root]; to != "" {
			c.text(x, y+30, `font-size="12" fill="#555"`, "shown to "+organization(to))
		}
	}
	c.text(20, 222, "", fmt.Sprintf("No one log has both heads. The two partners compared them, and had the proof %s s after they met.", p.took))
	return c.svg(760, 262, "Two pasts: a directory that told two partners different things")
}

func organization(name string) string { return strings.TrimSuffix(name, ".example") }
