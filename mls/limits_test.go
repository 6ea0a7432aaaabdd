package mls

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/entente-im/entente/mls/internal/tls"
)

// fullTree has MaxMembers leaves but for the last n, all the same: what is tested
// looks at blanks only.
func fullTree(t *testing.T, but int) *Tree {
	t.Helper()
	_, own := ownTree(t)
	full := &Tree{suite: own.suite, nodes: make([]node, 2*MaxMembers-1), hashes: make([][]byte, 2*MaxMembers-1)}
	for l := range MaxMembers - but {
		full.nodes[2*l] = node{leaf: own.Leaf(0)}
	}
	return full
}

func TestATreeTakesAsManyMembersAsItMayAndNoMore(t *testing.T) {
	tree := fullTree(t, 1)
	leaf := tree.Leaf(0)
	if l, err := tree.Add(leaf); err != nil || l != MaxMembers-1 {
		t.Fatalf("the last place: leaf %d, %v", l, err)
	}
	nodes := len(tree.nodes)
	if _, err := tree.Add(leaf); !errors.Is(err, ErrLimit) {
		t.Fatalf("one more: %v", err)
	}
	if len(tree.nodes) != nodes || len(tree.hashes) != nodes {
		t.Fatal("a refused member made the tree wider")
	}
}

func TestNobodyComesFromOutsideIntoAFullTree(t *testing.T) {
	a := &Applied{Tree: fullTree(t, 0), external: true}
	if err := a.AddJoiner(a.Tree.Leaf(0)); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
	if len(a.Added) != 0 || a.Tree.Width() != MaxMembers {
		t.Fatal("a refused joiner is among the members")
	}
}

func TestAnAddToAFullTreeIsRefused(t *testing.T) {
	a := &Applied{Tree: fullTree(t, 0)}
	leaf := *a.Tree.Leaf(0)
	leaf.SignatureKey = []byte("of another client")
	add := Sent{Proposal: &Proposal{Type: ProposalAdd, Add: &KeyPackage{Leaf: &leaf}}}
	if err := a.applyAdds([]Sent{add}); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
	if len(a.Added) != 0 || len(a.AddedKeys) != 0 {
		t.Fatal("a refused client is among the members")
	}
}

func TestAVectorHeaderEndsAtItsLimit(t *testing.T) {
	if got := tls.AppendHeader(nil, tls.MaxVector); !bytes.Equal(got, []byte{0xbf, 0xff, 0xff, 0xff}) {
		t.Fatalf("the longest vector has the header %x", got)
	}
	if r := tls.NewReader([]byte{0xc0, 0, 0, 0, 0, 0, 0, 0}); r.VectorLen() != 0 || r.Err() == nil {
		t.Fatal("a header of eight bytes was read")
	}
	defer func() {
		if recover() == nil {
			t.Fatal("a header for a longer one was written")
		}
	}()
	tls.AppendHeader(nil, tls.MaxVector+1)
}

func TestAKeyPackageLastsAsLongAsItMayAndNoLonger(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	_, tree := ownTree(t)
	leaf := *tree.Leaf(0)
	leaf.Source, leaf.NotBefore = SourceKeyPackage, uint64(now.Unix())
	for seconds, want := range map[uint64]error{0: nil, 1: ErrLifetime, ^uint64(0) - leaf.NotBefore: ErrLifetime} {
		leaf.NotAfter = leaf.NotBefore + uint64(MaxKeyPackageLifetime/time.Second) + seconds
		if err := (&KeyPackage{Leaf: &leaf}).CheckLifetime(now); !errors.Is(err, want) {
			t.Errorf("%d seconds too long: %v", seconds, err)
		}
	}
}
