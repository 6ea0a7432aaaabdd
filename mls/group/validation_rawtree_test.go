package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// rawNode is a node of a ratchet tree as it is encoded: a leaf's bytes, or the
// fields of a parent node. Both nil is a blank.
type rawNode struct {
	leaf   []byte
	parent *mls.ParentNode
}

// rawTree takes a tree apart, so that it can be put together wrongly.
func rawTree(tree []byte) []*rawNode {
	var out []*rawNode
	r := tls.NewReader(tree)
	r.Each(func(r *tls.Reader) {
		n := &rawNode{}
		out = append(out, n)
		if !r.Bool() {
			return
		}
		if r.U8() == 1 {
			n.leaf = rawLeaf(r)
			return
		}
		n.parent = &mls.ParentNode{EncryptionKey: r.Vec(), ParentHash: r.Vec()}
		r.Each(func(r *tls.Reader) { n.parent.Unmerged = append(n.parent.Unmerged, mls.LeafIndex(r.U32())) })
	})
	if err := r.Done(); err != nil {
		panic(err)
	}
	return out
}

// rawLeaf copies a LeafNode (§7.2) field by field.
func rawLeaf(r *tls.Reader) []byte {
	var w tls.Writer
	w.Vec(r.Vec())
	w.Vec(r.Vec())
	w.U16(r.U16()) // credential
	w.Vec(r.Vec())
	for range 5 { // capabilities
		w.Vec(r.Vec())
	}
	source := r.U8()
	w.U8(source)
	switch mls.LeafSource(source) {
	case mls.SourceKeyPackage:
		w.U64(r.U64())
		w.U64(r.U64())
	case mls.SourceCommit:
		w.Vec(r.Vec())
	}
	w.Vec(r.Vec()) // extensions
	w.Vec(r.Vec()) // signature
	return w.B
}

// encodeRaw is the inverse of rawTree.
func encodeRaw(list []*rawNode) []byte {
	var w tls.Writer
	w.Vector(func(w *tls.Writer) {
		for _, n := range list {
			w.Bool(n.leaf != nil || n.parent != nil)
			switch {
			case n.leaf != nil:
				w.U8(1)
				w.Raw(n.leaf)
			case n.parent != nil:
				w.U8(2)
				w.Vec(n.parent.EncryptionKey)
				w.Vec(n.parent.ParentHash)
				w.Vector(func(w *tls.Writer) {
					for _, l := range n.parent.Unmerged {
						w.U32(uint32(l))
					}
				})
			}
		}
	})
	return w.B
}

func TestARawTreeIsTheTree(t *testing.T) {
	tree := theWorld(t).hub.Tree()
	list := rawTree(tree)
	if string(encodeRaw(list)) != string(tree) {
		t.Fatal("encodes to something else")
	}
	if list[11].parent == nil || len(list[11].parent.Unmerged) == 0 {
		t.Fatal("no unmerged leaf to tamper with")
	}
}
