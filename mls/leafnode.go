package mls

import (
	"bytes"
	"crypto"
	"slices"
	"time"

	"github.com/entente-im/entente/mls/internal/tls"
)

// CredentialType is a number of RFC 9420 §17.5.
type CredentialType uint16

// Credential says who a leaf is (§5.3). Identity is the content of the one
// vector that follows the type, verbatim: the identity of a basic credential,
// the certificates<V> body of an X.509 one, the opaque bytes of ours.
type Credential struct {
	Type     CredentialType
	Identity []byte
}

func (c *Credential) write(w *tls.Writer) {
	w.U16(uint16(c.Type))
	w.Vec(c.Identity)
}

func (c *Credential) read(r *tls.Reader) {
	c.Type = CredentialType(r.U16())
	c.Identity = r.Vec()
	switch {
	case c.Type == CredentialBasic, isPrivateUse(uint16(c.Type)):
	case c.Type == CredentialX509: // Certificate certificates<V>
		for certs := tls.NewReader(c.Identity); certs.Len() > 0; {
			certs.Vec()
			if certs.Err() != nil {
				r.Fail(ErrDecode)
				return
			}
		}
	default: // the layout of others is not known
		r.Fail(refuse(ErrDecode, "credential type %d", c.Type))
	}
}

// Equal compares type and content.
func (c Credential) Equal(o Credential) bool {
	return c.Type == o.Type && bytes.Equal(c.Identity, o.Identity)
}

// Capabilities is what a client says it can do (§7.2).
type Capabilities struct {
	Versions    []uint16
	Suites      []SuiteID
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// DefaultCapabilities lists what this library implements, with the given
// credential type, and the private extensions of a room.
func DefaultCapabilities(credential CredentialType) Capabilities {
	c := Capabilities{
		Versions:    []uint16{ProtocolVersion},
		Extensions:  []ExtensionType{ExtensionLastResort, ExtensionRoom, ExtensionRoles},
		Proposals:   []ProposalType{ProposalSelfRemove},
		Credentials: []CredentialType{credential},
	}
	for _, s := range suites {
		c.Suites = append(c.Suites, s.ID)
	}
	return c
}

func (c *Capabilities) write(w *tls.Writer) {
	writeU16s(w, c.Versions)
	writeU16s(w, c.Suites)
	writeU16s(w, c.Extensions)
	writeU16s(w, c.Proposals)
	writeU16s(w, c.Credentials)
}

func (c *Capabilities) read(r *tls.Reader) {
	c.Versions = readU16s[uint16](r)
	c.Suites = readU16s[SuiteID](r)
	c.Extensions = readU16s[ExtensionType](r)
	c.Proposals = readU16s[ProposalType](r)
	c.Credentials = readU16s[CredentialType](r)
}

// Types 1 to 5 and proposals 1 to 7 are default: everybody has them and nobody
// lists them (§7.2).
func (c *Capabilities) hasExtension(t ExtensionType) bool {
	return t >= 1 && t <= 5 || slices.Contains(c.Extensions, t)
}

func (c *Capabilities) hasProposal(t ProposalType) bool {
	return t >= 1 && t <= 7 || slices.Contains(c.Proposals, t)
}

// LeafSource says how a leaf came into the tree (§7.2).
type LeafSource uint8

// The sources of §7.2.
const (
	SourceKeyPackage LeafSource = 1
	SourceUpdate     LeafSource = 2
	SourceCommit     LeafSource = 3
)

// LeafNode is a member as the tree shows it (§7.2). Immutable once parsed.
type LeafNode struct {
	EncryptionKey []byte
	SignatureKey  []byte
	Credential    Credential
	Capabilities  Capabilities
	Source        LeafSource
	NotBefore     uint64 // seconds since 1970; source key_package only
	NotAfter      uint64
	ParentHash    []byte // source commit only
	Extensions    []Extension
	Signature     []byte
}

func (l *LeafNode) write(w *tls.Writer) {
	l.writeContent(w)
	w.Vec(l.Signature)
}

func (l *LeafNode) writeContent(w *tls.Writer) {
	w.Vec(l.EncryptionKey)
	w.Vec(l.SignatureKey)
	l.Credential.write(w)
	l.Capabilities.write(w)
	w.U8(uint8(l.Source))
	switch l.Source {
	case SourceKeyPackage:
		w.U64(l.NotBefore)
		w.U64(l.NotAfter)
	case SourceCommit:
		w.Vec(l.ParentHash)
	}
	writeExtensions(w, l.Extensions)
}

func readLeafNode(r *tls.Reader) *LeafNode {
	l := &LeafNode{EncryptionKey: r.Vec(), SignatureKey: r.Vec()}
	l.Credential.read(r)
	l.Capabilities.read(r)
	l.Source = LeafSource(r.U8())
	switch l.Source {
	case SourceKeyPackage:
		l.NotBefore = r.U64()
		l.NotAfter = r.U64()
	case SourceUpdate:
	case SourceCommit:
		l.ParentHash = r.Vec()
	default:
		r.Fail(refuse(ErrDecode, "leaf source %d", l.Source))
	}
	l.Extensions = readExtensions(r)
	l.Signature = r.Vec()
	return l
}

// Encode returns the LeafNode's bytes.
func (l *LeafNode) Encode() []byte {
	var w tls.Writer
	l.write(&w)
	return w.B
}

// tbs is LeafNodeTBS (§7.2): a leaf that is not of a KeyPackage is bound to
// its group and place, so that it cannot be carried elsewhere.
func (l *LeafNode) tbs(groupID []byte, index LeafIndex) []byte {
	var w tls.Writer
	l.writeContent(&w)
	if l.Source != SourceKeyPackage {
		w.Vec(groupID)
		w.U32(uint32(index))
	}
	return w.B
}

// Sign fills in the signature.
func (l *LeafNode) Sign(s *Suite, signer crypto.Signer, groupID []byte, index LeafIndex) (err error) {
	l.Signature, err = s.SignWithLabel(signer, "LeafNodeTBS", l.tbs(groupID, index))
	return err
}

// VerifySignature checks the signature for a leaf at index of a group.
func (l *LeafNode) VerifySignature(s *Suite, groupID []byte, index LeafIndex) error {
	if !s.VerifyWithLabel(l.SignatureKey, "LeafNodeTBS", l.tbs(groupID, index), l.Signature) {
		return refuse(ErrLeaf, "signature")
	}
	return nil
}

// checkLifetime compares with the time; both ends are within (§7.2).
func (l *LeafNode) checkLifetime(now time.Time) error {
	if l.Source != SourceKeyPackage {
		return nil
	}
	if t := now.Unix(); t < 0 || uint64(t) < l.NotBefore || uint64(t) > l.NotAfter {
		return refuse(ErrLifetime, "leaf")
	}
	return nil
}

// checkAlone checks what needs no knowledge of a group: §7.3 without
// signature, uniqueness and credential.
func (l *LeafNode) checkAlone(s *Suite) error {
	switch {
	case s.CheckPublicKey(l.EncryptionKey) != nil:
		return refuse(ErrLeaf, "encryption key")
	case !slices.Contains(l.Capabilities.Versions, ProtocolVersion):
		return refuse(ErrLeaf, "capabilities lack the protocol version")
	case !slices.Contains(l.Capabilities.Suites, s.ID):
		return refuse(ErrLeaf, "capabilities lack the cipher suite")
	case !slices.Contains(l.Capabilities.Credentials, l.Credential.Type):
		return refuse(ErrLeaf, "capabilities lack the leaf's credential type")
	case l.Source == SourceKeyPackage && l.NotBefore > l.NotAfter:
		return refuse(ErrLifetime, "ends before it begins")
	}
	for _, e := range l.Extensions {
		if !l.Capabilities.hasExtension(e.Type) {
			return refuse(ErrLeaf, "extension %d not among the capabilities", e.Type)
		}
	}
	return nil
}

// checkContext checks that the leaf can be in a group with these extensions:
// it has the required capabilities and knows every extension (§7.2, §11.1).
func (l *LeafNode) checkContext(extensions []Extension, rc RequiredCapabilities) error {
	for _, e := range extensions {
		if !l.Capabilities.hasExtension(e.Type) {
			return refuse(ErrLeaf, "no capability for the group's extension %d", e.Type)
		}
	}
	for _, t := range rc.Extensions {
		if !l.Capabilities.hasExtension(t) {
			return refuse(ErrLeaf, "lacks required extension %d", t)
		}
	}
	for _, t := range rc.Proposals {
		if !l.Capabilities.hasProposal(t) {
			return refuse(ErrLeaf, "lacks required proposal type %d", t)
		}
	}
	for _, t := range rc.Credentials {
		if !slices.Contains(l.Capabilities.Credentials, t) {
			return refuse(ErrLeaf, "lacks required credential type %d", t)
		}
	}
	return nil
}
