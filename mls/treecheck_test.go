package mls

import (
	"errors"
	"os"
	"testing"
)

// ownTree is a tree of our own making with unmerged leaves and blanks, in
// testdata: GroupInfo with the tree, as an MLSMessage.
func ownTree(t testing.TB) (*GroupInfo, *Tree) {
	t.Helper()
	b, err := os.ReadFile("testdata/groupinfo.bin")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	s, err := LookupSuite(m.GroupInfo.Context.Suite)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := m.GroupInfo.Tree(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.GroupInfo, tree
}

func TestATreeOfOurOwnVerifies(t *testing.T) {
	gi, tree := ownTree(t)
	if err := tree.Verify(gi.Context.GroupID, gi.Context.Extensions, acceptAll{}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenGroupInfo(gi, nil, PublicOptions{Validator: acceptAll{}}); err != nil {
		t.Fatal(err)
	}
}

func TestATreeThatWasTamperedWithIsRefused(t *testing.T) {
	gi, good := ownTree(t)
	parent := func(tree *Tree, x NodeIndex, edit func(*ParentNode)) bool {
		p := tree.nodes[x].parent
		if p == nil {
			return false
		}
		c := *p
		edit(&c)
		tree.set(x, node{parent: &c})
		return true
	}
	n := 0
	try := func(what string, x int, edit func(*Tree) bool) {
		tree := good.Copy()
		if !edit(tree) {
			return
		}
		n++
		if err := tree.Verify(gi.Context.GroupID, gi.Context.Extensions, acceptAll{}); err == nil {
			t.Errorf("%s at node %d: accepted", what, x)
		}
	}
	unmerged := 0
	for x := range good.nodes {
		i := NodeIndex(x)
		try("parent hash", x, func(tree *Tree) bool {
			return parent(tree, i, func(p *ParentNode) { p.ParentHash = append([]byte{1}, p.ParentHash...) })
		})
		try("other key", x, func(tree *Tree) bool {
			_, pub, _ := tree.suite.GenerateKeyPair()
			return parent(tree, i, func(p *ParentNode) { p.EncryptionKey = pub })
		})
		try("zero key", x, func(tree *Tree) bool {
			return parent(tree, i, func(p *ParentNode) { p.EncryptionKey = make([]byte, 32) })
		})
		try("unmerged leaf dropped", x, func(tree *Tree) bool {
			if p := tree.nodes[i].parent; p == nil || len(p.Unmerged) == 0 {
				return false
			}
			unmerged++
			return parent(tree, i, func(p *ParentNode) { p.Unmerged = p.Unmerged[1:] })
		})
		try("unmerged leaf outside the tree", x, func(tree *Tree) bool {
			return parent(tree, i, func(p *ParentNode) { p.Unmerged = append(p.Unmerged[:len(p.Unmerged):len(p.Unmerged)], 1<<30) })
		})
		try("node blanked below", x, func(tree *Tree) bool {
			if tree.nodes[i].parent == nil || i.Left().IsLeaf() || tree.nodes[i.Left()].blank() || tree.nodes[i.Right()].blank() {
				return false
			}
			tree.set(i.Left(), node{})
			return true
		})
		if leaf := good.nodes[x].leaf; leaf != nil {
			try("leaf signature", x, func(tree *Tree) bool {
				c := *leaf
				c.Signature = append([]byte{c.Signature[0] ^ 1}, c.Signature[1:]...)
				tree.set(i, node{leaf: &c})
				return true
			})
			try("leaf moved", x, func(tree *Tree) bool {
				if leaf.Source == SourceKeyPackage {
					return false
				}
				l, err := tree.Add(leaf)
				tree.set(i, node{})
				return err == nil && l.Node() != i
			})
			try("leaf twice", x, func(tree *Tree) bool {
				_, err := tree.Add(leaf)
				return err == nil
			})
		}
	}
	if unmerged == 0 || n < 20 {
		t.Fatalf("%d cases, %d with unmerged leaves: the tree in testdata shows too little", n, unmerged)
	}
}

func TestATreeWithAnotherHashOrSignerIsRefused(t *testing.T) {
	gi, tree := ownTree(t)
	bare := *gi
	bare.Extensions = nil
	if _, err := OpenGroupInfo(&bare, tree.Encode(), PublicOptions{Validator: acceptAll{}}); !errors.Is(err, ErrGroupInfo) {
		t.Fatalf("signature does not cover the extensions: %v", err)
	}
	other := tree.Copy()
	other.Remove(2)
	for _, b := range [][]byte{other.Encode(), nil, {0}} {
		if _, err := bare.Tree(tree.suite, b); err == nil {
			t.Fatalf("tree of %d bytes accepted", len(b))
		}
	}
	blank := *gi
	blank.Signer = 1 << 20
	if _, err := OpenGroupInfo(&blank, nil, PublicOptions{Validator: acceptAll{}}); !errors.Is(err, ErrGroupInfo) {
		t.Fatalf("signer that is no member: %v", err)
	}
}

func TestNestedUnmergedLeavesAreValid(t *testing.T) {
	gi, tree := ownTree(t)
	nested := 0
	for x := NodeIndex(3); int(x) < len(tree.nodes); x += 2 {
		p := tree.nodes[x].parent
		if p == nil || len(p.Unmerged) < 2 {
			continue
		}
		for _, c := range []NodeIndex{x.Left(), x.Right()} {
			if q := tree.nodes[c].parent; q != nil && len(q.Unmerged) > 0 {
				nested++
			}
		}
	}
	if nested == 0 {
		t.Fatal("the tree in testdata has no nested unmerged leaves")
	}
	if err := tree.Verify(gi.Context.GroupID, gi.Context.Extensions, acceptAll{}); err != nil {
		t.Fatal(err)
	}
}

func TestNodesOfTheWrongKindAndBlankEndsAreRefused(t *testing.T) {
	_, tree := ownTree(t)
	leaf := tree.Leaf(0)
	bad := &Tree{suite: tree.suite, nodes: []node{{parent: &ParentNode{EncryptionKey: []byte("k")}}}}
	if _, err := ParseTree(tree.suite, bad.Encode()); !errors.Is(err, ErrTree) {
		t.Fatal(err)
	}
	bad.nodes = []node{{leaf: leaf}, {leaf: leaf}}
	if _, err := ParseTree(tree.suite, bad.Encode()); !errors.Is(err, ErrTree) {
		t.Fatal(err)
	}
	for _, b := range [][]byte{{0}, {1, 0}, {2, 0, 0}, {1, 2}} {
		if _, err := ParseTree(tree.suite, b); err == nil {
			t.Fatalf("%x accepted", b)
		}
	}
}
