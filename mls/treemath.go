package mls

import "math/bits"

// NodeIndex numbers the nodes of a full binary tree in its array form (RFC 9420
// Appendix C): leaf i is node 2i. LeafIndex numbers leaves alone.
type (
	NodeIndex uint32
	LeafIndex uint32
)

// Node is the leaf's place in the array.
func (l LeafIndex) Node() NodeIndex { return NodeIndex(2 * l) }

// IsLeaf says whether the node is at level 0.
func (x NodeIndex) IsLeaf() bool { return x&1 == 0 }

// Leaf is the leaf at node x, which must be one.
func (x NodeIndex) Leaf() LeafIndex { return LeafIndex(x / 2) }

func level(x NodeIndex) uint { return uint(bits.TrailingZeros32(^uint32(x))) }

// Root is the root of a tree with n leaves; n is a power of two.
func Root(n uint32) NodeIndex { return NodeIndex(n - 1) }

// Left is the left child of a parent node.
func (x NodeIndex) Left() NodeIndex { return x ^ (1 << (level(x) - 1)) }

// Right is the right child of a parent node.
func (x NodeIndex) Right() NodeIndex { return x ^ (3 << (level(x) - 1)) }

// Parent is the parent of a node that is not the root.
func (x NodeIndex) Parent() NodeIndex {
	k := level(x)
	return (x | 1<<k) &^ (1 << (k + 1))
}

// Sibling is the other child of the parent.
func (x NodeIndex) Sibling() NodeIndex {
	p := x.Parent()
	if x < p {
		return p.Right()
	}
	return p.Left()
}

// Within says whether x is in the subtree whose root is top.
func (x NodeIndex) Within(top NodeIndex) bool {
	half := NodeIndex(1)<<level(top) - 1
	return x >= top-half && x <= top+half
}

// DirectPath lists the ancestors of a node from its parent to the root (§4.1.2).
func DirectPath(x NodeIndex, n uint32) []NodeIndex {
	var out []NodeIndex
	for root := Root(n); x != root; {
		x = x.Parent()
		out = append(out, x)
	}
	return out
}

// CommonAncestor is the lowest node that is above (or is) both.
func CommonAncestor(x, y NodeIndex) NodeIndex {
	for !y.Within(x) {
		x = x.Parent()
	}
	return x
}

// leaves is the range of the leaves under x.
func (x NodeIndex) leaves() (first, last LeafIndex) {
	half := NodeIndex(1)<<level(x) - 1
	return (x - half).Leaf(), (x + half).Leaf()
}
