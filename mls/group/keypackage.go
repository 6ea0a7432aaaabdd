package group

import (
	"bytes"
	"crypto"
	"errors"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// KeyPackageParams is what a KeyPackage is made of.
type KeyPackageParams struct {
	Suite        mls.SuiteID
	Signer       crypto.Signer // of the leaf: the device key
	Credential   mls.Credential
	Capabilities *mls.Capabilities // nil: mls.DefaultCapabilities
	NotBefore    time.Time
	NotAfter     time.Time
	LastResort   bool
	Extensions   []mls.Extension // of the leaf
}

// KeyPackageSecrets are the private keys of a KeyPackage. Erase them once a
// Welcome was joined with them, unless it is a last-resort package.
type KeyPackageSecrets struct {
	KeyPackage []byte // the MLSMessage
	Ref        []byte
	init       []byte
	encryption []byte
}

// NewKeyPackage makes a KeyPackage with fresh keys, as an MLSMessage.
func NewKeyPackage(p KeyPackageParams) ([]byte, *KeyPackageSecrets, error) {
	s, err := mls.LookupSuite(p.Suite)
	if err != nil {
		return nil, nil, err
	}
	if p.NotAfter.Before(p.NotBefore) || p.NotBefore.Unix() < 0 {
		return nil, nil, errors.New("group: key package lifetime ends before it begins")
	}
	secrets := &KeyPackageSecrets{}
	var initPub, encPub []byte
	if secrets.init, initPub, err = s.GenerateKeyPair(); err != nil {
		return nil, nil, err
	}
	if secrets.encryption, encPub, err = s.GenerateKeyPair(); err != nil {
		return nil, nil, err
	}
	leaf, err := newLeaf(s, p.Signer, p.Credential, p.Capabilities, p.Extensions)
	if err != nil {
		return nil, nil, err
	}
	leaf.EncryptionKey, leaf.Source = encPub, mls.SourceKeyPackage
	leaf.NotBefore, leaf.NotAfter = uint64(p.NotBefore.Unix()), uint64(p.NotAfter.Unix())
	if err := leaf.Sign(s, p.Signer, nil, 0); err != nil {
		return nil, nil, err
	}
	kp := &mls.KeyPackage{Version: mls.ProtocolVersion, Suite: p.Suite, InitKey: initPub, Leaf: leaf}
	if p.LastResort {
		kp.Extensions = []mls.Extension{{Type: mls.ExtensionLastResort}}
	}
	if err := kp.Sign(s, p.Signer); err != nil {
		return nil, nil, err
	}
	secrets.KeyPackage, secrets.Ref = kp.Encode(), kp.Ref()
	return bytes.Clone(secrets.KeyPackage), secrets, nil
}

// newLeaf is a leaf without keys, source and signature.
func newLeaf(s *mls.Suite, signer crypto.Signer, c mls.Credential, caps *mls.Capabilities, ext []mls.Extension) (*mls.LeafNode, error) {
	pub, err := s.CheckSigner(signer)
	if err != nil {
		return nil, err
	}
	if caps == nil {
		d := mls.DefaultCapabilities(c.Type)
		caps = &d
	}
	return &mls.LeafNode{SignatureKey: bytes.Clone(pub), Credential: c, Capabilities: *caps, Extensions: ext}, nil
}

const keyPackageSecretsVersion = 1

// Marshal encodes the secrets, to be sealed by the caller.
func (k *KeyPackageSecrets) Marshal() []byte {
	var w tls.Writer
	w.U8(keyPackageSecretsVersion)
	w.Vec(k.KeyPackage)
	w.Vec(k.init)
	w.Vec(k.encryption)
	return w.B
}

// UnmarshalKeyPackageSecrets is the inverse of Marshal. Keys that do not belong
// to the KeyPackage are refused.
func UnmarshalKeyPackageSecrets(b []byte) (*KeyPackageSecrets, error) {
	r := tls.NewReader(b)
	version := r.U8()
	k := &KeyPackageSecrets{KeyPackage: r.Vec(), init: r.Vec(), encryption: r.Vec()}
	if err := r.Done(); err != nil {
		return nil, err
	}
	if version != keyPackageSecretsVersion {
		return nil, errors.New("group: unknown version of key package secrets")
	}
	kp, err := mls.ParseKeyPackage(k.KeyPackage)
	if err != nil {
		return nil, err
	}
	s, err := mls.LookupSuite(kp.Suite)
	if err != nil {
		return nil, err
	}
	for _, pair := range [2][2][]byte{{k.init, kp.InitKey}, {k.encryption, kp.Leaf.EncryptionKey}} {
		if pub, err := s.PublicOf(pair[0]); err != nil || !bytes.Equal(pub, pair[1]) {
			return nil, mls.ErrCrypto
		}
	}
	k.Ref = kp.Ref()
	return k, nil
}

// Erase overwrites the private keys.
func (k *KeyPackageSecrets) Erase() {
	erase(k.init)
	erase(k.encryption)
	k.init, k.encryption = nil, nil
}
