package mls

import (
	"bytes"
	"crypto"
	"time"

	"github.com/entente-im/entente/mls/internal/tls"
)

// MaxKeyPackageLifetime is the longest time from NotBefore to NotAfter that
// Verify accepts: 90 days of a last-resort package and a day for clocks.
const MaxKeyPackageLifetime = 91 * 24 * time.Hour

// KeyPackage invites its maker into a group (RFC 9420 §10).
type KeyPackage struct {
	Version    uint16
	Suite      SuiteID
	InitKey    []byte
	Leaf       *LeafNode
	Extensions []Extension
	Signature  []byte
}

func (k *KeyPackage) writeContent(w *tls.Writer) {
	w.U16(k.Version)
	w.U16(uint16(k.Suite))
	w.Vec(k.InitKey)
	k.Leaf.write(w)
	writeExtensions(w, k.Extensions)
}

func (k *KeyPackage) write(w *tls.Writer) {
	k.writeContent(w)
	w.Vec(k.Signature)
}

func readKeyPackage(r *tls.Reader) *KeyPackage {
	k := &KeyPackage{Version: r.U16(), Suite: SuiteID(r.U16()), InitKey: r.Vec(), Leaf: readLeafNode(r)}
	k.Extensions = readExtensions(r)
	k.Signature = r.Vec()
	return k
}

// ParseKeyPackage reads a KeyPackage as a whole MLSMessage. It checks the
// encoding only: call Verify before believing any of it.
func ParseKeyPackage(b []byte) (*KeyPackage, error) {
	m, err := ParseMessage(b)
	if err != nil {
		return nil, err
	}
	if m.KeyPackage == nil {
		return nil, refuse(ErrWireFormat, "want a key package")
	}
	return m.KeyPackage, nil
}

// Encode returns the KeyPackage as a whole MLSMessage.
func (k *KeyPackage) Encode() []byte {
	w := newMessage(WireKeyPackage)
	k.write(w)
	return w.B
}

// Ref is the KeyPackageRef of §5.2, nil for an unknown suite.
func (k *KeyPackage) Ref() []byte {
	s, err := LookupSuite(k.Suite)
	if err != nil {
		return nil
	}
	var w tls.Writer
	k.write(&w)
	return s.RefHash("MLS 1.0 KeyPackage Reference", w.B)
}

// LastResort says whether the package may be handed out more than once.
func (k *KeyPackage) LastResort() bool {
	_, ok := FindExtension(k.Extensions, ExtensionLastResort)
	_, component, err := FindComponent(k.Extensions, ComponentLastResort)
	return ok || component && err == nil
}

// Sign fills in the signature.
func (k *KeyPackage) Sign(s *Suite, signer crypto.Signer) (err error) {
	var w tls.Writer
	k.writeContent(&w)
	k.Signature, err = s.SignWithLabel(signer, "KeyPackageTBS", w.B)
	return err
}

// Verify checks everything of §10.1 that needs no group, the lifetime at now
// included, and asks the validator.
func (k *KeyPackage) Verify(now time.Time, v CredentialValidator) error {
	s, err := k.check()
	if err != nil {
		return err
	}
	if err := k.Leaf.VerifySignature(s, nil, 0); err != nil {
		return err
	}
	if err := k.CheckLifetime(now); err != nil {
		return err
	}
	return askValidator(v, LeafCheck{Entry: EntryKeyPackage, New: k.Leaf})
}

// CheckLifetime refuses a package outside its lifetime or with one longer than
// MaxKeyPackageLifetime.
func (k *KeyPackage) CheckLifetime(now time.Time) error {
	if k.Leaf.NotAfter-k.Leaf.NotBefore > uint64(MaxKeyPackageLifetime/time.Second) {
		return refuse(ErrLifetime, "longer than %v", MaxKeyPackageLifetime)
	}
	return k.Leaf.checkLifetime(now)
}

// check is §10.1 without the leaf's signature, lifetime and credential.
func (k *KeyPackage) check() (*Suite, error) {
	if k.Version != ProtocolVersion {
		return nil, refuse(ErrKeyPackage, "protocol version %d", k.Version)
	}
	s, err := LookupSuite(k.Suite)
	if err != nil {
		return nil, err
	}
	if k.Leaf.Source != SourceKeyPackage {
		return nil, refuse(ErrKeyPackage, "leaf source %d", k.Leaf.Source)
	}
	if err := k.Leaf.checkAlone(s); err != nil {
		return nil, err
	}
	for _, e := range k.Extensions {
		if !k.Leaf.Capabilities.hasExtension(e.Type) {
			return nil, refuse(ErrKeyPackage, "extension %d not among the capabilities", e.Type)
		}
	}
	if _, _, err := FindComponent(k.Extensions, ComponentLastResort); err != nil {
		return nil, err
	}
	if s.CheckPublicKey(k.InitKey) != nil || bytes.Equal(k.InitKey, k.Leaf.EncryptionKey) {
		return nil, refuse(ErrKeyPackage, "init key")
	}
	var w tls.Writer
	k.writeContent(&w)
	if !s.VerifyWithLabel(k.Leaf.SignatureKey, "KeyPackageTBS", w.B, k.Signature) {
		return nil, refuse(ErrKeyPackage, "signature")
	}
	return s, nil
}
