package mls

import (
	"bytes"
	"crypto"

	"github.com/entente-im/entente/mls/internal/tls"
)

// Process checks a PublicMessage with a proposal or a Commit, as far as that is
// possible without secrets (see the package comment), and returns the group
// afterwards. On an error nothing has changed.
func (g *PublicGroup) Process(msg []byte) (*PublicGroup, *Effects, error) {
	m, err := ParseMessage(msg)
	if err != nil {
		return nil, nil, err
	}
	if m.PublicMessage == nil {
		return nil, nil, refuse(ErrWireFormat, "want a public message")
	}
	c := m.PublicMessage.Content
	if c.Type == ContentApplication { // §6.2
		return nil, nil, refuse(ErrSender, "application data in a public message")
	}
	if c.Sender.Type == SenderMember && len(m.PublicMessage.MembershipTag) != hashLen {
		return nil, nil, ErrCrypto
	}
	if err := g.VerifyContent(c); err != nil {
		return nil, nil, err
	}
	if c.Type == ContentProposal {
		return g.AddProposal(c)
	}
	st, err := g.StageCommit(c)
	if err != nil {
		return nil, nil, err
	}
	return st.Next, st.Effects, nil
}

// CheckBundle checks that a GroupInfo (an MLSMessage) submitted together with
// the Commit that led to g describes exactly g and is signed by the committer;
// see CheckGroupInfo.
func (g *PublicGroup) CheckBundle(groupInfo, tree []byte) error {
	gi, err := g.checkGroupInfo(groupInfo, tree)
	if err == nil && gi.Signer != g.committer {
		err = refuse(ErrGroupInfo, "signer is not the committer")
	}
	return err
}

// CheckGroupInfo checks that a GroupInfo (an MLSMessage) that some member
// publishes describes exactly g: same context, confirmation tag and tree, with an
// external public key. tree is the content of the ratchet_tree extension and may
// be nil. Whether the external key is the group's cannot be seen from outside.
func (g *PublicGroup) CheckGroupInfo(groupInfo, tree []byte) error {
	_, err := g.checkGroupInfo(groupInfo, tree)
	return err
}

func (g *PublicGroup) checkGroupInfo(groupInfo, tree []byte) (*GroupInfo, error) {
	m, err := ParseMessage(groupInfo)
	if err != nil {
		return nil, err
	}
	gi := m.GroupInfo
	if gi == nil {
		return nil, refuse(ErrWireFormat, "want a group info")
	}
	if !bytes.Equal(gi.Context.Encode(), g.encoded) {
		return nil, refuse(ErrGroupInfo, "context is not the group's")
	}
	if !bytes.Equal(gi.ConfirmationTag, g.tag) {
		return nil, refuse(ErrGroupInfo, "confirmation tag is not the commit's")
	}
	signer := g.tree.Leaf(gi.Signer)
	if signer == nil {
		return nil, refuse(ErrGroupInfo, "signer is a blank leaf")
	}
	if err := gi.VerifySignature(g.suite, signer.SignatureKey); err != nil {
		return nil, err
	}
	pub, err := ExternalPub(gi.Extensions)
	if err != nil {
		return nil, err
	}
	if g.suite.CheckPublicKey(pub) != nil {
		return nil, refuse(ErrGroupInfo, "external public key")
	}
	data, ok := FindExtension(gi.Extensions, ExtensionRatchetTree)
	if own := g.Tree(); ok && !bytes.Equal(data, own) || tree != nil && !bytes.Equal(tree, own) {
		return nil, refuse(ErrGroupInfo, "tree is not the group's")
	}
	return gi, nil
}

// NewExternalRemove is a signed proposal of an external sender (§12.1.8) to
// remove a member: the hub's. index is the sender's place in external_senders;
// aad carries what justifies it and is covered by the signature.
func (g *PublicGroup) NewExternalRemove(signer crypto.Signer, index uint32, leaf LeafIndex, aad []byte) ([]byte, error) {
	c := &Content{
		WireFormat: WirePublicMessage, GroupID: g.ctx.GroupID, Epoch: g.ctx.Epoch, AAD: bytes.Clone(aad),
		Sender: Sender{Type: SenderExternal, Index: index}, Type: ContentProposal,
		Proposal: &Proposal{Type: ProposalRemove, Remove: leaf},
	}
	if err := c.Sign(g.suite, signer, nil); err != nil {
		return nil, err
	}
	if err := g.VerifyContent(c); err != nil { // wrong key or place
		return nil, err
	}
	if err := g.checkProposal(c.Proposal, c.Sender); err != nil {
		return nil, err
	}
	return (&PublicMessage{Content: c}).Encode(), nil
}

const publicGroupVersion = 1

// Marshal encodes the group with its pending proposals. It holds no secret.
func (g *PublicGroup) Marshal() []byte {
	w := tls.NewWriter(4096)
	w.U8(publicGroupVersion)
	w.Vec(g.encoded)
	w.Vec(g.tree.Encode())
	w.Vec(g.tag)
	w.U32(uint32(g.committer))
	w.Vector(func(w *tls.Writer) {
		for _, p := range g.pending {
			w.Vec(p.content.Encode())
		}
	})
	return w.B
}

// UnmarshalPublicGroup is the inverse of Marshal. The bytes are the caller's own
// and authentic: shape and tree hash are checked, signatures are not again.
func UnmarshalPublicGroup(b []byte, opts PublicOptions) (*PublicGroup, error) {
	if opts.Validator == nil {
		return nil, refuse(ErrCredential, "no validator")
	}
	r := tls.NewReader(b)
	if v := r.U8(); r.Err() == nil && v != publicGroupVersion {
		return nil, refuse(ErrDecode, "public group version %d", v)
	}
	ctxBytes, treeBytes, tag, committer := r.Vec(), r.Vec(), r.Vec(), LeafIndex(r.U32())
	var pending []*Content
	r.Each(func(r *tls.Reader) {
		c, err := ParseContent(r.Vec())
		if err != nil || c.Type != ContentProposal || len(pending) >= MaxPending {
			r.Fail(ErrDecode)
			return
		}
		pending = append(pending, c)
	})
	if err := r.Done(); err != nil {
		return nil, err
	}
	ctx, err := ParseGroupContext(ctxBytes)
	if err != nil {
		return nil, err
	}
	s, err := LookupSuite(ctx.Suite)
	if err != nil {
		return nil, err
	}
	t, err := ParseTree(s, treeBytes)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(t.Hash(), ctx.TreeHash) {
		return nil, refuse(ErrTree, "hash differs from the context's")
	}
	g := newPublicGroup(*ctx, t, tag, committer, opts)
	for _, c := range pending {
		g.pending = append(g.pending, pendingProposal{ref: c.Ref(s), content: c})
	}
	return g, nil
}
