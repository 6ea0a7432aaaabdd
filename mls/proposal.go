package mls

import (
	"github.com/entente-im/entente/mls/internal/tls"
)

// ProposalType is a number of RFC 9420 §17.4.
type ProposalType uint16

// Proposal is one change of the group (§12.1). Type says which field counts.
type Proposal struct {
	Type       ProposalType
	Add        *KeyPackage     // ProposalAdd
	Update     *LeafNode       // ProposalUpdate
	Remove     LeafIndex       // ProposalRemove
	PSK        *PreSharedKeyID // ProposalPSK
	ReInit     *ReInit         // ProposalReInit
	KEMOutput  []byte          // ProposalExternalInit
	Extensions []Extension     // ProposalGroupContextExtensions
}

// ReInit is the proposal to go on in a new group (§12.1.5).
type ReInit struct {
	GroupID    []byte
	Version    uint16
	Suite      SuiteID
	Extensions []Extension
}

func (p *Proposal) write(w *tls.Writer) {
	w.U16(uint16(p.Type))
	switch p.Type {
	case ProposalAdd:
		p.Add.write(w)
	case ProposalUpdate:
		p.Update.write(w)
	case ProposalRemove:
		w.U32(uint32(p.Remove))
	case ProposalPSK:
		p.PSK.write(w)
	case ProposalReInit:
		w.Vec(p.ReInit.GroupID)
		w.U16(p.ReInit.Version)
		w.U16(uint16(p.ReInit.Suite))
		writeExtensions(w, p.ReInit.Extensions)
	case ProposalExternalInit:
		w.Vec(p.KEMOutput)
	case ProposalGroupContextExtensions:
		writeExtensions(w, p.Extensions)
	}
}

func readProposal(r *tls.Reader) *Proposal {
	p := &Proposal{Type: ProposalType(r.U16())}
	switch p.Type {
	case ProposalAdd:
		p.Add = readKeyPackage(r)
	case ProposalUpdate:
		p.Update = readLeafNode(r)
	case ProposalRemove:
		p.Remove = LeafIndex(r.U32())
	case ProposalPSK:
		p.PSK = readPSK(r)
	case ProposalReInit:
		p.ReInit = &ReInit{GroupID: r.Vec(), Version: r.U16(), Suite: SuiteID(r.U16()), Extensions: readExtensions(r)}
	case ProposalExternalInit:
		p.KEMOutput = r.Vec()
	case ProposalSelfRemove: // empty
	case ProposalGroupContextExtensions:
		p.Extensions = readExtensions(r)
	default: // no length: the rest cannot be found
		r.Fail(refuse(ErrDecode, "proposal type %d", p.Type))
	}
	return p
}

// EncodeProposal is the encoding of a Proposal.
func EncodeProposal(p *Proposal) []byte {
	var w tls.Writer
	p.write(&w)
	return w.B
}

// ParseProposal is the inverse of EncodeProposal.
func ParseProposal(b []byte) (*Proposal, error) {
	r := tls.NewReader(b)
	p := readProposal(r)
	return p, r.Done()
}

// MaxProposals bounds the proposals of one Commit: 2,048 Adds and 64 others.
const MaxProposals = 2048 + 64

// ProposalOrRef is an entry of a Commit (§12.4): one of the two.
type ProposalOrRef struct {
	Proposal *Proposal
	Ref      []byte
}

// Commit is that of §12.4.
type Commit struct {
	Proposals []ProposalOrRef
	Path      *UpdatePath
}

// UpdatePath carries a committer's new leaf and path (§7.6).
type UpdatePath struct {
	Leaf  *LeafNode
	Nodes []UpdatePathNode
}

// UpdatePathNode is one node of the filtered direct path: its new public key,
// and its path secret for each node of the copath's resolution.
type UpdatePathNode struct {
	EncryptionKey []byte
	Secrets       []HPKECiphertext
}

func (u *UpdatePath) write(w *tls.Writer) {
	u.Leaf.write(w)
	w.Vector(func(w *tls.Writer) {
		for _, n := range u.Nodes {
			w.Vec(n.EncryptionKey)
			w.Vector(func(w *tls.Writer) {
				for i := range n.Secrets {
					n.Secrets[i].write(w)
				}
			})
		}
	})
}

func readUpdatePath(r *tls.Reader) *UpdatePath {
	u := &UpdatePath{Leaf: readLeafNode(r)}
	r.Each(func(r *tls.Reader) {
		n := UpdatePathNode{EncryptionKey: r.Vec()}
		r.Each(func(r *tls.Reader) {
			var c HPKECiphertext
			c.read(r)
			n.Secrets = append(n.Secrets, c)
		})
		u.Nodes = append(u.Nodes, n)
	})
	return u
}

// EncodeUpdatePath is the encoding of an UpdatePath.
func EncodeUpdatePath(u *UpdatePath) []byte {
	var w tls.Writer
	u.write(&w)
	return w.B
}

// ParseUpdatePath is the inverse of EncodeUpdatePath.
func ParseUpdatePath(b []byte) (*UpdatePath, error) {
	r := tls.NewReader(b)
	u := readUpdatePath(r)
	return u, r.Done()
}

func (c *Commit) write(w *tls.Writer) {
	w.Vector(func(w *tls.Writer) {
		for _, p := range c.Proposals {
			if p.Proposal != nil {
				w.U8(1)
				p.Proposal.write(w)
			} else {
				w.U8(2)
				w.Vec(p.Ref)
			}
		}
	})
	w.Bool(c.Path != nil)
	if c.Path != nil {
		c.Path.write(w)
	}
}

func readCommit(r *tls.Reader) *Commit {
	c := &Commit{}
	r.Each(func(r *tls.Reader) {
		var p ProposalOrRef
		switch kind := r.U8(); kind {
		case 1:
			p.Proposal = readProposal(r)
		case 2:
			p.Ref = r.Vec()
		default:
			r.Fail(refuse(ErrDecode, "proposal-or-reference %d", kind))
		}
		if len(c.Proposals) >= MaxProposals {
			r.Fail(refuse(ErrLimit, "more than %d proposals in a commit", MaxProposals))
		}
		c.Proposals = append(c.Proposals, p)
	})
	if r.Bool() {
		c.Path = readUpdatePath(r)
	}
	return c
}

// EncodeCommit is the encoding of a Commit.
func EncodeCommit(c *Commit) []byte {
	var w tls.Writer
	c.write(&w)
	return w.B
}

// ParseCommit is the inverse of EncodeCommit.
func ParseCommit(b []byte) (*Commit, error) {
	r := tls.NewReader(b)
	c := readCommit(r)
	return c, r.Done()
}
