package mls

import "slices"

// CommittablePending lists the pending proposals that a member can put into one
// Commit: valid ones, one for each leaf with Removes before Updates and the last
// Update of several, none about the committer's own leaf, no client added twice
// (RFC 9420 §12.2). One that would make the Commit invalid together with the
// others is left out: no member can stop all Commits by what it proposes.
func (g *PublicGroup) CommittablePending(committer LeafIndex) []Sent {
	p := picker{g: g, touched: map[LeafIndex]bool{committer: true}, signers: map[string]bool{}}
	byType := func(want func(ProposalType) bool) {
		for _, q := range g.pending {
			if want(q.content.Proposal.Type) {
				p.consider(q)
			}
		}
	}
	byType(func(t ProposalType) bool { return t == ProposalSelfRemove })
	byType(func(t ProposalType) bool { return t == ProposalRemove })
	for _, q := range slices.Backward(g.pending) {
		if q.content.Proposal.Type == ProposalUpdate {
			p.consider(q)
		}
	}
	byType(func(t ProposalType) bool {
		return t != ProposalSelfRemove && t != ProposalRemove && t != ProposalUpdate
	})
	return g.fitting(nil, p.out, committer)
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

// picker chooses proposals that do not contradict each other.
type picker struct {
	g          *PublicGroup
	touched    map[LeafIndex]bool
	signers    map[string]bool
	extensions bool
	psks       []*PreSharedKeyID
	out        []Sent
}

func (p *picker) consider(q pendingProposal) {
	c := q.content
	if p.g.checkProposal(c.Proposal, c.Sender) == nil && p.take(c.Proposal, c.Sender) {
		p.out = append(p.out, Sent{Proposal: c.Proposal, Sender: c.Sender, Ref: q.ref})
	}
}

func (p *picker) take(q *Proposal, by Sender) bool {
	switch q.Type {
	case ProposalRemove, ProposalUpdate, ProposalSelfRemove:
		return p.touch(Sent{Proposal: q, Sender: by}.leaf())
	case ProposalAdd:
		k := string(q.Add.Leaf.SignatureKey)
		if _, member := p.g.tree.FindLeaf(q.Add.Leaf.SignatureKey); member || p.signers[k] {
			return false
		}
		p.signers[k] = true
	case ProposalPSK:
		if len(p.psks) == MaxPSKs || slices.ContainsFunc(p.psks, q.PSK.Same) {
			return false
		}
		p.psks = append(p.psks, q.PSK)
	case ProposalGroupContextExtensions:
		if p.extensions {
			return false
		}
		p.extensions = true
	}
	return true
}

func (p *picker) touch(l LeafIndex) bool {
	if p.touched[l] {
		return false
	}
	p.touched[l] = true
	return true
}

// CheckOwnLeaf asks the same of a committer's own new leaf that members will
// ask: a Commit that they would refuse is not made.
func (g *PublicGroup) CheckOwnLeaf(leaf *LeafNode, a *Applied) error {
	if a.external {
		return g.checkReplacement(leaf, a.Committer, a.resync, EntryExternalCommit)
	}
	return g.checkReplacement(leaf, a.Committer, g.tree.Leaf(a.Committer), EntryPath)
}
