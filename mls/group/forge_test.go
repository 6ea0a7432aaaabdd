package group

import (
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
)

// newEvil is a client whose own side checks nothing that a validator could.
func newEvil(t testing.TB, name string) *client {
	c := newClient(t, name)
	c.cfg.Validator = openValidator{}
	return c
}

// forge makes a Commit as a member that ignores every rule: signature and
// membership tag are right, the confirmation tag is not.
func (c *client) forge(edit func(*mls.Content)) []byte {
	c.t.Helper()
	s, pub := c.st.pub.Suite(), c.st.pub
	m := &mls.Content{
		WireFormat: mls.WirePublicMessage, GroupID: c.st.GroupID(), Epoch: c.st.Epoch(),
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(c.st.priv.leaf)}, Type: mls.ContentCommit,
		Commit: &mls.Commit{}, ConfirmationTag: mls.Random(s.HashLen()),
	}
	edit(m)
	must(c.t, m.Sign(s, c.cfg.Signer, pub.Context()))
	p := &mls.PublicMessage{Content: m}
	if m.Sender.Type == mls.SenderMember {
		p.MembershipTag = m.MembershipTag(s, c.st.secrets.membership, pub.Context())
	}
	return p.Encode()
}

// byValue is a Commit of these proposals, without a path.
func byValue(list ...*mls.Proposal) func(*mls.Content) {
	return func(c *mls.Content) {
		for _, p := range list {
			c.Commit.Proposals = append(c.Commit.Proposals, mls.ProposalOrRef{Proposal: p})
		}
	}
}

// refuses checks that the member refuses the message with this error, that its
// state is the same to the byte, and that the error tells no secret.
func (c *client) refuses(msg []byte, want error) {
	c.t.Helper()
	group, ratchets := string(c.st.EncodeGroup()), string(c.st.EncodeRatchets())
	n, e, err := c.st.Process(msg)
	if err == nil {
		c.t.Fatalf("%s accepted it: %+v", c.name, e)
	}
	if !errors.Is(err, want) {
		c.t.Fatalf("%s: error %q, want %q", c.name, err, want)
	}
	if n != nil || e != nil {
		c.t.Fatal("an error came with a state")
	}
	if string(c.st.EncodeGroup()) != group || string(c.st.EncodeRatchets()) != ratchets {
		c.t.Fatal("a refused message changed the state")
	}
	c.tellsNoSecret(err)
}

// hubOf is a PublicGroup of the room.
func hubOf(t testing.TB, c *client) *mls.PublicGroup {
	t.Helper()
	info, err := c.st.GroupInfo(true)
	must(t, err)
	hub, err := mls.NewPublicGroup(info, nil, mls.PublicOptions{Validator: testValidator{}})
	must(t, err)
	return hub
}

func remove(l mls.LeafIndex) *mls.Proposal {
	return &mls.Proposal{Type: mls.ProposalRemove, Remove: l}
}

func addOf(t testing.TB, c *client) *mls.Proposal {
	t.Helper()
	kp, err := mls.ParseKeyPackage(c.kp)
	must(t, err)
	return &mls.Proposal{Type: mls.ProposalAdd, Add: kp}
}

// update makes an Update proposal by reference, which this library only receives.
func (c *client) update(edit func(*mls.LeafNode)) []byte {
	c.t.Helper()
	s := c.st.pub.Suite()
	leaf := *c.st.pub.Member(c.st.priv.leaf)
	_, pub, err := s.GenerateKeyPair()
	must(c.t, err)
	leaf.EncryptionKey, leaf.Source, leaf.NotBefore, leaf.NotAfter, leaf.ParentHash = pub, mls.SourceUpdate, 0, 0, nil
	edit(&leaf)
	must(c.t, leaf.Sign(s, c.cfg.Signer, c.st.GroupID(), c.st.priv.leaf))
	return c.forge(func(m *mls.Content) {
		m.Type, m.Commit, m.ConfirmationTag = mls.ContentProposal, nil, nil
		m.Proposal = &mls.Proposal{Type: mls.ProposalUpdate, Update: &leaf}
	})
}

// keyPackage makes a KeyPackage with an edited leaf, signed as it then is.
func (c *client) keyPackage(edit func(*mls.KeyPackage)) []byte {
	c.t.Helper()
	kp, err := mls.ParseKeyPackage(c.kp)
	must(c.t, err)
	s, err := mls.LookupSuite(testSuite)
	must(c.t, err)
	edit(kp)
	must(c.t, kp.Leaf.Sign(s, c.cfg.Signer, nil, 0))
	must(c.t, kp.Sign(s, c.cfg.Signer))
	return kp.Encode()
}

// forgeProposal makes a proposal by reference as a member that checks nothing.
func (c *client) forgeProposal(p *mls.Proposal) []byte {
	c.t.Helper()
	return c.forge(func(m *mls.Content) {
		m.Type, m.Commit, m.ConfirmationTag, m.Proposal = mls.ContentProposal, nil, nil, p
	})
}
