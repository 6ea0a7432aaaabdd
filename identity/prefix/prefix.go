// Package prefix is a map from labels to versions and commitments whose 32-byte root
// commits to all of it: a short proof shows what a label has, or that it is absent.
// Trees are values: Set returns another and leaves the old one as it was.
//
// It promises that no two maps have one root, short of a collision of SHA-256, and
// that a proof which verifies is true of the map with that root. What labels mean, who
// signs roots and which root is the latest is the directory's.
//
// The tree is binary, a bit of the label for each level from the most significant one
// down. A subtree without entries hashes to 32 zero bytes, one with a single entry to the
// hash of that entry however high it stands, and any other to the hash of its two halves:
//
//	entry = SHA-256(0x00 ‖ label ‖ version ‖ commitment)
//	half  = SHA-256(0x01 ‖ left ‖ right)
//
// An entry names its whole label, so that its height cannot be lied about.
package prefix

import (
	"crypto/sha256"
	"encoding/binary"
)

// Label is where an entry stands: for members, a VRF output.
type Label = [32]byte

// Hash is a SHA-256 value.
type Hash = [32]byte

// maxDepth is the number of bits of a label.
const maxDepth = 256

// EntryLen is the length of an encoded entry: label ‖ version uint64 ‖ commitment.
const EntryLen = 32 + 8 + 32

// Entry is what the map has at a label.
type Entry struct {
	Label      Label
	Version    uint64
	Commitment Hash
}

// Append appends the entry's encoding.
func (e Entry) Append(b []byte) []byte {
	b = append(b, e.Label[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Version)
	return append(b, e.Commitment[:]...)
}

// ParseEntry is the inverse of Append; b has EntryLen bytes.
func ParseEntry(b []byte) (Entry, bool) {
	if len(b) != EntryLen {
		return Entry{}, false
	}
	return Entry{Label: Label(b[:32]), Version: binary.BigEndian.Uint64(b[32:]), Commitment: Hash(b[40:])}, true
}

func (e Entry) hash() Hash {
	return sha256.Sum256(e.Append([]byte{0}))
}

func halves(left, right Hash) Hash {
	b := make([]byte, 0, 65)
	b = append(b, 1)
	b = append(b, left[:]...)
	return sha256.Sum256(append(b, right[:]...))
}

// bit returns a bit of a label, 0 the most significant.
func bit(l Label, i int) int { return int(l[i/8]>>(7-i%8)) & 1 }

// Tree is a map; the zero Tree is empty.
type Tree struct {
	root *node
	size int
}

// node is a subtree: of one entry, or of two halves of which one may be nil. It never
// changes.
type node struct {
	hash  Hash
	entry *Entry
	half  [2]*node
}

func hashOf(n *node) Hash {
	if n == nil {
		return Hash{}
	}
	return n.hash
}

func single(e Entry) *node { return &node{hash: e.hash(), entry: &e} }

func inner(half [2]*node) *node {
	return &node{hash: halves(hashOf(half[0]), hashOf(half[1])), half: half}
}

// Len is the number of entries.
func (t Tree) Len() int { return t.size }

// Root commits to the map; of an empty one it is zero.
func (t Tree) Root() Hash { return hashOf(t.root) }

// Get returns the entry at a label.
func (t Tree) Get(l Label) (Entry, bool) {
	n := t.root
	for i := 0; n != nil; i++ {
		if n.entry != nil && n.entry.Label == l {
			return *n.entry, true
		}
		if n.entry != nil {
			break
		}
		n = n.half[bit(l, i)]
	}
	return Entry{}, false
}

// Set returns the map with e in the place of what its label had.
func (t Tree) Set(e Entry) Tree {
	if _, ok := t.Get(e.Label); !ok {
		t.size++
	}
	t.root = set(t.root, e, 0)
	return t
}

func set(n *node, e Entry, depth int) *node {
	switch {
	case n == nil, n.entry != nil && n.entry.Label == e.Label:
		return single(e)
	case n.entry != nil: // both go down until their labels part
		var half [2]*node
		half[bit(n.entry.Label, depth)] = n
		n = &node{half: half}
	}
	half := n.half
	b := bit(e.Label, depth)
	half[b] = set(half[b], e, depth+1)
	return inner(half)
}
