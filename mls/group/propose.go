package group

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls"
)

// proposals turns the parameters into the list of a Commit, proposals by
// reference first.
func (s *State) proposals(p CommitParams) ([]mls.Sent, error) {
	value, err := s.byValue(p)
	if err != nil {
		return nil, err
	}
	if !p.ByReference {
		return value, nil
	}
	list := s.byReference(value)
	about := map[mls.LeafIndex]bool{} // leaves that somebody proposed to remove already
	for _, q := range list {
		switch q.Proposal.Type {
		case mls.ProposalRemove:
			about[q.Proposal.Remove] = true
		case mls.ProposalSelfRemove:
			about[mls.LeafIndex(q.Sender.Index)] = true
		}
	}
	for _, q := range value {
		if q.Proposal.Type != mls.ProposalRemove || !about[q.Proposal.Remove] {
			list = append(list, q)
		}
	}
	return list, nil
}

// MustCommit reports whether proposals wait that we can commit: then a Commit comes before
// application messages, so that whom somebody proposed to remove cannot read them (RFC 9420
// §12.4).
func (s *State) MustCommit() bool {
	return len(s.pub.PendingRefs()) > 0 && len(s.byReference(nil)) > 0
}

// byReference lists the pending proposals that we can take, without those that
// stand against what the Commit does by value: it has the last word.
func (s *State) byReference(value []mls.Sent) []mls.Sent {
	return slices.DeleteFunc(s.pub.CommittablePending(s.priv.leaf), func(q mls.Sent) bool {
		if q.Proposal.Type == mls.ProposalPSK { // we cannot take what we have not
			key := s.psk(q.Proposal.PSK)
			defer erase(key)
			if len(key) == 0 {
				return true
			}
		}
		return slices.ContainsFunc(value, func(v mls.Sent) bool { return overrides(v.Proposal, q) })
	})
}

// overrides says whether a proposal by value leaves no room for a pending one.
func overrides(v *mls.Proposal, q mls.Sent) bool {
	switch p := q.Proposal; {
	case p.Type == mls.ProposalUpdate:
		return v.Type == mls.ProposalRemove && uint32(v.Remove) == q.Sender.Index
	case p.Type != v.Type:
		return false
	case p.Type == mls.ProposalPSK:
		return v.PSK.Same(p.PSK)
	case p.Type == mls.ProposalAdd:
		return bytes.Equal(v.Add.Leaf.SignatureKey, p.Add.Leaf.SignatureKey)
	}
	return v.Type == mls.ProposalGroupContextExtensions
}

// byValue lists what the parameters ask for.
func (s *State) byValue(p CommitParams) ([]mls.Sent, error) {
	var list []*mls.Proposal
	for _, l := range p.Removes {
		list = append(list, &mls.Proposal{Type: mls.ProposalRemove, Remove: l})
	}
	for _, b := range p.Adds {
		kp, err := s.sendableKeyPackage(b)
		if err != nil {
			return nil, err
		}
		list = append(list, &mls.Proposal{Type: mls.ProposalAdd, Add: kp})
	}
	list = append(list, freshPSKs(s.pub.Suite(), p.PSKs)...)
	if p.Extensions != nil {
		list = append(list, &mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: p.Extensions})
	}
	var out []mls.Sent
	for _, q := range list {
		out = append(out, mls.Sent{Proposal: q, Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(s.priv.leaf)}})
	}
	return out, nil
}

// commitOf is the Commit of a list, without its path.
func commitOf(list []mls.Sent) *mls.Commit {
	c := &mls.Commit{}
	for _, s := range list {
		q := mls.ProposalOrRef{Ref: s.Ref}
		if s.Ref == nil {
			q.Proposal = s.Proposal
		}
		c.Proposals = append(c.Proposals, q)
	}
	return c
}

// sendableKeyPackage reads a KeyPackage that we are about to send: its lifetime
// is ours to check (§7.3).
func (s *State) sendableKeyPackage(b []byte) (*mls.KeyPackage, error) {
	kp, err := mls.ParseKeyPackage(b)
	if err != nil {
		return nil, err
	}
	if now := s.cfg.now().Unix(); now < 0 || uint64(now) < kp.Leaf.NotBefore || uint64(now) > kp.Leaf.NotAfter {
		return nil, mls.ErrLifetime
	}
	return kp, nil
}

// ProposeAdd makes a proposal to add the client of a KeyPackage (an MLSMessage),
// and the state that knows of it.
func (s *State) ProposeAdd(keyPackage, aad []byte) (*State, []byte, error) {
	kp, err := s.sendableKeyPackage(keyPackage)
	if err != nil {
		return nil, nil, err
	}
	return s.propose(&mls.Proposal{Type: mls.ProposalAdd, Add: kp}, aad)
}

// ProposeRemove makes a proposal to remove a member; it may be ourselves.
func (s *State) ProposeRemove(leaf mls.LeafIndex, aad []byte) (*State, []byte, error) {
	return s.propose(&mls.Proposal{Type: mls.ProposalRemove, Remove: leaf}, aad)
}

// ProposeSelfRemove makes a proposal by which we leave (draft-ietf-mls-extensions):
// unlike a Remove, whoever joins by external Commit takes it up too. It is a
// PublicMessage whatever Config says, once in an epoch, and only where every member
// lists it among its capabilities; an mls.ErrProposal otherwise.
func (s *State) ProposeSelfRemove(aad []byte) (*State, []byte, error) {
	return s.propose(&mls.Proposal{Type: mls.ProposalSelfRemove}, aad)
}

// ProposeExtensions makes a proposal to replace the GroupContext's extensions
// (§12.1.7), and the state that knows of it.
func (s *State) ProposeExtensions(list []mls.Extension, aad []byte) (*State, []byte, error) {
	return s.propose(&mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: list}, aad)
}

func (s *State) propose(p *mls.Proposal, aad []byte) (*State, []byte, error) {
	c := &mls.Content{
		WireFormat: mls.WirePublicMessage, GroupID: s.GroupID(), Epoch: s.Epoch(), AAD: slices.Clone(aad),
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(s.priv.leaf)}, Type: mls.ContentProposal, Proposal: p,
	}
	if s.cfg.Private && p.Type != mls.ProposalSelfRemove {
		c.WireFormat = mls.WirePrivateMessage
	}
	if err := mls.CheckAAD(s.pub.GroupContext().Extensions, aad); err != nil {
		return nil, nil, err
	}
	if err := c.Sign(s.pub.Suite(), s.cfg.Signer, s.pub.Context()); err != nil {
		return nil, nil, err
	}
	pub, _, err := s.pub.AddProposal(c)
	if err != nil {
		return nil, nil, err
	}
	n := *s
	n.used(true)
	n.pub = pub
	return n.frame(c)
}
