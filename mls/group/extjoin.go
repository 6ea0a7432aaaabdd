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
	// SelfRemoves are the SelfRemove proposals (MLSMessages) of this epoch that the
	// Delivery Service has: the Commit takes them, in place of Resync for a leaf of
	// ours that has one.
	SelfRemoves [][]byte
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
	g, extensions, err := openGroup(cfg, groupInfo, tree)
	if err != nil {
		return nil, err
	}
	s := g.Suite()
	if p.ResyncOwn {
		own, ok := FindOwnLeaf(cfg, g)
		if !ok {
			return nil, ErrNotMember
		}
		p.Resync = &own
	}
	externalPub, err := mls.ExternalPub(extensions)
	if err != nil {
		return nil, err
	}
	kemOutput, initSecret, err := s.ExternalInitSend(externalPub)
	if err != nil {
		return nil, err
	}
	defer erase(initSecret)
	by := mls.Sender{Type: mls.SenderNewMemberCommit}
	sent, err := p.proposals(g, by, kemOutput)
	if err != nil {
		return nil, err
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
		AAD: bytes.Clone(p.AAD), Type: mls.ContentCommit, Commit: commitOf(sent),
	}
	b := &builder{cfg: cfg, pub: g, init: initSecret, content: c, applied: a, leaf: *leaf, psk: cfg.psk}
	if err := b.build(); err != nil {
		return nil, err
	}
	defer b.finish()
	st := &Staged{next: b.next, Effects: b.staged.Effects, Commit: (&mls.PublicMessage{Content: c}).Encode()}
	return st, st.describe(p.InfoTree)
}

// openGroup verifies a GroupInfo with its tree; the extensions are the GroupInfo's.
func openGroup(cfg Config, groupInfo, tree []byte) (*mls.PublicGroup, []mls.Extension, error) {
	m, err := mls.ParseMessage(groupInfo)
	if err != nil {
		return nil, nil, err
	}
	if m.GroupInfo == nil {
		return nil, nil, mls.ErrWireFormat
	}
	g, err := mls.OpenGroupInfo(m.GroupInfo, tree, cfg.public())
	if err != nil {
		return nil, nil, err
	}
	return g, m.GroupInfo.Extensions, cfg.check(g.Suite())
}

// proposals lists what an external Commit has (§12.4.3.2, and the SelfRemoves of
// draft-ietf-mls-extensions, by reference).
func (p ExternalParams) proposals(g *mls.PublicGroup, by mls.Sender, kemOutput []byte) ([]mls.Sent, error) {
	list := []*mls.Proposal{{Type: mls.ProposalExternalInit, KEMOutput: kemOutput}}
	var sent []mls.Sent
	for _, msg := range p.SelfRemoves {
		var q *mls.Sent
		var err error
		if g, q, err = g.OpenSelfRemove(msg); err != nil {
			return nil, err
		}
		sent = append(sent, *q)
	}
	if p.Resync != nil && !g.IsLeaving(*p.Resync) {
		list = append(list, &mls.Proposal{Type: mls.ProposalRemove, Remove: *p.Resync})
	}
	for _, q := range append(list, freshPSKs(g.Suite(), p.PSKs)...) {
		sent = append(sent, mls.Sent{Proposal: q, Sender: by})
	}
	return sent, nil
}
