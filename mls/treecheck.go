package mls

import (
	"slices"

	"github.com/entente-im/entente/mls/internal/parallel"
)

// Verify checks a tree that somebody sent (RFC 9420 §12.4.3.1): parent hashes,
// unmerged leaves, each leaf with its signature, unique keys, and every leaf's
// credential at the validator. The tree hash is compared by the caller.
func (t *Tree) Verify(groupID []byte, extensions []Extension, v CredentialValidator) error {
	if err := t.verifyParents(); err != nil {
		return err
	}
	if err := t.verifyParentHashes(); err != nil {
		return err
	}
	if err := t.checkMembers(extensions); err != nil {
		return err
	}
	signed := t.checkLeaves(groupID)
	return t.Leaves(func(l LeafIndex, leaf *LeafNode) error {
		if err := signed[l]; err != nil {
			return err
		}
		return askValidator(v, LeafCheck{Entry: EntryTree, GroupID: groupID, New: leaf})
	})
}

// checkLeaves checks each leaf with its signature, on all processors.
func (t *Tree) checkLeaves(groupID []byte) []error {
	found := make([]error, t.Width())
	parallel.Each(len(found), func(i int) {
		leaf := t.nodes[2*i].leaf
		if leaf == nil {
			return
		}
		if found[i] = leaf.checkAlone(t.suite); found[i] == nil {
			found[i] = leaf.VerifySignature(t.suite, groupID, LeafIndex(i))
		}
	})
	return found
}

// verifyParents checks each parent's key and its unmerged leaves: members below
// it that every non-blank node between them lists too.
func (t *Tree) verifyParents() error {
	for x := NodeIndex(1); int(x) < len(t.nodes); x += 2 {
		p := t.nodes[x].parent
		if p == nil {
			continue
		}
		if t.suite.CheckPublicKey(p.EncryptionKey) != nil {
			return refuse(ErrTree, "key of node %d", x)
		}
		for _, l := range p.Unmerged {
			if t.Leaf(l) == nil || !l.Node().Within(x) {
				return refuse(ErrTree, "node %d lists leaf %d as unmerged", x, l)
			}
			for y := l.Node().Parent(); y != x; y = y.Parent() {
				if q := t.nodes[y].parent; q != nil {
					if _, ok := slices.BinarySearch(q.Unmerged, l); !ok {
						return refuse(ErrTree, "node %d does not list leaf %d as unmerged", y, l)
					}
				}
			}
		}
	}
	return nil
}

// checkMembers checks what the leaves have to be to each other and to the group
// (§7.3): unique signature keys, encryption keys unique in the whole tree,
// everybody knows everybody's credential type and the group's extensions.
func (t *Tree) checkMembers(extensions []Extension) error {
	rc, err := requiredCapabilities(extensions)
	if err != nil {
		return err
	}
	inUse := map[CredentialType]bool{}
	sigs := make(map[string]bool, t.Width())
	keys := make(map[string]bool, len(t.nodes))
	for x, n := range t.nodes {
		if n.blank() {
			continue
		}
		if k := string(n.key()); keys[k] {
			return refuse(ErrTree, "node %d has a key that is used already", x)
		} else {
			keys[k] = true
		}
		if n.leaf == nil {
			continue
		}
		if k := string(n.leaf.SignatureKey); sigs[k] {
			return refuse(ErrTree, "leaf %d has a signature key that is used already", x/2)
		} else {
			sigs[k] = true
		}
		inUse[n.leaf.Credential.Type] = true
	}
	return t.Leaves(func(l LeafIndex, leaf *LeafNode) error {
		for c := range inUse {
			if !slices.Contains(leaf.Capabilities.Credentials, c) {
				return refuse(ErrLeaf, "leaf %d does not support credential type %d", l, c)
			}
		}
		return leaf.checkContext(extensions, rc)
	})
}
