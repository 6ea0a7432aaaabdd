package mls

import (
	"bytes"
	"slices"
)

// StagedCommit is a Commit that was checked as far as it can be without
// secrets, and the group that it leads to.
type StagedCommit struct {
	Next        *PublicGroup
	Provisional []byte // GroupContext that the path is encrypted under (§7.5)
	Applied     *Applied
	Path        *UpdatePath
	Steps       []PathStep // filtered direct path, one for each node of Path
	Effects     *Effects
}

// VerifyContent checks that a message is of this group and epoch, may come from
// its sender, and is signed by it (RFC 9420 §6.1).
func (g *PublicGroup) VerifyContent(c *Content) error {
	if !bytes.Equal(c.GroupID, g.ctx.GroupID) {
		return ErrWrongGroup
	}
	if c.Epoch != g.ctx.Epoch {
		return &EpochError{Have: g.ctx.Epoch, Got: c.Epoch}
	}
	key, err := g.senderKey(c)
	if err != nil {
		return err
	}
	if err := c.VerifySignature(g.suite, key, g.encoded); err != nil {
		return err
	}
	return CheckAAD(g.ctx.Extensions, c.AAD)
}

// senderKey holds the table of §6: which sender may send what, and whose key
// signs it.
func (g *PublicGroup) senderKey(c *Content) ([]byte, error) {
	switch c.Sender.Type {
	case SenderMember:
		leaf := g.tree.Leaf(LeafIndex(c.Sender.Index))
		if leaf == nil {
			return nil, refuse(ErrSender, "blank leaf %d", c.Sender.Index)
		}
		return leaf.SignatureKey, nil
	case SenderExternal:
		list, err := externalSenders(g.ctx.Extensions)
		if err != nil {
			return nil, err
		}
		if c.Type != ContentProposal || uint64(c.Sender.Index) >= uint64(len(list)) {
			return nil, refuse(ErrSender, "external sender %d", c.Sender.Index)
		}
		return list[c.Sender.Index].SignatureKey, nil
	case SenderNewMemberCommit:
		if c.Type != ContentCommit || c.WireFormat != WirePublicMessage {
			return nil, refuse(ErrSender, "new member may only send a public commit")
		}
		if c.Commit.Path == nil {
			return nil, ErrPathRequired
		}
		return c.Commit.Path.Leaf.SignatureKey, nil
	}
	return nil, refuse(ErrPolicy, "proposal of a new member")
}

// AddProposal checks a verified proposal and keeps it for a Commit that refers
// to it. A proposal already there is taken without effect on the group.
func (g *PublicGroup) AddProposal(c *Content) (*PublicGroup, *Effects, error) {
	if err := g.checkProposal(c.Proposal, c.Sender); err != nil {
		return nil, nil, err
	}
	ref := c.Ref(g.suite)
	e := &Effects{Epoch: c.Epoch, Sender: c.Sender, AAD: c.AAD, Proposal: c.Proposal, ProposalRef: ref}
	if g.findPending(ref) != nil {
		return g, e, nil
	}
	if c.Proposal.Type == ProposalSelfRemove {
		if err := g.checkSelfRemoveMessage(c); err != nil {
			return nil, nil, err
		}
	}
	if len(g.pending) >= MaxPending {
		return nil, nil, refuse(ErrLimit, "more than %d pending proposals", MaxPending)
	}
	n := *g
	n.pending = append(slices.Clone(g.pending), pendingProposal{ref: ref, content: c})
	return &n, e, nil
}

// StageCommit checks a Commit whose content was verified, and computes the next
// group. The confirmation tag is taken as it stands: a member verifies it.
func (g *PublicGroup) StageCommit(c *Content) (*StagedCommit, error) {
	list, err := g.resolveProposals(c)
	if err != nil {
		return nil, err
	}
	if c.Commit.Path == nil && g.pathRequired(list) {
		return nil, ErrPathRequired
	}
	if len(c.ConfirmationTag) != hashLen {
		return nil, refuse(ErrCommit, "confirmation tag length")
	}
	a, err := g.Apply(list, c.Sender)
	if err != nil {
		return nil, err
	}
	st := &StagedCommit{Applied: a, Path: c.Commit.Path}
	if c.Sender.Type == SenderNewMemberCommit {
		if err := a.AddJoiner(c.Commit.Path.Leaf); err != nil {
			return nil, err
		}
	}
	if st.Path != nil {
		if err := g.applyPath(st, c.Sender.Type == SenderNewMemberCommit); err != nil {
			return nil, err
		}
	}
	if err := g.Finish(st, c); err != nil {
		return nil, err
	}
	return st, nil
}

func (g *PublicGroup) resolveProposals(c *Content) ([]Sent, error) {
	list := make([]Sent, 0, len(c.Commit.Proposals))
	for i, p := range c.Commit.Proposals {
		if p.Proposal != nil {
			list = append(list, Sent{Proposal: p.Proposal, Sender: c.Sender})
			continue
		}
		for _, o := range c.Commit.Proposals[:i] {
			if o.Ref != nil && bytes.Equal(o.Ref, p.Ref) {
				return nil, refuse(ErrCommit, "proposal referred to twice")
			}
		}
		sent := g.findPending(p.Ref)
		if sent == nil {
			return nil, ErrUnknownProposal
		}
		list = append(list, Sent{Proposal: sent.Proposal, Sender: sent.Sender, Ref: p.Ref})
	}
	return list, nil
}

// AddJoiner puts the leaf of an external committer in (§12.4.3.2). Who resyncs
// must be who is removed: the same signature key, or the same credential; that
// the rest of the identity fits is asked of the validator.
func (a *Applied) AddJoiner(leaf *LeafNode) error {
	if old := a.resync; old != nil {
		if !bytes.Equal(old.SignatureKey, leaf.SignatureKey) && !old.Credential.Equal(leaf.Credential) {
			return refuse(ErrSender, "external commit removes another member")
		}
	}
	l, err := a.Tree.Add(leaf)
	if err != nil {
		return err
	}
	a.Committer = l
	a.Added = append(a.Added, Member{Leaf: l, Node: leaf})
	a.AddedKeys = append(a.AddedKeys, nil)
	return nil
}

// applyPath checks the committer's leaf and path and puts them in (§12.4.2).
func (g *PublicGroup) applyPath(st *StagedCommit, external bool) error {
	a, leaf := st.Applied, st.Path.Leaf
	if leaf.Source != SourceCommit {
		return refuse(ErrCommit, "path leaf source %d", leaf.Source)
	}
	old, entry := g.tree.Leaf(a.Committer), EntryPath
	if external {
		old, entry = a.resync, EntryExternalCommit
	}
	if err := g.checkReplacement(leaf, a.Committer, old, entry); err != nil {
		return err
	}
	st.Steps = a.Tree.FilteredPath(a.Committer)
	if len(st.Steps) != len(st.Path.Nodes) {
		return refuse(ErrCommit, "path has %d nodes, want %d", len(st.Path.Nodes), len(st.Steps))
	}
	keys := make([][]byte, 0, len(st.Path.Nodes))
	for i, n := range st.Path.Nodes {
		if g.suite.CheckPublicKey(n.EncryptionKey) != nil {
			return refuse(ErrCommit, "path key %d", i)
		}
		if want := len(a.Recipients(st.Steps[i].Copath)); len(n.Secrets) != want {
			return refuse(ErrCommit, "path node %d has %d secrets, want %d", i, len(n.Secrets), want)
		}
		keys = append(keys, n.EncryptionKey)
	}
	parentHash, err := a.Tree.SetPath(a.Committer, keys)
	if err != nil {
		return err
	}
	if !bytes.Equal(parentHash, leaf.ParentHash) {
		return refuse(ErrCommit, "parent hash of the path leaf")
	}
	a.Tree.SetLeaf(a.Committer, leaf)
	return nil
}

// Recipients is the resolution of a copath node without the leaves that the same
// Commit adds: they learn the path from the Welcome (§7.5, §12.4.1).
func (a *Applied) Recipients(x NodeIndex) []NodeIndex {
	res := a.Tree.Resolution(x)
	if len(a.Added) == 0 {
		return res
	}
	added := make(map[NodeIndex]bool, len(a.Added))
	for _, m := range a.Added {
		added[m.Leaf.Node()] = true
	}
	return slices.DeleteFunc(res, func(n NodeIndex) bool { return added[n] })
}

// ProvisionalContext is the GroupContext of the next epoch with the transcript
// hash of this one (§7.5).
func (g *PublicGroup) ProvisionalContext(a *Applied) GroupContext {
	return GroupContext{
		Suite: g.ctx.Suite, GroupID: g.ctx.GroupID, Epoch: g.ctx.Epoch + 1, TreeHash: a.Tree.Hash(),
		ConfirmedTranscriptHash: g.ctx.ConfirmedTranscriptHash, Extensions: a.Extensions,
	}
}

// Finish checks the new tree as a whole and computes the next group (§12.4.2).
// The committer calls it too, before the confirmation tag is known.
func (g *PublicGroup) Finish(st *StagedCommit, c *Content) error {
	a := st.Applied
	if g.ctx.Epoch == 1<<64-1 {
		return refuse(ErrLimit, "last epoch")
	}
	if err := a.Tree.checkMembers(a.Extensions); err != nil {
		return err
	}
	ctx := g.ProvisionalContext(a)
	st.Provisional = ctx.Encode()
	ctx.ConfirmedTranscriptHash = g.suite.confirmedHash(g.interim, c)
	st.Next = newPublicGroup(ctx, a.Tree, c.ConfirmationTag, a.Committer, g.opts)
	e := a.effects
	e.Epoch, e.Sender, e.AAD, e.IsCommit = c.Epoch, c.Sender, c.AAD, true
	e.External = c.Sender.Type == SenderNewMemberCommit
	e.Committer, e.Added = a.Committer, a.Added
	if st.Path != nil {
		if e.External {
			e.Added = []Member{{Leaf: a.Committer, Node: st.Path.Leaf}}
		} else {
			e.Updated = append(e.Updated, Update{Leaf: a.Committer, Old: g.tree.Leaf(a.Committer), New: st.Path.Leaf})
		}
	}
	st.Effects = &e
	return nil
}
