package mls

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls/internal/parallel"
)

// Sent is a proposal and who made it.
type Sent struct {
	Proposal *Proposal
	Sender   Sender
	Ref      []byte // nil when by value
}

// Applied is a group's tree and extensions after a list of proposals, before
// the committer's path.
type Applied struct {
	Tree       *Tree // a copy of its own
	Extensions []Extension
	Committer  LeafIndex
	Added      []Member
	AddedKeys  []*KeyPackage     // one for each Added, nil for an external joiner
	KEMOutput  []byte            // of ExternalInit
	PSKs       []*PreSharedKeyID // in the order of the Commit (§12.1.4)
	effects    Effects
	external   bool      // the committer joins by this Commit
	resync     *LeafNode // removed by an external Commit
}

// checkProposal checks one proposal by itself (RFC 9420 §12.1), received alone:
// a new member must fit into the group as it is.
func (g *PublicGroup) checkProposal(p *Proposal, by Sender) error {
	if err := g.checkProposalWith(p, by, nil); err != nil || p.Type != ProposalAdd {
		return err
	}
	rc, err := requiredCapabilities(g.ctx.Extensions)
	if err != nil {
		return err
	}
	return p.Add.Leaf.checkContext(g.ctx.Extensions, rc)
}

// checkProposalWith is checkProposal in a Commit, whose extensions count for its
// Adds (§12.3): Finish compares. known is what is known already of the
// KeyPackages of a whole list; see signedKeyPackages.
func (g *PublicGroup) checkProposalWith(p *Proposal, by Sender, known map[*KeyPackage]error) error {
	if by.Type == SenderExternal && p.Type != ProposalRemove {
		return refuse(ErrSender, "external sender with proposal type %d", p.Type)
	}
	switch p.Type {
	case ProposalAdd:
		return g.checkAdd(p.Add, known)
	case ProposalUpdate:
		if by.Type != SenderMember {
			return refuse(ErrSender, "update of a non-member")
		}
		return g.checkUpdate(p.Update, LeafIndex(by.Index))
	case ProposalRemove:
		if g.tree.Leaf(p.Remove) == nil {
			return refuse(ErrProposal, "remove of blank leaf %d", p.Remove)
		}
		return nil
	case ProposalGroupContextExtensions:
		return g.checkExtensions(p.Extensions)
	case ProposalExternalInit:
		if by.Type != SenderNewMemberCommit {
			return refuse(ErrProposal, "external init outside an external commit")
		}
		return nil
	case ProposalPSK:
		if !g.opts.PSKs {
			return refuse(ErrPolicy, "pre-shared keys")
		}
		return p.PSK.check(g.suite)
	case ProposalReInit:
		return ErrReInit
	case ProposalSelfRemove:
		return g.checkSelfRemove(by)
	}
	return refuse(ErrPolicy, "type %d", p.Type)
}

func (g *PublicGroup) checkAdd(k *KeyPackage, known map[*KeyPackage]error) error {
	err, ok := known[k]
	if !ok {
		err = g.checkSigned(k)
	}
	if err != nil {
		return err
	}
	if g.opts.Now != nil {
		if err := k.Leaf.checkLifetime(g.opts.Now()); err != nil {
			return err
		}
	}
	return askValidator(g.opts.Validator, LeafCheck{Entry: EntryAdd, GroupID: g.ctx.GroupID, New: k.Leaf})
}

// checkSigned checks what of a KeyPackage depends on nothing but itself and the
// suite: almost all of the cost.
func (g *PublicGroup) checkSigned(k *KeyPackage) error {
	s, err := k.check()
	if err != nil {
		return err
	}
	if s != g.suite {
		return refuse(ErrKeyPackage, "suite %d in a group of suite %d", k.Suite, g.ctx.Suite)
	}
	return k.Leaf.VerifySignature(s, nil, 0)
}

// signedKeyPackages does checkSigned for all Adds of a list on all processors.
func (g *PublicGroup) signedKeyPackages(list []Sent) map[*KeyPackage]error {
	var adds []*KeyPackage
	for _, s := range list {
		if s.Proposal.Type == ProposalAdd {
			adds = append(adds, s.Proposal.Add)
		}
	}
	found := make([]error, len(adds))
	parallel.Each(len(adds), func(i int) { found[i] = g.checkSigned(adds[i]) })
	known := make(map[*KeyPackage]error, len(adds))
	for i, k := range adds {
		known[k] = found[i]
	}
	return known
}

func (g *PublicGroup) checkUpdate(n *LeafNode, l LeafIndex) error {
	old := g.tree.Leaf(l)
	if old == nil || n.Source != SourceUpdate {
		return refuse(ErrProposal, "update of leaf %d", l)
	}
	return g.checkReplacement(n, l, old, EntryUpdate)
}

// checkReplacement checks a leaf that takes the place of old, or comes in by
// external Commit, where old may be nil (§7.3).
func (g *PublicGroup) checkReplacement(n *LeafNode, l LeafIndex, old *LeafNode, e LeafEntry) error {
	if err := n.checkAlone(g.suite); err != nil {
		return err
	}
	if old != nil && bytes.Equal(old.EncryptionKey, n.EncryptionKey) {
		return refuse(ErrLeaf, "leaf %d keeps its encryption key", l)
	}
	if err := n.VerifySignature(g.suite, g.ctx.GroupID, l); err != nil {
		return err
	}
	return askValidator(g.opts.Validator, LeafCheck{Entry: e, GroupID: g.ctx.GroupID, Old: old, New: n})
}

func (g *PublicGroup) checkExtensions(list []Extension) error {
	if err := checkKnown(list); err != nil {
		return err
	}
	v, ok := g.opts.Validator.(ExtensionsValidator)
	if !ok {
		return refuse(ErrPolicy, "group context extensions")
	}
	if err := v.ValidateExtensions(g.GroupID(), g.ctx.Extensions, list); err != nil {
		return &credentialError{err}
	}
	return nil
}

// Apply checks a list of proposals as that of a Commit (§12.2) and applies it
// (§12.3). by is the committer. The tree is checked as a whole by finish, when
// the path is in it.
func (g *PublicGroup) Apply(list []Sent, by Sender) (*Applied, error) {
	if len(list) > MaxProposals {
		return nil, refuse(ErrLimit, "more than %d proposals", MaxProposals)
	}
	external := by.Type == SenderNewMemberCommit
	if err := g.checkList(list, by, external); err != nil {
		return nil, err
	}
	a := &Applied{Tree: g.tree.Copy(), Extensions: g.ctx.Extensions, Committer: LeafIndex(by.Index), external: external}
	a.effects.Proposals = slices.Clone(list)
	known := g.signedKeyPackages(list)
	for _, s := range list {
		if s.Ref != nil {
			a.effects.Committed = append(a.effects.Committed, s.Ref)
		}
		if err := g.checkProposalWith(s.Proposal, s.Sender, known); err != nil {
			return nil, err
		}
		g.applyInPlace(a, s, external)
	}
	for _, r := range a.effects.Removed { // after Updates (§12.3)
		a.Tree.Remove(r.Leaf)
	}
	if err := a.applyAdds(list); err != nil {
		return nil, err
	}
	return a, nil
}

// applyAdds puts the new members in. A client that is a member already, or is
// added twice, shows by its signature key (§12.2).
func (a *Applied) applyAdds(list []Sent) error {
	var members map[string]bool
	for _, s := range list {
		if s.Proposal.Type != ProposalAdd {
			continue
		}
		if members == nil {
			members = make(map[string]bool, a.Tree.Width())
			a.Tree.Leaves(func(_ LeafIndex, n *LeafNode) error {
				members[string(n.SignatureKey)] = true
				return nil
			})
		}
		leaf := s.Proposal.Add.Leaf
		if members[string(leaf.SignatureKey)] {
			return refuse(ErrCommit, "client is a member already")
		}
		members[string(leaf.SignatureKey)] = true
		l, err := a.Tree.Add(leaf)
		if err != nil {
			return err
		}
		a.Added = append(a.Added, Member{Leaf: l, Node: leaf})
		a.AddedKeys = append(a.AddedKeys, s.Proposal.Add)
	}
	return nil
}

// applyInPlace applies extensions and Updates, and notes Removes.
func (g *PublicGroup) applyInPlace(a *Applied, s Sent, external bool) {
	switch p := s.Proposal; p.Type {
	case ProposalGroupContextExtensions:
		a.effects.Extensions = !sameExtensions(a.Extensions, p.Extensions)
		a.Extensions = p.Extensions
	case ProposalUpdate:
		l := LeafIndex(s.Sender.Index)
		a.effects.Updated = append(a.effects.Updated, Update{Leaf: l, Old: g.tree.Leaf(l), New: p.Update})
		a.Tree.Update(l, p.Update)
	case ProposalRemove:
		old := g.tree.Leaf(p.Remove)
		a.effects.Removed = append(a.effects.Removed, Member{Leaf: p.Remove, Node: old})
		if external {
			a.resync = old
		}
	case ProposalSelfRemove:
		a.effects.Removed = append(a.effects.Removed, Member{Leaf: s.leaf(), Node: g.tree.Leaf(s.leaf())})
	case ProposalExternalInit:
		a.KEMOutput = p.KEMOutput
	case ProposalPSK:
		a.PSKs = append(a.PSKs, p.PSK)
	}
}

// checkList checks the proposals against each other (§12.2).
func (g *PublicGroup) checkList(list []Sent, by Sender, external bool) error {
	touched := map[LeafIndex]bool{}
	count := map[ProposalType]int{}
	for i, s := range list {
		p := s.Proposal
		count[p.Type]++
		switch p.Type {
		case ProposalUpdate, ProposalRemove, ProposalSelfRemove:
			l := s.leaf()
			if p.Type == ProposalUpdate && s.Ref == nil {
				return refuse(ErrCommit, "update by value")
			}
			if p.Type == ProposalSelfRemove && s.Ref == nil {
				return refuse(ErrCommit, "self-remove by value")
			}
			if !external && l == LeafIndex(by.Index) {
				return refuse(ErrCommit, "committer updates or removes itself")
			}
			if touched[l] {
				return refuse(ErrCommit, "two proposals for leaf %d", l)
			}
			touched[l] = true
		case ProposalPSK:
			if slices.ContainsFunc(list[:i], func(o Sent) bool { return o.Proposal.PSK != nil && o.Proposal.PSK.Same(p.PSK) }) {
				return refuse(ErrCommit, "pre-shared key twice")
			}
			if count[ProposalPSK] > MaxPSKs {
				return refuse(ErrLimit, "more than %d pre-shared keys", MaxPSKs)
			}
		case ProposalReInit: // alone or among others, by whomever
			return ErrReInit
		}
		if external && s.Ref != nil && p.Type != ProposalSelfRemove {
			return refuse(ErrCommit, "proposal by reference in an external commit")
		}
	}
	if count[ProposalGroupContextExtensions] > 1 {
		return refuse(ErrCommit, "proposals that exclude each other")
	}
	if !external {
		if count[ProposalExternalInit] > 0 {
			return refuse(ErrCommit, "external init by a member")
		}
		return nil
	}
	others := len(list) - count[ProposalExternalInit] - count[ProposalRemove] - count[ProposalPSK] - count[ProposalSelfRemove]
	if count[ProposalExternalInit] != 1 || count[ProposalRemove] > 1 || others > 0 {
		return refuse(ErrCommit, "proposals not allowed in an external commit")
	}
	return nil
}

// pathRequired is the rule of §12.4, and ours for the first Commit: without a
// path epoch 1 has no secret but what epoch 0 had.
func (g *PublicGroup) pathRequired(list []Sent) bool {
	return g.ctx.Epoch == 0 || len(list) == 0 || slices.ContainsFunc(list, func(s Sent) bool {
		switch s.Proposal.Type {
		case ProposalAdd, ProposalPSK:
			return false
		}
		return true
	})
}
