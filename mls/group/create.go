package group

import (
	"errors"

	"github.com/entente-im/entente/mls"
)

// CreateParams is what a group is made of.
type CreateParams struct {
	Suite          mls.SuiteID
	GroupID        []byte
	Credential     mls.Credential
	Capabilities   *mls.Capabilities // nil: mls.DefaultCapabilities
	Extensions     []mls.Extension   // of the GroupContext
	LeafExtensions []mls.Extension
}

// Create makes a group with ourselves alone in it (RFC 9420 §11). Its first
// epoch has a random secret and nobody else may join it: the first Commit has a
// path in any case.
func Create(cfg Config, p CreateParams) (*State, error) {
	s, err := mls.LookupSuite(p.Suite)
	if err != nil {
		return nil, err
	}
	if err := cfg.check(s); err != nil {
		return nil, err
	}
	if len(p.GroupID) == 0 || len(p.GroupID) > 255 {
		return nil, errors.New("group: group ID must have 1 to 255 bytes")
	}
	priv, pub, err := s.GenerateKeyPair()
	if err != nil {
		return nil, err
	}
	leaf, err := newLeaf(s, cfg.Signer, p.Credential, p.Capabilities, p.LeafExtensions)
	if err != nil {
		return nil, err
	}
	now := cfg.now()
	leaf.EncryptionKey, leaf.Source = pub, mls.SourceKeyPackage
	leaf.NotBefore, leaf.NotAfter = uint64(max(now.Add(-1*dayLength).Unix(), 0)), uint64(now.Add(90*dayLength).Unix())
	if err := leaf.Sign(s, cfg.Signer, nil, 0); err != nil {
		return nil, err
	}
	ctx := mls.GroupContext{Suite: p.Suite, GroupID: p.GroupID, Extensions: p.Extensions}
	g, err := mls.NewEpochZero(ctx, leaf, cfg.public())
	if err != nil {
		return nil, err
	}
	e := fromEpoch(s, mls.Random(s.HashLen()))
	g = g.WithTag(s.MAC(e.confirmation, nil))
	return enter(cfg, g, privateTree{keys: map[mls.NodeIndex][]byte{0: priv}}, e, nil)
}

const dayLength = DefaultKeepFor
