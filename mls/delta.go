package mls

import (
	"bytes"
	"crypto/subtle"
	"errors"

	"github.com/entente-im/entente/mls/internal/tls"
)

// ErrDelta is returned for a delta that was made from another state than the one
// it is applied to.
var ErrDelta = errors.New("mls: delta of another state")

const deltaVersion = 1

// Delta encodes what is different in next, which Process made from g: the nodes
// of the tree that changed, the context, and the pending proposals that came or
// went. It holds no secret. Its size grows with the change and not with the group:
// after an empty Commit, a leaf and one node for each level of the tree. A store
// appends it to a snapshot (Marshal), and writes a new snapshot when the deltas have
// outgrown the last one. Between states that were read apart from each other it is
// right too, and as long as the tree.
func (g *PublicGroup) Delta(next *PublicGroup) []byte {
	w := tls.NewWriter(1024)
	w.U8(deltaVersion)
	w.Vec(g.stateHash())
	same := sameExtensions(g.ctx.Extensions, next.ctx.Extensions)
	ctx := next.ctx
	w.Bool(same)
	if same {
		ctx.Extensions = nil
	}
	w.Vec(ctx.Encode())
	w.Vec(next.tag)
	w.U32(uint32(next.committer))
	w.U32(next.tree.Width())
	w.Vector(func(w *tls.Writer) { g.tree.writeChanges(w, next.tree) })
	keep := 0
	for keep < min(len(g.pending), len(next.pending)) && bytes.Equal(g.pending[keep].ref, next.pending[keep].ref) {
		keep++
	}
	w.U32(uint32(keep))
	w.Vector(func(w *tls.Writer) {
		for _, p := range next.pending[keep:] {
			w.Vec(p.content.Encode())
		}
	})
	return w.B
}

// stateHash names a state: context, confirmation tag and pending proposals.
func (g *PublicGroup) stateHash() []byte {
	w := tls.NewWriter(512)
	w.Vec(g.encoded)
	w.Vec(g.tag)
	w.U32(uint32(g.committer))
	for _, p := range g.pending {
		w.Vec(p.ref)
	}
	return g.suite.Hash(w.B)
}

// writeChanges writes the nodes of next that are not t's. Beyond t all are blank.
func (t *Tree) writeChanges(w *tls.Writer, next *Tree) {
	for x, n := range next.nodes {
		old := node{}
		if x < len(t.nodes) {
			old = t.nodes[x]
		}
		if old == n { // nodes are shared between copies
			continue
		}
		w.U32(uint32(x))
		switch {
		case n.leaf != nil:
			w.U8(1)
			n.leaf.write(w)
		case n.parent != nil:
			w.U8(2)
			n.parent.write(w)
		default:
			w.U8(0)
		}
	}
}

// ApplyDelta is the inverse of Delta. The bytes are the caller's own and authentic,
// as those of UnmarshalPublicGroup are: that the delta is of this state, its shape
// and the tree hash are checked, signatures are not again. An ErrDelta says that
// it follows another state.
func (g *PublicGroup) ApplyDelta(delta []byte) (*PublicGroup, error) {
	r := tls.NewReader(delta)
	if v := r.U8(); r.Err() == nil && v != deltaVersion {
		return nil, refuse(ErrDecode, "delta version %d", v)
	}
	if base := r.Vec(); r.Err() == nil && subtle.ConstantTimeCompare(base, g.stateHash()) != 1 {
		return nil, ErrDelta
	}
	sameExt, ctxBytes, tag, committer := r.Bool(), r.Vec(), r.Vec(), LeafIndex(r.U32())
	t := g.tree.Copy()
	t.resize(r, r.U32())
	r.Each(t.readChange)
	keep := r.U32()
	var came []*Content
	r.Each(func(r *tls.Reader) { came = append(came, readPending(r, len(came))) })
	if err := r.Done(); err != nil {
		return nil, err
	}
	if uint64(keep)+uint64(len(came)) > MaxPending || uint64(keep) > uint64(len(g.pending)) {
		return nil, refuse(ErrDecode, "pending proposals")
	}
	ctx, err := ParseGroupContext(ctxBytes)
	if err != nil {
		return nil, err
	}
	if sameExt {
		if len(ctx.Extensions) > 0 {
			return nil, refuse(ErrDecode, "extensions in a delta without")
		}
		ctx.Extensions = g.ctx.Extensions
	}
	if ctx.Suite != g.ctx.Suite || !bytes.Equal(ctx.GroupID, g.ctx.GroupID) {
		return nil, refuse(ErrDecode, "delta of another group")
	}
	if !bytes.Equal(t.Hash(), ctx.TreeHash) {
		return nil, refuse(ErrTree, "hash differs from the context's")
	}
	n := newPublicGroup(*ctx, t, tag, committer, g.opts)
	n.pending = append(n.pending, g.pending[:keep]...)
	for _, c := range came {
		n.pending = append(n.pending, pendingProposal{ref: c.Ref(g.suite), content: c})
	}
	return n, nil
}

// readPending reads a stored proposal, the i-th of its list.
func readPending(r *tls.Reader, i int) *Content {
	c, err := ParseContent(r.Vec())
	if err != nil || c.Type != ContentProposal || i >= MaxPending {
		r.Fail(ErrDecode)
		return nil
	}
	return c
}

// resize cuts the tree or fills it up with blanks, to at most MaxMembers leaves.
func (t *Tree) resize(r *tls.Reader, width uint32) {
	if width == 0 || width > MaxMembers || width&(width-1) != 0 || r.Err() != nil {
		r.Fail(refuse(ErrDecode, "tree width"))
		return
	}
	if size := int(2*width - 1); size <= len(t.nodes) {
		t.nodes, t.hashes = t.nodes[:size:size], t.hashes[:size:size]
	} else {
		t.nodes = append(t.nodes, make([]node, size-len(t.nodes))...)
		t.hashes = append(t.hashes, make([][]byte, size-len(t.hashes))...)
	}
}

// readChange reads one node and puts it in its place.
func (t *Tree) readChange(r *tls.Reader) {
	x := NodeIndex(r.U32())
	var n node
	switch kind := r.U8(); {
	case uint64(x) >= uint64(len(t.nodes)):
		r.Fail(refuse(ErrDecode, "node %d outside the tree", x))
	case kind == 0:
	case kind == 1 && x.IsLeaf():
		n.leaf = readLeafNode(r)
	case kind == 2 && !x.IsLeaf():
		n.parent = readParentNode(r)
	default:
		r.Fail(refuse(ErrTree, "node of the wrong kind"))
	}
	if r.Err() == nil {
		t.set(x, n)
	}
}
