package mls

import "slices"

// checkSelfRemove checks a SelfRemove by its sender (draft-ietf-mls-extensions,
// SelfRemove Proposal): a member, of a group whose every member knows the type.
func (g *PublicGroup) checkSelfRemove(by Sender) error {
	if by.Type != SenderMember || g.tree.Leaf(LeafIndex(by.Index)) == nil {
		return refuse(ErrSender, "self-remove of a non-member")
	}
	return g.tree.Leaves(func(l LeafIndex, n *LeafNode) error {
		if !n.Capabilities.hasProposal(ProposalSelfRemove) {
			return refuse(ErrProposal, "leaf %d does not know self-removes", l)
		}
		return nil
	})
}

// checkSelfRemoveMessage checks what a SelfRemove has to be on the way: public, so
// that who joins from outside can take it up, and one for each member and epoch.
func (g *PublicGroup) checkSelfRemoveMessage(c *Content) error {
	if c.WireFormat != WirePublicMessage {
		return refuse(ErrProposal, "self-remove in a private message")
	}
	if slices.ContainsFunc(g.pending, func(p pendingProposal) bool {
		return p.content.Proposal.Type == ProposalSelfRemove && p.content.Sender == c.Sender
	}) {
		return refuse(ErrProposal, "second self-remove of leaf %d", c.Sender.Index)
	}
	return nil
}

// leaf is the leaf that a Remove, an Update or a SelfRemove is about.
func (s Sent) leaf() LeafIndex {
	if s.Proposal.Type == ProposalRemove {
		return s.Proposal.Remove
	}
	return LeafIndex(s.Sender.Index)
}

// IsLeaving says whether the member at leaf l has a SelfRemove pending.
func (g *PublicGroup) IsLeaving(l LeafIndex) bool {
	return slices.ContainsFunc(g.pending, func(p pendingProposal) bool {
		return p.content.Proposal.Type == ProposalSelfRemove && p.content.Sender == Sender{Type: SenderMember, Index: uint32(l)}
	})
}

// OpenSelfRemove verifies a SelfRemove (an MLSMessage) as somebody can who is not
// in the group: all but the membership tag, which shows only to members. An
// external joiner refers to it in its Commit.
func (g *PublicGroup) OpenSelfRemove(msg []byte) (*PublicGroup, *Sent, error) {
	m, err := ParseMessage(msg)
	if err != nil {
		return nil, nil, err
	}
	if m.PublicMessage == nil {
		return nil, nil, refuse(ErrWireFormat, "want a public message")
	}
	c := m.PublicMessage.Content
	if c.Type != ContentProposal || c.Proposal.Type != ProposalSelfRemove {
		return nil, nil, refuse(ErrProposal, "not a self-remove")
	}
	if err := g.VerifyContent(c); err != nil {
		return nil, nil, err
	}
	n, e, err := g.AddProposal(c)
	if err != nil {
		return nil, nil, err
	}
	return n, &Sent{Proposal: c.Proposal, Sender: c.Sender, Ref: e.ProposalRef}, nil
}
