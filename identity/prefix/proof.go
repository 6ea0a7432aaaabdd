package prefix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Proof shows what a map has at a label. Siblings stand from the root down.
type Proof struct {
	Siblings []Hash
	// Entry is that of the label; or, where it is absent, the only one of the subtree that
	// it would be in, or nil when that subtree is empty.
	Entry *Entry
}

// MaxProof bounds an encoded proof, in bytes.
const MaxProof = 2 + maxDepth/8 + maxDepth*32 + 1 + EntryLen

// ErrProof is a proof that does not show what it is said to.
var ErrProof = errors.New("prefix: the proof does not hold")

// Prove shows what a label has.
func (t Tree) Prove(l Label) Proof {
	var p Proof
	n := t.root
	for i := 0; n != nil; i++ {
		if n.entry != nil {
			e := *n.entry
			p.Entry = &e
			break
		}
		b := bit(l, i)
		p.Siblings = append(p.Siblings, hashOf(n.half[1-b]))
		n = n.half[b]
	}
	return p
}

// Verify returns what the map with a root has at a label; found is false when the label
// is absent from it. Any other proof is ErrProof.
func (p Proof) Verify(root Hash, l Label) (e Entry, found bool, err error) {
	if len(p.Siblings) > maxDepth {
		return Entry{}, false, ErrProof
	}
	var h Hash
	if p.Entry != nil {
		// Another entry shows an absence only where the label would be in its place.
		for i := range p.Siblings {
			if bit(p.Entry.Label, i) != bit(l, i) {
				return Entry{}, false, ErrProof
			}
		}
		h = p.Entry.hash()
		found = p.Entry.Label == l
	}
	// A subtree of one entry is that entry, and one of none is empty: of two halves at
	// least two entries are below. So the lowest sibling of an entry is no empty subtree
	// and no label has two places.
	if last := len(p.Siblings) - 1; last >= 0 && p.Entry == nil && p.Siblings[last] == (Hash{}) {
		return Entry{}, false, ErrProof
	}
	for i, s := range slices.Backward(p.Siblings) {
		if bit(l, i) == 0 {
			h = halves(h, s)
		} else {
			h = halves(s, h)
		}
	}
	if h != root {
		return Entry{}, false, ErrProof
	}
	if p.Entry == nil {
		return Entry{}, false, nil
	}
	return *p.Entry, found, nil
}

// Append appends the proof's encoding: depth uint16, a bit for each sibling from the root
// down that tells whether it is there (an empty subtree is not), those hashes, and 0, or 1
// and the entry.
func (p Proof) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Siblings)))
	there := make([]byte, (len(p.Siblings)+7)/8)
	var hashes []byte
	for i, s := range p.Siblings {
		if s != (Hash{}) {
			there[i/8] |= 1 << (7 - i%8)
			hashes = append(hashes, s[:]...)
		}
	}
	b = append(append(b, there...), hashes...)
	if p.Entry == nil {
		return append(b, 0)
	}
	return p.Entry.Append(append(b, 1))
}

// ParseProof is the inverse of Append: what it takes, Append writes again.
func ParseProof(b []byte) (Proof, error) {
	bad := func(what string) (Proof, error) { return Proof{}, fmt.Errorf("prefix: a proof %s", what) }
	if len(b) < 2 || len(b) > MaxProof {
		return bad("of another length")
	}
	depth := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if depth > maxDepth || len(b) < (depth+7)/8 {
		return bad("that is cut, or too deep")
	}
	there := b[:(depth+7)/8]
	b = b[len(there):]
	p := Proof{}
	for i := range depth {
		var s Hash
		if there[i/8]>>(7-i%8)&1 == 1 {
			if len(b) < 32 {
				return bad("that is cut")
			}
			if copy(s[:], b); s == (Hash{}) {
				return bad("with an empty subtree that is there")
			}
			b = b[32:]
		}
		p.Siblings = append(p.Siblings, s)
	}
	if depth%8 != 0 && there[depth/8]<<(depth%8) != 0 {
		return bad("with bits behind its depth")
	}
	switch {
	case len(b) == 1 && b[0] == 0:
		return p, nil
	case len(b) == 1+EntryLen && b[0] == 1:
		e, _ := ParseEntry(b[1:])
		p.Entry = &e
		return p, nil
	}
	return bad("with another end")
}
