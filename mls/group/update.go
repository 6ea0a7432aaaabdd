package group

import (
	"bytes"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// MaxOwnUpdates bounds our own Update proposals of one epoch.
const MaxOwnUpdates = 8

// ownUpdate is the key pair of a leaf that we proposed: it comes into use with
// the Commit that takes the proposal, by somebody else, and is gone with the
// epoch otherwise.
type ownUpdate struct {
	public  []byte
	private []byte
}

// ProposeUpdate makes a proposal to replace our leaf by one with a fresh key (RFC
// 9420 §12.1.2), and the state that knows its private key. credential is a renewed
// one, or nil. It heals when another member commits it; our own Commit renews the
// leaf by its path and leaves the proposal out.
func (s *State) ProposeUpdate(credential *mls.Credential, aad []byte) (*State, []byte, error) {
	if len(s.updates) >= MaxOwnUpdates {
		return nil, nil, mls.ErrLimit
	}
	suite := s.pub.Suite()
	priv, pub, err := suite.GenerateKeyPair()
	if err != nil {
		return nil, nil, err
	}
	leaf := *s.pub.Member(s.priv.leaf)
	leaf.EncryptionKey, leaf.Source, leaf.ParentHash = pub, mls.SourceUpdate, nil
	leaf.NotBefore, leaf.NotAfter = 0, 0
	if credential != nil {
		leaf.Credential = *credential
	}
	if err := leaf.Sign(suite, s.cfg.Signer, s.GroupID(), s.priv.leaf); err != nil {
		return nil, nil, err
	}
	n, msg, err := s.propose(&mls.Proposal{Type: mls.ProposalUpdate, Update: &leaf}, aad)
	if err != nil {
		return nil, nil, err
	}
	n.updates = append(s.updates[:len(s.updates):len(s.updates)], ownUpdate{public: pub, private: priv})
	return n, msg, nil
}

// ownKeys are our private keys as a Commit finds them: with the leaf key of our
// own Update when the Commit takes it.
func (s *State) ownKeys(st *mls.StagedCommit) (privateTree, error) {
	for _, u := range st.Effects.Updated {
		if u.Leaf != s.priv.leaf {
			continue
		}
		for _, o := range s.updates {
			if bytes.Equal(o.public, u.New.EncryptionKey) {
				p := s.priv.clone()
				p.keys[p.leaf.Node()] = o.private
				return p, nil
			}
		}
		return privateTree{}, ErrRecord // proposed with a state that was lost
	}
	return s.priv, nil
}

func (s *State) writeUpdates(w *tls.Writer) {
	w.Vector(func(w *tls.Writer) {
		for _, u := range s.updates {
			w.Vec(u.private)
		}
	})
}

func (s *State) readUpdates(r *tls.Reader) {
	r.Each(func(r *tls.Reader) {
		u := ownUpdate{private: r.Vec()}
		var err error
		if u.public, err = s.pub.Suite().PublicOf(u.private); err != nil || len(s.updates) >= MaxOwnUpdates {
			r.Fail(ErrRecord)
			return
		}
		s.updates = append(s.updates, u)
	})
}
