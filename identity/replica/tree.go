package replica

import (
	"fmt"
	"math/bits"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"golang.org/x/mod/sumdb/tlog"
)

// tree is a log recomputed from its leaves: the right edge of the Merkle tree and the
// map of the labels. It is a value: appending to a copy leaves the other as it was.
type tree struct {
	size   uint64
	edge   []tlog.Hash // of the complete subtrees, the largest one first
	labels prefix.Tree
	whole  bool // the last leaf is the root of the map
	later  bool // an incident has begun the log: a label's first leaf may have any version
}

// append adds a leaf, which has to be what a log may hold there: the next version of a
// label, or the root of the map of what stands before it.
func (t tree) append(leaf []byte) (tree, error) {
	e, ok := prefix.ParseEntry(leaf)
	if !ok {
		return t, fmt.Errorf("replica: leaf %d has %d bytes", t.size, len(leaf))
	}
	if t.whole = (e.Label == prefix.Label{}); t.whole {
		if e != identity.MapLeaf(uint64(t.labels.Len()), t.labels.Root()) {
			return t, fmt.Errorf("replica: leaf %d is not the root of the map before it", t.size)
		}
	} else {
		before, found := t.labels.Get(e.Label)
		if e.Version != before.Version+1 && (!t.later || found || e.Version == 0) {
			return t, fmt.Errorf("replica: leaf %d has version %d of a label after %d", t.size, e.Version, before.Version)
		}
		t.labels = t.labels.Set(e)
	}
	return t.push(leaf), nil
}

// push adds a leaf to the Merkle tree (RFC 6962 §2.1): it completes as many subtrees as its
// number has ones at the end.
func (t tree) push(leaf []byte) tree {
	h := tlog.RecordHash(leaf)
	n := len(t.edge) - bits.TrailingZeros64(^t.size)
	for i := len(t.edge) - 1; i >= n; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	t.edge = append(t.edge[:n:n], h)
	t.size++
	return t
}

// rootOf is the root of leaves, whatever they say.
func rootOf(leaves []byte) [32]byte {
	var t tree
	for ; len(leaves) >= LeafLen; leaves = leaves[LeafLen:] {
		t = t.push(leaves[:LeafLen])
	}
	return t.root()
}

// root is the hash of the whole log (RFC 6962 §2.1).
func (t tree) root() [32]byte {
	if len(t.edge) == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return [32]byte(h)
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return [32]byte(h)
}

// extend appends many leaves, one after the other in b.
func (t tree) extend(b []byte) (tree, error) {
	var err error
	for ; len(b) >= LeafLen && err == nil; b = b[LeafLen:] {
		t, err = t.append(b[:LeafLen])
	}
	if err == nil && len(b) > 0 {
		err = fmt.Errorf("replica: %d bytes after the last leaf", len(b))
	}
	return t, err
}
