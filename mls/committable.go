package mls

import "slices"

// CommittablePending lists the pending proposals that a member can put into one
// Commit: valid ones, one for each leaf with Removes before Updates, none about
// the committer's own leaf, no client added twice (RFC 9420 §12.2).
func (g *PublicGroup) CommittablePending(committer LeafIndex) []Sent {
	touched := map[LeafIndex]bool{committer: true}
	signers := map[string]bool{}
	extensions := false
	var psks []*PreSharedKeyID
	var out []Sent
	take := func(p pendingProposal) bool {
		q := p.content.Proposal
		switch q.Type {
		case ProposalRemove, ProposalUpdate:
			l := q.Remove
			if q.Type == ProposalUpdate {
				l = LeafIndex(p.content.Sender.Index)
			}
			if touched[l] {
				return false
			}
			touched[l] = true
		case ProposalAdd:
			k := string(q.Add.Leaf.SignatureKey)
			if _, member := g.tree.FindLeaf(q.Add.Leaf.SignatureKey); member || signers[k] {
				return false
			}
			signers[k] = true
		case ProposalPSK:
			if len(psks) == MaxPSKs || slices.ContainsFunc(psks, q.PSK.same) {
				return false
			}
			psks = append(psks, q.PSK)
		case ProposalGroupContextExtensions:
			if extensions {
				return false
			}
			extensions = true
		}
		return true
	}
	for _, removes := range [2]bool{true, false} {
		for _, p := range g.pending {
			c := p.content
			if (c.Proposal.Type == ProposalRemove) != removes || g.checkProposal(c.Proposal, c.Sender) != nil || !take(p) {
				continue
			}
			out = append(out, Sent{Proposal: c.Proposal, Sender: c.Sender, Ref: p.ref})
		}
	}
	return out
}

// CheckOwnLeaf asks the same of a committer's own new leaf that members will
// ask: a Commit that they would refuse is not made.
func (g *PublicGroup) CheckOwnLeaf(leaf *LeafNode, a *Applied) error {
	if a.resync != nil || g.tree.Leaf(a.Committer) == nil {
		return g.checkReplacement(leaf, a.Committer, a.resync, EntryExternalCommit)
	}
	return g.checkReplacement(leaf, a.Committer, g.tree.Leaf(a.Committer), EntryPath)
}
