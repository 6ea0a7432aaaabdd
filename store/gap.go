package store

import (
	"fmt"
	"maps"
	"strings"
)

// gapMark begins the names of the marks that say which gaps were counted as lost: the
// number of the first segment that is missing follows, the value is the last one's.
const (
	gapMark = "store gap "
	maxGaps = 16 // marks of gaps; one that finds no place is counted at each Open
)

// gap remembers segments from first to last that are missing or whose header does
// not stand. It returns true when they were not counted as lost before, so that a
// loss that was accepted stays accepted.
func (s *Store) gap(first, last uint32) (fresh bool) {
	name := fmt.Sprintf("%s%08d", gapMark, first)
	s.marks.update(func(m *markState) {
		maps.DeleteFunc(m.named, func(n string, v uint64) bool {
			return strings.HasPrefix(n, gapMark) && v < uint64(m.oldest)
		})
		if m.named[name] >= uint64(last) {
			return
		}
		fresh = true
		n := 0
		for k := range m.named {
			if strings.HasPrefix(k, gapMark) {
				n++
			}
		}
		if _, have := m.named[name]; have || n < maxGaps && len(m.named) < maxMarks {
			m.named[name] = uint64(last)
		}
	})
	return fresh
}

// countGaps adds the records of the gaps that were found before g, which stands, to the loss, one
// at least: what acknowledged, revoked or ordered something is not told from the rest. A
// last segment without a header is none: a crash leaves it, and its number is given again.
func (r *recovery) countGaps(g *segment, next uint64) {
	fresh := false
	for _, x := range r.gaps {
		fresh = r.s.gap(x[0], x[1]) || fresh
	}
	if r.gaps = nil; !fresh {
		return
	}
	lost := uint64(1)
	if next > 0 && g.prev >= next {
		lost = g.prev - next + 1
	}
	r.s.marks.update(func(m *markState) { m.lost += lost })
}
