package mls

import "slices"

// CommittablePending lists the pending proposals that a member can put into one
// Commit: valid ones, one for each leaf with Removes before Updates, none about
// the committer's own leaf, no client added twice (RFC 9420 §12.2), and none that
// spoils the tree.
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
	return g.fitting(nil, out, committer)
}

// fitting takes from a list what fits with what is taken already. A proposal may
// be right by itself and wrong among the others (a key that is in use, a
// capability that the group requires): whoever sends it must not keep the
// others from committing. The cost grows with the number of such proposals.
func (g *PublicGroup) fitting(taken, list []Sent, committer LeafIndex) []Sent {
	if len(list) == 0 {
		return taken
	}
	all := slices.Concat(taken, list)
	if a, err := g.Apply(all, Sender{Type: SenderMember, Index: uint32(committer)}); err == nil && a.Tree.checkMembers(a.Extensions) == nil {
		return all
	}
	if len(list) == 1 {
		return taken
	}
	half := len(list) / 2
	return g.fitting(g.fitting(taken, list[:half], committer), list[half:], committer)
}

// CheckOwnLeaf asks the same of a committer's own new leaf that members will
// ask: a Commit that they would refuse is not made.
func (g *PublicGroup) CheckOwnLeaf(leaf *LeafNode, a *Applied) error {
	if a.resync != nil || g.tree.Leaf(a.Committer) == nil {
		return g.checkReplacement(leaf, a.Committer, a.resync, EntryExternalCommit)
	}
	return g.checkReplacement(leaf, a.Committer, g.tree.Leaf(a.Committer), EntryPath)
}
