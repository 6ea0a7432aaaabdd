package group

import (
	"bytes"

	"github.com/entente-im/entente/mls"
)

// Process takes a proposal or a Commit (an MLSMessage, public or private) and
// returns the state afterwards. Nothing has changed on an error. When the Commit
// removes us, Effects.SelfRemoved is set and the state is the old one: erase it.
// Process does not judge who may add or remove whom: look at the effects, and
// drop the new state to refuse.
func (s *State) Process(msg []byte) (*State, *mls.Effects, error) {
	m, err := mls.ParseMessage(msg)
	if err != nil {
		return nil, nil, err
	}
	before := s
	s = s.tidy()
	var c *mls.Content
	switch {
	case m.PublicMessage != nil:
		c, err = s.openPublic(m.PublicMessage)
	case m.PrivateMessage != nil:
		s, c, err = s.openHandshake(m.PrivateMessage)
	default:
		return nil, nil, mls.ErrWireFormat
	}
	if err != nil {
		return nil, nil, err
	}
	if c.Type == mls.ContentProposal {
		pub, effects, err := s.pub.AddProposal(c)
		if err != nil {
			return nil, nil, err
		}
		n := *s
		if changed := pub != s.pub; changed || s != before {
			n.used(changed)
		}
		n.pub = pub
		return &n, effects, nil
	}
	if c.Sender.Type == mls.SenderMember && mls.LeafIndex(c.Sender.Index) == s.priv.leaf {
		return nil, nil, ErrOwnCommit
	}
	return s.processCommit(c)
}

// openPublic verifies signature and membership tag of a PublicMessage (RFC 9420
// §6.2).
func (s *State) openPublic(p *mls.PublicMessage) (*mls.Content, error) {
	c := p.Content
	if c.Type == mls.ContentApplication {
		return nil, mls.ErrSender
	}
	if err := s.pub.VerifyContent(c); err != nil {
		return nil, err
	}
	if c.Sender.Type == mls.SenderMember {
		if err := p.VerifyMembership(s.pub.Suite(), s.secrets.membership, s.pub.Context()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// openHandshake decrypts and verifies a PrivateMessage with a proposal or Commit.
func (s *State) openHandshake(p *mls.PrivateMessage) (*State, *mls.Content, error) {
	switch {
	case p.Type == mls.ContentApplication:
		return nil, nil, mls.ErrWireFormat
	case !bytes.Equal(p.GroupID, s.pub.GroupContext().GroupID):
		return nil, nil, mls.ErrWrongGroup
	case p.Epoch != s.Epoch():
		return nil, nil, &mls.EpochError{Have: s.Epoch(), Got: p.Epoch}
	}
	t, c, _, err := openPrivate(s.pub.Suite(), p, s.tree, s.secrets.senderData, s.priv.leaf, s.cfg)
	if err == ErrOwnMessage && p.Type == mls.ContentCommit {
		err = ErrOwnCommit
	}
	if err != nil {
		return nil, nil, err
	}
	if err := s.pub.VerifyContent(c); err != nil {
		return nil, nil, err
	}
	n := *s
	n.tree = t
	n.used(false)
	return &n, c, nil
}

// processCommit is §12.4.2 after the message is known to be the sender's.
func (s *State) processCommit(c *mls.Content) (*State, *mls.Effects, error) {
	staged, err := s.pub.StageCommit(c)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range staged.Effects.Removed {
		if r.Leaf == s.priv.leaf {
			staged.Effects.SelfRemoved = true
			return s, staged.Effects, nil
		}
	}
	priv, e, err := s.nextEpoch(staged)
	if err != nil {
		return nil, nil, err
	}
	if !s.pub.Suite().VerifyMAC(e.confirmation, staged.Next.GroupContext().ConfirmedTranscriptHash, c.ConfirmationTag) {
		return nil, nil, mls.ErrCrypto
	}
	n, err := enter(s.cfg, staged.Next, priv, e, s.retire())
	if err != nil {
		return nil, nil, err
	}
	n.uses, n.revision = s.uses, s.revision
	n.used(true)
	return n, staged.Effects, nil
}

// nextEpoch runs the key schedule for a Commit of somebody else: our private
// keys and the secrets afterwards, not confirmed yet.
func (s *State) nextEpoch(staged *mls.StagedCommit) (priv privateTree, e *newEpoch, err error) {
	suite := s.pub.Suite()
	own, err := s.ownKeys(staged)
	if err != nil {
		return priv, nil, err
	}
	priv, commitSecret := own.clone(), make([]byte, suite.HashLen())
	if staged.Path != nil {
		if priv, commitSecret, err = own.openPath(suite, staged); err != nil {
			return priv, nil, err
		}
	} else {
		priv.prune(suite, staged.Next.RatchetTree())
	}
	defer erase(commitSecret)
	initSecret := s.secrets.initSecret
	if staged.Effects.External {
		if initSecret, err = suite.ExternalInitReceive(s.secrets.external, staged.Applied.KEMOutput); err != nil {
			return priv, nil, err
		}
		defer erase(initSecret)
	}
	psk, err := pskSecret(suite, staged.Applied.PSKs, s.psk)
	if err != nil {
		return priv, nil, err
	}
	defer erase(psk)
	e = advance(suite, initSecret, commitSecret, psk, staged.Next.Context())
	erase(e.joiner)
	erase(e.welcome)
	return priv, e, nil
}
