package mls

import (
	"crypto"

	"github.com/entente-im/entente/mls/internal/tls"
)

// SenderType says in what quality somebody speaks (RFC 9420 §6).
type SenderType uint8

// The senders of §6.
const (
	SenderMember            SenderType = 1
	SenderExternal          SenderType = 2
	SenderNewMemberProposal SenderType = 3
	SenderNewMemberCommit   SenderType = 4
)

// Sender is who a message says it is from. Index is a leaf for a member, a place
// in external_senders for an external one, and nothing for the others.
type Sender struct {
	Type  SenderType
	Index uint32
}

func (s *Sender) write(w *tls.Writer) {
	w.U8(uint8(s.Type))
	if s.Type == SenderMember || s.Type == SenderExternal {
		w.U32(s.Index)
	}
}

func (s *Sender) read(r *tls.Reader) {
	s.Type = SenderType(r.U8())
	switch s.Type {
	case SenderMember, SenderExternal:
		s.Index = r.U32()
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		r.Fail(refuse(ErrDecode, "sender type %d", s.Type))
	}
}

// ContentType says what a message carries (§6).
type ContentType uint8

// The contents of §6.
const (
	ContentApplication ContentType = 1
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3
)

// Content is FramedContent with its FramedContentAuthData and wire format:
// AuthenticatedContent of §6.
type Content struct {
	WireFormat WireFormat
	GroupID    []byte
	Epoch      uint64
	Sender     Sender
	AAD        []byte // authenticated_data: covered, not secret
	Type       ContentType

	Application []byte
	Proposal    *Proposal
	Commit      *Commit

	Signature       []byte
	ConfirmationTag []byte // Commits only
}

// writeFramed writes FramedContent.
func (c *Content) writeFramed(w *tls.Writer) {
	w.Vec(c.GroupID)
	w.U64(c.Epoch)
	c.Sender.write(w)
	w.Vec(c.AAD)
	w.U8(uint8(c.Type))
	c.WriteBody(w)
}

// WriteBody writes what the content type selects.
func (c *Content) WriteBody(w *tls.Writer) {
	switch c.Type {
	case ContentApplication:
		w.Vec(c.Application)
	case ContentProposal:
		c.Proposal.write(w)
	case ContentCommit:
		c.Commit.write(w)
	}
}

func (c *Content) readFramed(r *tls.Reader) {
	c.GroupID = r.Vec()
	c.Epoch = r.U64()
	c.Sender.read(r)
	c.AAD = r.Vec()
	c.Type = ContentType(r.U8())
	c.ReadBody(r)
}

// ReadBody is the inverse of WriteBody.
func (c *Content) ReadBody(r *tls.Reader) {
	switch c.Type {
	case ContentApplication:
		c.Application = r.Vec()
	case ContentProposal:
		c.Proposal = readProposal(r)
	case ContentCommit:
		c.Commit = readCommit(r)
	default:
		r.Fail(refuse(ErrDecode, "content type %d", c.Type))
	}
}

// WriteAuth writes FramedContentAuthData (§6.1).
func (c *Content) WriteAuth(w *tls.Writer) {
	w.Vec(c.Signature)
	if c.Type == ContentCommit {
		w.Vec(c.ConfirmationTag)
	}
}

// ReadAuth is the inverse of WriteAuth.
func (c *Content) ReadAuth(r *tls.Reader) {
	c.Signature = r.Vec()
	if c.Type == ContentCommit {
		c.ConfirmationTag = r.Vec()
	}
}

// Encode is AuthenticatedContent, what a proposal reference hashes.
func (c *Content) Encode() []byte {
	var w tls.Writer
	w.U16(uint16(c.WireFormat))
	c.writeFramed(&w)
	c.WriteAuth(&w)
	return w.B
}

// ParseContent is the inverse of Encode.
func ParseContent(b []byte) (*Content, error) {
	r := tls.NewReader(b)
	c := &Content{WireFormat: WireFormat(r.U16())}
	c.readFramed(r)
	c.ReadAuth(r)
	return c, r.Done()
}

// Ref is the ProposalRef of §5.2.
func (c *Content) Ref(s *Suite) []byte {
	return s.RefHash("MLS 1.0 Proposal Reference", c.Encode())
}

// tbs is FramedContentTBS (§6.1). Members and joiners sign for one epoch of one
// group by covering its context, encoded here; others do not know it.
func (c *Content) tbs(context []byte) []byte {
	w := tls.NewWriter(256 + len(context) + len(c.AAD) + len(c.Application))
	w.U16(ProtocolVersion)
	w.U16(uint16(c.WireFormat))
	c.writeFramed(w)
	if c.Sender.Type == SenderMember || c.Sender.Type == SenderNewMemberCommit {
		w.Raw(context)
	}
	return w.B
}

// Sign fills in the signature; context is the encoded GroupContext.
func (c *Content) Sign(s *Suite, signer crypto.Signer, context []byte) (err error) {
	c.Signature, err = s.SignWithLabel(signer, "FramedContentTBS", c.tbs(context))
	return err
}

// VerifySignature checks the signature with the sender's key.
func (c *Content) VerifySignature(s *Suite, pub, context []byte) error {
	if !s.VerifyWithLabel(pub, "FramedContentTBS", c.tbs(context), c.Signature) {
		return ErrCrypto
	}
	return nil
}

// MembershipTag is the tag by which members recognize a member's PublicMessage
// (§6.2).
func (c *Content) MembershipTag(s *Suite, membershipKey, context []byte) []byte {
	return s.MAC(membershipKey, c.tbm(context))
}

// tbm is AuthenticatedContentTBM.
func (c *Content) tbm(context []byte) []byte {
	w := tls.Writer{B: c.tbs(context)}
	c.WriteAuth(&w)
	return w.B
}

// PublicMessage is a signed, readable message (§6.2).
type PublicMessage struct {
	Content       *Content
	MembershipTag []byte // of members only
}

func (p *PublicMessage) write(w *tls.Writer) {
	p.Content.writeFramed(w)
	p.Content.WriteAuth(w)
	if p.Content.Sender.Type == SenderMember {
		w.Vec(p.MembershipTag)
	}
}

func readPublicMessage(r *tls.Reader) *PublicMessage {
	p := &PublicMessage{Content: &Content{WireFormat: WirePublicMessage}}
	p.Content.readFramed(r)
	p.Content.ReadAuth(r)
	if p.Content.Sender.Type == SenderMember {
		p.MembershipTag = r.Vec()
	}
	return p
}

// Encode returns the message as a whole MLSMessage.
func (p *PublicMessage) Encode() []byte {
	w := newMessage(WirePublicMessage)
	p.write(w)
	return w.B
}

// VerifyMembership checks a member's membership tag.
func (p *PublicMessage) VerifyMembership(s *Suite, membershipKey, context []byte) error {
	if !s.VerifyMAC(membershipKey, p.Content.tbm(context), p.MembershipTag) {
		return ErrCrypto
	}
	return nil
}
