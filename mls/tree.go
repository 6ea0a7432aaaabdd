package mls

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls/internal/tls"
)

// MaxMembers is the widest tree that is accepted, in leaves.
const MaxMembers = 1 << 16

// ParentNode is an intermediate node of the tree (RFC 9420 §7.1). Immutable
// once it is in a Tree.
type ParentNode struct {
	EncryptionKey []byte
	ParentHash    []byte
	Unmerged      []LeafIndex // increasing
}

func (p *ParentNode) write(w *tls.Writer) {
	w.Vec(p.EncryptionKey)
	w.Vec(p.ParentHash)
	w.Vector(func(w *tls.Writer) {
		for _, l := range p.Unmerged {
			w.U32(uint32(l))
		}
	})
}

func readParentNode(r *tls.Reader) *ParentNode {
	p := &ParentNode{EncryptionKey: r.Vec(), ParentHash: r.Vec()}
	r.Each(func(r *tls.Reader) {
		l := LeafIndex(r.U32())
		if n := len(p.Unmerged); n > 0 && p.Unmerged[n-1] >= l { // §7.1: sorted
			r.Fail(refuse(ErrDecode, "unmerged leaves not increasing"))
		}
		p.Unmerged = append(p.Unmerged, l)
	})
	return p
}

// node is one place of the array; both fields nil is a blank.
type node struct {
	leaf   *LeafNode
	parent *ParentNode
}

func (n node) blank() bool { return n.leaf == nil && n.parent == nil }

func (n node) key() []byte {
	if n.leaf != nil {
		return n.leaf.EncryptionKey
	}
	return n.parent.EncryptionKey
}

// Tree is a ratchet tree (§7), always full: a power of two of leaves. Nodes are
// shared between copies and never changed; a Tree itself is changed only by who
// made the copy, before it hands it on with all hashes computed.
type Tree struct {
	suite  *Suite
	nodes  []node
	hashes [][]byte // tree hash per node, nil when not known
}

// NewTree makes a tree with one leaf.
func NewTree(s *Suite, leaf *LeafNode) *Tree {
	return &Tree{suite: s, nodes: []node{{leaf: leaf}}, hashes: make([][]byte, 1)}
}

// ParseTree reads optional<Node> ratchet_tree<V> (§12.4.3.3): the content of
// the ratchet_tree extension. It checks the shape only; see Tree.Verify.
func ParseTree(s *Suite, b []byte) (*Tree, error) {
	t := &Tree{suite: s}
	r := tls.NewReader(b)
	r.Each(func(r *tls.Reader) {
		var n node
		if r.Bool() {
			switch kind := r.U8(); {
			case kind == 1 && len(t.nodes)%2 == 0:
				n.leaf = readLeafNode(r)
			case kind == 2 && len(t.nodes)%2 == 1:
				n.parent = readParentNode(r)
			default:
				r.Fail(refuse(ErrTree, "node of the wrong kind"))
			}
		}
		if len(t.nodes) >= 2*MaxMembers {
			r.Fail(refuse(ErrLimit, "tree wider than %d leaves", MaxMembers))
		}
		t.nodes = append(t.nodes, n)
	})
	if err := r.Done(); err != nil {
		return nil, err
	}
	if len(t.nodes) == 0 || t.nodes[len(t.nodes)-1].blank() {
		return nil, refuse(ErrTree, "ends in a blank node")
	}
	full := 1 // at most twice what was sent
	for full < len(t.nodes) {
		full = 2*full + 1
	}
	t.nodes = append(t.nodes, make([]node, full-len(t.nodes))...)
	t.hashes = make([][]byte, len(t.nodes))
	return t, nil
}

// Encode is the inverse of ParseTree: trailing blanks are left out.
func (t *Tree) Encode() []byte {
	end := len(t.nodes)
	for end > 0 && t.nodes[end-1].blank() {
		end--
	}
	w := tls.NewWriter(256 * (end + 1))
	w.Vector(func(w *tls.Writer) {
		for _, n := range t.nodes[:end] {
			w.Bool(!n.blank())
			switch {
			case n.leaf != nil:
				w.U8(1)
				n.leaf.write(w)
			case n.parent != nil:
				w.U8(2)
				n.parent.write(w)
			}
		}
	})
	return w.B
}

// Copy makes a tree that can be changed without changing t.
func (t *Tree) Copy() *Tree {
	return &Tree{suite: t.suite, nodes: slices.Clone(t.nodes), hashes: slices.Clone(t.hashes)}
}

// Width is the number of leaves, blank ones included.
func (t *Tree) Width() uint32 { return uint32(len(t.nodes)+1) / 2 }

// Root is the root's index.
func (t *Tree) Root() NodeIndex { return Root(t.Width()) }

// Leaf returns the leaf at l, nil when blank or outside the tree.
func (t *Tree) Leaf(l LeafIndex) *LeafNode {
	if uint64(l) >= uint64(t.Width()) {
		return nil
	}
	return t.nodes[l.Node()].leaf
}

// NodeKey returns the encryption key of a node, nil when it is blank.
func (t *Tree) NodeKey(x NodeIndex) []byte {
	if int(x) >= len(t.nodes) || t.nodes[x].blank() {
		return nil
	}
	return t.nodes[x].key()
}

// Leaves calls f for each leaf that is not blank, in order.
func (t *Tree) Leaves(f func(LeafIndex, *LeafNode) error) error {
	for i := 0; i < len(t.nodes); i += 2 {
		if l := t.nodes[i].leaf; l != nil {
			if err := f(LeafIndex(i/2), l); err != nil {
				return err
			}
		}
	}
	return nil
}

// FindLeaf finds the leaf with this encoding-relevant identity: the same
// signature key. Signature keys are unique in a valid tree.
func (t *Tree) FindLeaf(signatureKey []byte) (LeafIndex, bool) {
	for i := 0; i < len(t.nodes); i += 2 {
		if l := t.nodes[i].leaf; l != nil && bytes.Equal(l.SignatureKey, signatureKey) {
			return LeafIndex(i / 2), true
		}
	}
	return 0, false
}

// Path lists the ancestors of a leaf, root last.
func (t *Tree) Path(l LeafIndex) []NodeIndex { return DirectPath(l.Node(), t.Width()) }

// set replaces a node; the hashes above it are no longer known.
func (t *Tree) set(x NodeIndex, n node) {
	t.nodes[x] = n
	t.hashes[x] = nil
	for root := t.Root(); x != root; {
		x = x.Parent()
		t.hashes[x] = nil
	}
}

// NextLeaf is where Add puts a leaf: the leftmost blank, possibly beyond the
// present width.
func (t *Tree) NextLeaf() LeafIndex {
	for i := 0; i < len(t.nodes); i += 2 {
		if t.nodes[i].blank() {
			return LeafIndex(i / 2)
		}
	}
	return LeafIndex(t.Width())
}

// Add puts a leaf in (§7.7), widening the tree when it is full, and notes it as
// unmerged above.
func (t *Tree) Add(leaf *LeafNode) (LeafIndex, error) {
	l := t.NextLeaf()
	if uint32(l) >= t.Width() {
		if t.Width() >= MaxMembers {
			return 0, refuse(ErrLimit, "more than %d members", MaxMembers)
		}
		grown := 2*len(t.nodes) + 1
		t.nodes = append(t.nodes, make([]node, grown-len(t.nodes))...)
		t.hashes = append(t.hashes, make([][]byte, grown-len(t.hashes))...)
	}
	t.set(l.Node(), node{leaf: leaf})
	for _, x := range t.Path(l) {
		p := t.nodes[x].parent
		if p == nil {
			continue
		}
		c := *p
		at, _ := slices.BinarySearch(p.Unmerged, l)
		c.Unmerged = slices.Insert(slices.Clone(p.Unmerged), at, l)
		t.nodes[x].parent = &c
	}
	return l, nil
}

// Update replaces a leaf by an Update proposal's and blanks what is above
// (§12.1.2).
func (t *Tree) Update(l LeafIndex, leaf *LeafNode) {
	t.set(l.Node(), node{leaf: leaf})
	t.blankPath(l)
}

// Remove blanks a leaf and what is above, and cuts off an empty right half
// (§7.7).
func (t *Tree) Remove(l LeafIndex) {
	t.set(l.Node(), node{})
	t.blankPath(l)
	for t.Width() > 1 && t.emptyRight() {
		half := len(t.nodes) / 2
		t.nodes, t.hashes = t.nodes[:half:half], t.hashes[:half:half]
	}
}

func (t *Tree) emptyRight() bool {
	for i := len(t.nodes)/2 + 1; i < len(t.nodes); i += 2 {
		if !t.nodes[i].blank() {
			return false
		}
	}
	return true
}

func (t *Tree) blankPath(l LeafIndex) {
	for _, x := range t.Path(l) {
		t.nodes[x] = node{}
	}
}

// Resolution is that of §4.1.1: the fewest nodes that cover the subtree.
func (t *Tree) Resolution(x NodeIndex) []NodeIndex { return t.resolve(nil, x) }

func (t *Tree) resolve(out []NodeIndex, x NodeIndex) []NodeIndex {
	n := t.nodes[x]
	switch {
	case n.leaf != nil:
		return append(out, x)
	case n.parent != nil:
		out = append(out, x)
		for _, l := range n.parent.Unmerged {
			out = append(out, l.Node())
		}
		return out
	case x.IsLeaf():
		return out
	}
	return t.resolve(t.resolve(out, x.Left()), x.Right())
}

func (t *Tree) hasResolution(x NodeIndex) bool {
	if !t.nodes[x].blank() {
		return true
	}
	return !x.IsLeaf() && (t.hasResolution(x.Left()) || t.hasResolution(x.Right()))
}

// PathStep is a node of a filtered direct path and its copath child: the
// child that is not above the leaf.
type PathStep struct {
	Node   NodeIndex
	Copath NodeIndex
}

// FilteredPath is the direct path of a leaf without the nodes whose copath
// child resolves to nothing (§4.1.2).
func (t *Tree) FilteredPath(l LeafIndex) []PathStep {
	var out []PathStep
	x := l.Node()
	for root := t.Root(); x != root; x = x.Parent() {
		if s := x.Sibling(); t.hasResolution(s) {
			out = append(out, PathStep{Node: x.Parent(), Copath: s})
		}
	}
	return out
}
