package mls

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls/internal/tls"
)

// Hash is the tree hash of the whole tree (RFC 9420 §7.8). Afterwards every
// node's hash is known, and the tree may be shared.
func (t *Tree) Hash() []byte { return t.nodeHash(t.Root()) }

// NodeHash is the tree hash of the subtree under x.
func (t *Tree) NodeHash(x NodeIndex) []byte { return t.nodeHash(x) }

func (t *Tree) nodeHash(x NodeIndex) []byte {
	if t.hashes[x] == nil {
		if x.IsLeaf() {
			t.hashes[x] = t.leafHash(x.Leaf(), t.nodes[x].leaf)
		} else {
			t.hashes[x] = t.parentNodeHash(t.nodes[x].parent, t.nodeHash(x.Left()), t.nodeHash(x.Right()))
		}
	}
	return t.hashes[x]
}

// leafHash is the hash of TreeHashInput with a LeafNodeHashInput (§7.8).
func (t *Tree) leafHash(l LeafIndex, leaf *LeafNode) []byte {
	w := tls.NewWriter(512)
	w.U8(1)
	w.U32(uint32(l))
	w.Bool(leaf != nil)
	if leaf != nil {
		leaf.write(w)
	}
	return t.suite.Hash(w.B)
}

// parentNodeHash is the hash of TreeHashInput with a ParentNodeHashInput.
func (t *Tree) parentNodeHash(p *ParentNode, left, right []byte) []byte {
	w := tls.NewWriter(256)
	w.U8(2)
	w.Bool(p != nil)
	if p != nil {
		p.write(w)
	}
	w.Vec(left)
	w.Vec(right)
	return t.suite.Hash(w.B)
}

// originalHash is the tree hash of the subtree under x as it was before the
// leaves in without were added: they are blank and nobody's unmerged (§7.9).
func (t *Tree) originalHash(x NodeIndex, without []LeafIndex) []byte {
	first, last := x.leaves()
	if at, _ := slices.BinarySearch(without, first); at == len(without) || without[at] > last {
		return t.nodeHash(x)
	}
	if x.IsLeaf() {
		return t.leafHash(x.Leaf(), nil)
	}
	p := t.nodes[x].parent
	if p != nil && len(p.Unmerged) > 0 {
		c := *p
		c.Unmerged = nil
		for _, l := range p.Unmerged {
			if _, gone := slices.BinarySearch(without, l); !gone {
				c.Unmerged = append(c.Unmerged, l)
			}
		}
		p = &c
	}
	return t.parentNodeHash(p, t.originalHash(x.Left(), without), t.originalHash(x.Right(), without))
}

// parentHash is the hash that binds what is below p to p (§7.9); sibling is the
// copath child of p.
func (t *Tree) parentHash(p *ParentNode, sibling NodeIndex) []byte {
	w := tls.NewWriter(128)
	w.Vec(p.EncryptionKey)
	w.Vec(p.ParentHash)
	w.Vec(t.originalHash(sibling, p.Unmerged))
	return t.suite.Hash(w.B)
}

// verifyParentHashes checks that each parent node is parent-hash valid (§7.9.2):
// that exactly one node below it was set together with it.
func (t *Tree) verifyParentHashes() error {
	for x := NodeIndex(1); int(x) < len(t.nodes); x += 2 {
		p := t.nodes[x].parent
		if p == nil {
			continue
		}
		found := 0
		for _, c := range [2]NodeIndex{x.Left(), x.Right()} {
			if t.linked(p, c) {
				found++
			}
		}
		if found != 1 {
			return refuse(ErrTree, "node %d is not parent-hash valid", x)
		}
	}
	return nil
}

// linked looks for the node D of §7.9.2 in the resolution of c, a child of p: it
// carries p's parent hash, and the rest of the resolution is exactly what was
// added under c since.
func (t *Tree) linked(p *ParentNode, c NodeIndex) bool {
	res := t.Resolution(c)
	var unmerged []NodeIndex
	for _, l := range p.Unmerged {
		if l.Node().Within(c) {
			unmerged = append(unmerged, l.Node())
		}
	}
	if len(res) != len(unmerged)+1 {
		return false
	}
	var want []byte
	for i, d := range res {
		n := t.nodes[d]
		have := []byte(nil)
		switch {
		case n.parent != nil:
			have = n.parent.ParentHash
		case n.leaf.Source == SourceCommit:
			have = n.leaf.ParentHash
		}
		if len(have) == 0 {
			continue
		}
		if want == nil {
			want = t.parentHash(p, c.Sibling())
		}
		if !bytes.Equal(have, want) {
			continue
		}
		rest := slices.Concat(res[:i], res[i+1:])
		slices.Sort(rest)
		return slices.Equal(rest, unmerged)
	}
	return false
}

// SetPath replaces the filtered direct path of a leaf by fresh public keys, in
// order from the lowest, and returns the parent hash that the leaf has to carry
// (§7.5, §7.9). The other nodes of the direct path become blank. The leaf itself
// is set afterwards, with SetLeaf.
func (t *Tree) SetPath(l LeafIndex, keys [][]byte) (leafParentHash []byte, err error) {
	steps := t.FilteredPath(l)
	if len(keys) != len(steps) {
		return nil, refuse(ErrCommit, "path has %d nodes, want %d", len(keys), len(steps))
	}
	t.blankPath(l)
	t.set(l.Node(), t.nodes[l.Node()]) // forget the hashes above
	hash := []byte{}                   // of the root
	for i := len(steps) - 1; i >= 0; i-- {
		p := &ParentNode{EncryptionKey: keys[i], ParentHash: hash}
		t.nodes[steps[i].Node].parent = p
		hash = t.parentHash(p, steps[i].Copath)
	}
	return hash, nil
}

// SetLeaf puts a committer's new leaf at its place, above which SetPath was
// called.
func (t *Tree) SetLeaf(l LeafIndex, leaf *LeafNode) { t.set(l.Node(), node{leaf: leaf}) }
