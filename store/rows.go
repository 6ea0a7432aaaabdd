package store

import (
	"slices"
	"strings"
)

// rows is the index of lasting records: keys in order, in chunks of bounded length,
// so that a change moves little and a scan needs no tree. All under Store.mu.
type rows struct {
	chunks [][]row
	n      int
}

type row struct {
	key string
	at  *location
}

const rowsChunk = 512

func compareRow(r row, key string) int { return strings.Compare(r.key, key) }

// chunk returns the chunk that holds key or would.
func (t *rows) chunk(key string) int {
	i, found := slices.BinarySearchFunc(t.chunks, key, func(c []row, k string) int { return strings.Compare(c[0].key, k) })
	if !found && i > 0 {
		i--
	}
	return i
}

func (t *rows) get(key string) *location {
	if len(t.chunks) == 0 {
		return nil
	}
	c := t.chunks[t.chunk(key)]
	if i, ok := slices.BinarySearchFunc(c, key, compareRow); ok {
		return c[i].at
	}
	return nil
}

// set enters a location and returns the one before, if any.
func (t *rows) set(key string, at location) (old *location) {
	if len(t.chunks) == 0 {
		t.chunks = append(t.chunks, nil)
		t.chunks[0] = append(t.chunks[0], row{key, &at})
		t.n++
		return nil
	}
	n := t.chunk(key)
	c := t.chunks[n]
	i, ok := slices.BinarySearchFunc(c, key, compareRow)
	if ok {
		old, c[i].at = c[i].at, &at
		return old
	}
	t.n++
	c = slices.Insert(c, i, row{key, &at})
	t.chunks[n] = c
	if len(c) > rowsChunk {
		half := len(c) / 2
		t.chunks[n] = slices.Clone(c[:half])
		t.chunks = slices.Insert(t.chunks, n+1, slices.Clone(c[half:]))
	}
	return nil
}

func (t *rows) remove(key string) *location {
	if len(t.chunks) == 0 {
		return nil
	}
	n := t.chunk(key)
	c := t.chunks[n]
	i, ok := slices.BinarySearchFunc(c, key, compareRow)
	if !ok {
		return nil
	}
	old := c[i].at
	t.n--
	if t.chunks[n] = slices.Delete(c, i, i+1); len(t.chunks[n]) == 0 {
		t.chunks = slices.Delete(t.chunks, n, n+1)
	}
	return old
}

// scan calls do for each key above after (from the first when nil is false) that
// has the prefix, in order, until do returns false.
func (t *rows) scan(prefix, after string, do func(row) bool) {
	from := max(prefix, after)
	if len(t.chunks) == 0 {
		return
	}
	for n := t.chunk(from); n < len(t.chunks); n++ {
		c := t.chunks[n]
		i, _ := slices.BinarySearchFunc(c, from, compareRow)
		for ; i < len(c); i++ {
			r := c[i]
			if after != "" && r.key <= after {
				continue
			}
			if !strings.HasPrefix(r.key, prefix) {
				if r.key > prefix {
					return
				}
				continue
			}
			if !do(r) {
				return
			}
		}
	}
}
