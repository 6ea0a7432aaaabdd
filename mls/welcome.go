package mls

import (
	"crypto"

	"github.com/entente-im/entente/mls/internal/tls"
)

// GroupContext is what all members agree on (RFC 9420 §8.1).
type GroupContext struct {
	Suite                   SuiteID
	GroupID                 []byte
	Epoch                   uint64
	TreeHash                []byte
	ConfirmedTranscriptHash []byte
	Extensions              []Extension
}

func (g *GroupContext) write(w *tls.Writer) {
	w.U16(ProtocolVersion)
	w.U16(uint16(g.Suite))
	w.Vec(g.GroupID)
	w.U64(g.Epoch)
	w.Vec(g.TreeHash)
	w.Vec(g.ConfirmedTranscriptHash)
	writeExtensions(w, g.Extensions)
}

func (g *GroupContext) read(r *tls.Reader) {
	if v := r.U16(); v != ProtocolVersion {
		r.Fail(refuse(ErrDecode, "protocol version %d", v))
	}
	g.Suite = SuiteID(r.U16())
	g.GroupID = r.Vec()
	g.Epoch = r.U64()
	g.TreeHash = r.Vec()
	g.ConfirmedTranscriptHash = r.Vec()
	g.Extensions = readExtensions(r)
}

// Encode is the context's encoding.
func (g *GroupContext) Encode() []byte {
	w := tls.NewWriter(256)
	g.write(w)
	return w.B
}

// ParseGroupContext is the inverse of Encode.
func ParseGroupContext(b []byte) (*GroupContext, error) {
	r := tls.NewReader(b)
	var g GroupContext
	g.read(r)
	return &g, r.Done()
}

// GroupInfo describes a group to who is not in it yet (§12.4.3).
type GroupInfo struct {
	Context         GroupContext
	Extensions      []Extension
	ConfirmationTag []byte
	Signer          LeafIndex
	Signature       []byte
}

func (g *GroupInfo) writeContent(w *tls.Writer) {
	g.Context.write(w)
	writeExtensions(w, g.Extensions)
	w.Vec(g.ConfirmationTag)
	w.U32(uint32(g.Signer))
}

func (g *GroupInfo) write(w *tls.Writer) {
	g.writeContent(w)
	w.Vec(g.Signature)
}

func readGroupInfo(r *tls.Reader) *GroupInfo {
	g := &GroupInfo{}
	g.Context.read(r)
	g.Extensions = readExtensions(r)
	g.ConfirmationTag = r.Vec()
	g.Signer = LeafIndex(r.U32())
	g.Signature = r.Vec()
	return g
}

// ParseGroupInfo reads a GroupInfo as it stands in a Welcome, without the
// MLSMessage around it.
func ParseGroupInfo(b []byte) (*GroupInfo, error) {
	r := tls.NewReader(b)
	g := readGroupInfo(r)
	return g, r.Done()
}

// EncodeBare is the inverse of ParseGroupInfo.
func (g *GroupInfo) EncodeBare() []byte {
	w := tls.NewWriter(1024)
	g.write(w)
	return w.B
}

// Encode returns the GroupInfo as a whole MLSMessage.
func (g *GroupInfo) Encode() []byte {
	w := newMessage(WireGroupInfo)
	g.write(w)
	return w.B
}

// Sign fills in the signature.
func (g *GroupInfo) Sign(s *Suite, signer crypto.Signer) (err error) {
	w := tls.NewWriter(1024)
	g.writeContent(w)
	g.Signature, err = s.SignWithLabel(signer, "GroupInfoTBS", w.B)
	return err
}

// VerifySignature checks the signature with the signer's key.
func (g *GroupInfo) VerifySignature(s *Suite, pub []byte) error {
	w := tls.NewWriter(1024)
	g.writeContent(w)
	if !s.VerifyWithLabel(pub, "GroupInfoTBS", w.B, g.Signature) {
		return refuse(ErrGroupInfo, "signature")
	}
	return nil
}

// Tree finds the ratchet tree: in the GroupInfo itself, or else in given, which
// is the content of the ratchet_tree extension. Its hash is compared with the
// context's before anything else is believed of it.
func (g *GroupInfo) Tree(s *Suite, given []byte) (*Tree, error) {
	data, ok := FindExtension(g.Extensions, ExtensionRatchetTree)
	if !ok {
		data = given
	}
	if len(data) == 0 {
		return nil, refuse(ErrGroupInfo, "no ratchet tree")
	}
	t, err := ParseTree(s, data)
	if err != nil {
		return nil, err
	}
	if string(t.Hash()) != string(g.Context.TreeHash) {
		return nil, refuse(ErrTree, "hash differs from the group info's")
	}
	return t, nil
}

// Welcome brings new members in (§12.4.3.1).
type Welcome struct {
	Suite     SuiteID
	Secrets   []EncryptedGroupSecrets
	GroupInfo []byte // encrypted
}

// EncryptedGroupSecrets is one new member's part of a Welcome.
type EncryptedGroupSecrets struct {
	NewMember []byte // KeyPackageRef
	Secrets   HPKECiphertext
}

func (m *Welcome) write(w *tls.Writer) {
	w.U16(uint16(m.Suite))
	w.Vector(func(w *tls.Writer) {
		for i := range m.Secrets {
			w.Vec(m.Secrets[i].NewMember)
			m.Secrets[i].Secrets.write(w)
		}
	})
	w.Vec(m.GroupInfo)
}

func readWelcome(r *tls.Reader) *Welcome {
	m := &Welcome{Suite: SuiteID(r.U16())}
	r.Each(func(r *tls.Reader) {
		s := EncryptedGroupSecrets{NewMember: r.Vec()}
		s.Secrets.read(r)
		m.Secrets = append(m.Secrets, s)
	})
	m.GroupInfo = r.Vec()
	return m
}

// Encode returns the Welcome as a whole MLSMessage.
func (m *Welcome) Encode() []byte {
	w := newMessage(WireWelcome)
	m.write(w)
	return w.B
}

// WelcomeRefs lists the KeyPackageRefs that a Welcome (an MLSMessage) is for.
func WelcomeRefs(welcome []byte) ([][]byte, error) {
	m, err := ParseMessage(welcome)
	if err != nil {
		return nil, err
	}
	if m.Welcome == nil {
		return nil, refuse(ErrWireFormat, "want a welcome")
	}
	var out [][]byte
	for _, s := range m.Welcome.Secrets {
		out = append(out, s.NewMember)
	}
	return out, nil
}

// GroupSecrets is what a Welcome tells a new member in private (§12.4.3.1).
type GroupSecrets struct {
	JoinerSecret []byte
	PathSecret   []byte // nil when the Commit had no path
	PSKs         []*PreSharedKeyID
}

// Encode is the secrets' encoding.
func (g *GroupSecrets) Encode() []byte {
	var w tls.Writer
	w.Vec(g.JoinerSecret)
	w.Bool(g.PathSecret != nil)
	if g.PathSecret != nil {
		w.Vec(g.PathSecret)
	}
	w.Vector(func(w *tls.Writer) {
		for _, p := range g.PSKs {
			p.write(w)
		}
	})
	return w.B
}

// ParseGroupSecrets is the inverse of Encode.
func ParseGroupSecrets(b []byte) (*GroupSecrets, error) {
	r := tls.NewReader(b)
	g := &GroupSecrets{JoinerSecret: r.Vec()}
	if r.Bool() {
		if g.PathSecret = r.Vec(); g.PathSecret == nil {
			g.PathSecret = []byte{}
		}
	}
	r.Each(func(r *tls.Reader) { g.PSKs = append(g.PSKs, readPSK(r)) })
	return g, r.Done()
}
