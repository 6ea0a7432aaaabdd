package group

import (
	"bytes"

	"github.com/entente-im/entente/mls"
)

// ExternalParams is what a joiner by external Commit brings.
type ExternalParams struct {
	Credential   mls.Credential
	Capabilities *mls.Capabilities // nil: mls.DefaultCapabilities
	Extensions   []mls.Extension   // of the leaf
	AAD          []byte
	// Resync is the leaf of ours that the Commit removes. Members accept only
	// the same client there: its signature key or its credential.
	Resync *mls.LeafIndex
	// ResyncOwn removes the leaf with our signature key, wherever it is; without
	// one the error is ErrNotMember.
	ResyncOwn bool
	// PSKs are mixed in, by value and with fresh nonces; Config.PSK must have them.
	PSKs []mls.PreSharedKeyID
	// InfoTree puts the tree into the new GroupInfo.
	InfoTree bool
}

// FindOwnLeaf finds the leaf with our signature key: what a resync removes.
func FindOwnLeaf(cfg Config, g *mls.PublicGroup) (mls.LeafIndex, bool) {
	pub, err := g.Suite().CheckSigner(cfg.Signer)
	if err != nil {
		return 0, false
	}
	return g.RatchetTree().FindLeaf(pub)
}

// ExternalJoin makes a Commit by which we come into a group without being
// invited (RFC 9420 §12.4.3.2). groupInfo is an MLSMessage with external_pub, tree the
// content of the ratchet_tree extension, or nil when the GroupInfo has it. Both
// are verified as on joining by Welcome, but for the confirmation tag, which
// nobody outside can: members refuse our Commit when it was wrong.
func ExternalJoin(cfg Config, groupInfo, tree []byte, p ExternalParams) (*Staged, error) {
	m, err := mls.ParseMessage(groupInfo)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, mls.ErrWireFormat
	}
	g, err := mls.OpenGroupInfo(m.GroupInfo, tree, cfg.public())
	if err != nil {
		return nil, err
	}
	s := g.Suite()
	if err := cfg.check(s); err != nil {
		return nil, err
	}
	if p.ResyncOwn {
		own, ok := FindOwnLeaf(cfg, g)
		if !ok {
			return nil, ErrNotMember
		}
		p.Resync = &own
	}
	externalPub, err := mls.ExternalPub(m.GroupInfo.Extensions)
	if err != nil {
		return nil, err
	}
	kemOutput, initSecret, err := s.ExternalInitSend(externalPub)
	if err != nil {
		return nil, err
	}
	defer erase(initSecret)
	by := mls.Sender{Type: mls.SenderNewMemberCommit}
	list := []*mls.Proposal{{Type: mls.ProposalExternalInit, KEMOutput: kemOutput}}
	if p.Resync != nil {
		list = append(list, &mls.Proposal{Type: mls.ProposalRemove, Remove: *p.Resync})
	}
	list = append(list, freshPSKs(s, p.PSKs)...)
	commit := &mls.Commit{}
	var sent []mls.Sent
	for _, q := range list {
		commit.Proposals = append(commit.Proposals, mls.ProposalOrRef{Proposal: q})
		sent = append(sent, mls.Sent{Proposal: q, Sender: by})
	}
	a, err := g.Apply(sent, by)
	if err != nil {
		return nil, err
	}
	leaf, err := newLeaf(s, cfg.Signer, p.Credential, p.Capabilities, p.Extensions)
	if err != nil {
		return nil, err
	}
	if err := a.AddJoiner(leaf); err != nil {
		return nil, err
	}
	c := &mls.Content{
		WireFormat: mls.WirePublicMessage, GroupID: g.GroupID(), Epoch: g.Epoch(), Sender: by,
		AAD: bytes.Clone(p.AAD), Type: mls.ContentCommit, Commit: commit,
	}
	b := &builder{cfg: cfg, pub: g, init: initSecret, content: c, applied: a, leaf: *leaf, psk: cfg.psk}
	if err := b.build(); err != nil {
		return nil, err
	}
	defer b.finish()
	st := &Staged{next: b.next, Effects: b.staged.Effects, Commit: (&mls.PublicMessage{Content: c}).Encode()}
	return st, st.describe(p.InfoTree)
}
