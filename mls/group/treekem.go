package group

import (
	"bytes"
	"crypto"
	"errors"
	"maps"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/parallel"
)

// privateTree is a member's secret view of the ratchet tree (RFC 9420 §4.3): the
// private keys of its leaf and of the nodes above that it knows. A value.
type privateTree struct {
	leaf mls.LeafIndex
	keys map[mls.NodeIndex][]byte
}

func (p privateTree) clone() privateTree { return privateTree{leaf: p.leaf, keys: maps.Clone(p.keys)} }

// prune forgets the keys of nodes that are blank or have another key now.
func (p privateTree) prune(s *mls.Suite, t *mls.Tree) {
	for x, priv := range p.keys {
		pub, err := s.PublicOf(priv)
		if err != nil || !bytes.Equal(t.NodeKey(x), pub) {
			delete(p.keys, x)
		}
	}
}

// pathSecrets walks up from a path secret (§7.4): it sets the private keys of
// the nodes, in order, and returns the commit secret. publics are compared when
// given, so that no key is kept that does not fit the tree.
func (p privateTree) pathSecrets(s *mls.Suite, secret []byte, nodes []mls.NodeIndex, publics [][]byte) ([]byte, error) {
	for i, x := range nodes {
		node := s.DeriveSecret(secret, "node")
		priv, pub, err := s.DeriveKeyPair(node)
		erase(node)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(publics[i], pub) {
			return nil, mls.ErrCrypto
		}
		p.keys[x] = priv
		next := s.DeriveSecret(secret, "path")
		if i > 0 {
			erase(secret)
		}
		secret = next
	}
	return secret, nil
}

// openPath decrypts the path secret that a Commit holds for us and derives what
// is above (§7.5). It returns our new private keys and the commit secret.
func (p privateTree) openPath(s *mls.Suite, st *mls.StagedCommit) (privateTree, []byte, error) {
	return p.openPathInto(s, st, st.Next.RatchetTree())
}

// openPathInto is openPath for a tree that has the path in it.
func (p privateTree) openPathInto(s *mls.Suite, st *mls.StagedCommit, tree *mls.Tree) (privateTree, []byte, error) {
	own := p.leaf.Node()
	for i, step := range st.Steps {
		if !own.Within(step.Node) {
			continue
		}
		for j, x := range st.Applied.Recipients(step.Copath) {
			priv := p.keys[x]
			if priv == nil {
				continue
			}
			secret, err := s.DecryptWithLabel(priv, "UpdatePathNode", st.Provisional, st.Path.Nodes[i].Secrets[j])
			if err != nil {
				return p, nil, err
			}
			if len(secret) != s.HashLen() {
				return p, nil, mls.ErrCrypto
			}
			n := p.clone()
			n.prune(s, tree)
			var nodes []mls.NodeIndex
			var publics [][]byte
			for k := i; k < len(st.Steps); k++ {
				nodes = append(nodes, st.Steps[k].Node)
				publics = append(publics, st.Path.Nodes[k].EncryptionKey)
			}
			commit, err := n.pathSecrets(s, secret, nodes, publics)
			erase(secret)
			return n, commit, err
		}
		return p, nil, mls.ErrCrypto // nothing in it for us
	}
	return p, nil, mls.ErrCrypto
}

// newPath is a committer's fresh path (§7.5).
type newPath struct {
	update       *mls.UpdatePath
	private      privateTree
	commitSecret []byte
	secrets      map[mls.NodeIndex][]byte // path secret of each node, for Welcomes
}

// createPath puts a fresh path and leaf into the tree of st and encrypts the
// path secrets. leaf is the template of the new leaf; old private keys that
// still fit are taken over.
func createPath(g *mls.PublicGroup, st *mls.StagedCommit, leaf mls.LeafNode, old privateTree, signer crypto.Signer) (*newPath, error) {
	p, err := makePath(g.Suite(), g.GroupContext().GroupID, st, leaf, old, signer)
	if err != nil {
		return nil, err
	}
	ctx := g.ProvisionalContext(st.Applied)
	return p, p.encrypt(g.Suite(), st, ctx.Encode())
}

func makePath(s *mls.Suite, groupID []byte, st *mls.StagedCommit, leaf mls.LeafNode, old privateTree, signer crypto.Signer) (*newPath, error) {
	a := st.Applied
	leafPriv, leafPub, err := s.GenerateKeyPair()
	if err != nil {
		return nil, err
	}
	st.Steps = a.Tree.FilteredPath(a.Committer)
	fresh := map[mls.NodeIndex][]byte{a.Committer.Node(): leafPriv}
	p := &newPath{update: &mls.UpdatePath{}, secrets: map[mls.NodeIndex][]byte{}}
	keys, err := p.derive(s, st.Steps, fresh)
	if err != nil {
		return nil, err
	}
	parentHash, err := a.Tree.SetPath(a.Committer, keys)
	if err != nil {
		return nil, err
	}
	leaf.EncryptionKey, leaf.Source, leaf.ParentHash = leafPub, mls.SourceCommit, parentHash
	leaf.NotBefore, leaf.NotAfter = 0, 0
	if err := leaf.Sign(s, signer, groupID, a.Committer); err != nil {
		return nil, err
	}
	p.update.Leaf = &leaf
	a.Tree.SetLeaf(a.Committer, &leaf)
	p.private = privateTree{leaf: a.Committer, keys: map[mls.NodeIndex][]byte{}}
	maps.Copy(p.private.keys, old.keys)
	p.private.prune(s, a.Tree)
	maps.Copy(p.private.keys, fresh)
	return p, nil
}

// derive makes the chain of path secrets from a random one (§7.4), with the key
// pair of each node.
func (p *newPath) derive(s *mls.Suite, steps []mls.PathStep, fresh map[mls.NodeIndex][]byte) (keys [][]byte, err error) {
	secret := mls.Random(s.HashLen())
	for _, step := range steps {
		node := s.DeriveSecret(secret, "node")
		priv, pub, err := s.DeriveKeyPair(node)
		erase(node)
		if err != nil {
			return nil, err
		}
		fresh[step.Node], p.secrets[step.Node] = priv, secret
		keys = append(keys, pub)
		p.update.Nodes = append(p.update.Nodes, mls.UpdatePathNode{EncryptionKey: pub})
		secret = s.DeriveSecret(secret, "path")
	}
	p.commitSecret = secret
	return keys, nil
}

// encrypt seals each path secret to the resolution of the copath.
func (p *newPath) encrypt(s *mls.Suite, st *mls.StagedCommit, context []byte) error {
	type seal struct {
		key, secret []byte
		to          *mls.HPKECiphertext
	}
	var seals []seal
	for i, step := range st.Steps {
		recipients := st.Applied.Recipients(step.Copath)
		n := &p.update.Nodes[i]
		n.Secrets = append(n.Secrets, make([]mls.HPKECiphertext, len(recipients))...)
		out := n.Secrets[len(n.Secrets)-len(recipients):]
		for j, x := range recipients {
			seals = append(seals, seal{st.Applied.Tree.NodeKey(x), p.secrets[step.Node], &out[j]})
		}
	}
	failed := make([]error, len(seals))
	parallel.Each(len(seals), func(i int) {
		*seals[i].to, failed[i] = s.EncryptWithLabel(seals[i].key, "UpdatePathNode", context, seals[i].secret)
	})
	if errors.Join(failed...) != nil {
		return mls.ErrCrypto
	}
	return nil
}

// forNewMember finds the path secret that a new member gets in its Welcome: of
// the lowest node above both (§12.4.3.1). Nil when there is none, which cannot
// be with a path: the committer's common ancestor has a non-empty copath.
func (p *newPath) forNewMember(l mls.LeafIndex) []byte {
	return p.secrets[mls.CommonAncestor(p.private.leaf.Node(), l.Node())]
}
