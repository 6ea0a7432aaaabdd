package group

import (
	"errors"
	"fmt"
	"testing"

	"github.com/entente-im/entente/mls"
)

// Signatures are verified on several processors: each of them counts, and the
// first that is wrong in the order of the list decides.
func TestOneBadSignatureAmongManyIsFound(t *testing.T) {
	room := newRoom(t, 2)
	s := room[0].st.pub.Suite()
	for bad := range 12 {
		var list []*mls.Proposal
		for i := range 12 {
			x := newClient(t, fmt.Sprintf("x%d", i))
			kp, err := mls.ParseKeyPackage(x.kp)
			must(t, err)
			switch {
			case i == bad:
				kp.Leaf.Signature[0] ^= 1
				must(t, kp.Sign(s, x.cfg.Signer))
			case i > bad:
				kp.Signature[0] ^= 1
			}
			list = append(list, &mls.Proposal{Type: mls.ProposalAdd, Add: kp})
		}
		room[1].refuses(room[0].forge(byValue(list...)), mls.ErrLeaf)
	}
	for bad := range mls.LeafIndex(8) {
		var tree *mls.Tree
		for i := range 8 {
			kp, err := mls.ParseKeyPackage(newClient(t, fmt.Sprint(i)).kp)
			must(t, err)
			if i == 0 {
				tree = mls.NewTree(s, kp.Leaf)
			} else if _, err := tree.Add(kp.Leaf); err != nil {
				t.Fatal(err)
			}
		}
		must(t, tree.Verify([]byte("room"), nil, testValidator{}))
		tree.Leaf(bad).Signature[0] ^= 1
		if err := tree.Verify([]byte("room"), nil, testValidator{}); !errors.Is(err, mls.ErrLeaf) {
			t.Fatalf("leaf %d: %v", bad, err)
		}
	}
}
