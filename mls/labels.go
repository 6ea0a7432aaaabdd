package mls

import (
	"crypto"
	"crypto/hpke"
	"crypto/rand"

	"github.com/entente-im/entente/mls/internal/tls"
)

const labelPrefix = "MLS 1.0 "

// HPKECiphertext is a KEM output and what it encrypts (RFC 9420 §7.6).
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}

func (c *HPKECiphertext) write(w *tls.Writer) {
	w.Vec(c.KEMOutput)
	w.Vec(c.Ciphertext)
}

func (c *HPKECiphertext) read(r *tls.Reader) {
	c.KEMOutput = r.Vec()
	c.Ciphertext = r.Vec()
}

// RefHash is that of §5.2; label is the whole one.
func (s *Suite) RefHash(label string, value []byte) []byte {
	w := tls.NewWriter(len(label) + len(value) + 8)
	w.Vec([]byte(label))
	w.Vec(value)
	return s.Hash(w.B)
}

func signContent(label string, content []byte) []byte {
	w := tls.NewWriter(len(label) + len(content) + 16)
	w.Vec([]byte(labelPrefix + label))
	w.Vec(content)
	return w.B
}

// SignWithLabel is that of §5.1.2.
func (s *Suite) SignWithLabel(signer crypto.Signer, label string, content []byte) ([]byte, error) {
	if _, err := s.CheckSigner(signer); err != nil {
		return nil, err
	}
	return signer.Sign(rand.Reader, signContent(label, content), crypto.Hash(0))
}

// VerifyWithLabel is that of §5.1.2.
func (s *Suite) VerifyWithLabel(pub []byte, label string, content, sig []byte) bool {
	return s.verify(pub, signContent(label, content), sig)
}

// EncryptWithLabel is that of §5.1.3.
func (s *Suite) EncryptWithLabel(pub []byte, label string, context, plaintext []byte) (c HPKECiphertext, err error) {
	key, err := s.publicKey(pub)
	if err != nil {
		return c, err
	}
	enc, sender, err := hpke.NewSender(key, s.kdf, s.aead, signContent(label, context))
	if err != nil {
		return c, ErrCrypto
	}
	ct, err := sender.Seal(nil, plaintext)
	if err != nil {
		return c, ErrCrypto
	}
	return HPKECiphertext{KEMOutput: enc, Ciphertext: ct}, nil
}

// DecryptWithLabel is that of §5.1.3. A KEM output that makes an all-zero
// shared secret is refused by the KEM (RFC 9180 §7.1.4).
func (s *Suite) DecryptWithLabel(priv []byte, label string, context []byte, c HPKECiphertext) ([]byte, error) {
	key, err := s.kem.NewPrivateKey(priv)
	if err != nil || len(c.KEMOutput) != s.encLen {
		return nil, ErrCrypto
	}
	rcv, err := hpke.NewRecipient(c.KEMOutput, key, s.kdf, s.aead, signContent(label, context))
	if err != nil {
		return nil, ErrCrypto
	}
	out, err := rcv.Open(nil, c.Ciphertext)
	if err != nil {
		return nil, ErrCrypto
	}
	return out, nil
}

func (s *Suite) publicKey(pub []byte) (hpke.PublicKey, error) {
	if len(pub) != s.pubLen || isLowOrder(pub) {
		return nil, ErrCrypto
	}
	key, err := s.kem.NewPublicKey(pub)
	if err != nil {
		return nil, ErrCrypto
	}
	return key, nil
}

// CheckPublicKey refuses bytes that are no HPKE public key of the suite.
func (s *Suite) CheckPublicKey(pub []byte) error {
	_, err := s.publicKey(pub)
	return err
}

// GenerateKeyPair makes a fresh HPKE key pair.
func (s *Suite) GenerateKeyPair() (priv, pub []byte, err error) {
	return s.DeriveKeyPair(Random(hashLen))
}

// DeriveKeyPair is KEM.DeriveKeyPair (RFC 9180 §4).
func (s *Suite) DeriveKeyPair(secret []byte) (priv, pub []byte, err error) {
	key, err := s.kem.DeriveKeyPair(secret)
	if err != nil {
		return nil, nil, ErrCrypto
	}
	priv, err = key.Bytes()
	if err != nil {
		return nil, nil, ErrCrypto
	}
	return priv, key.PublicKey().Bytes(), nil
}

// PublicOf returns the public key of an HPKE private key.
func (s *Suite) PublicOf(priv []byte) ([]byte, error) {
	key, err := s.kem.NewPrivateKey(priv)
	if err != nil {
		return nil, ErrCrypto
	}
	return key.PublicKey().Bytes(), nil
}

const externalInitLabel = "MLS 1.0 external init secret"

// ExternalInitSend makes the init secret of an external Commit and its KEM
// output from the group's external public key (§8.3).
func (s *Suite) ExternalInitSend(externalPub []byte) (kemOutput, initSecret []byte, err error) {
	key, err := s.publicKey(externalPub)
	if err != nil {
		return nil, nil, err
	}
	enc, sender, err := hpke.NewSender(key, s.kdf, s.aead, nil)
	if err != nil {
		return nil, nil, ErrCrypto
	}
	initSecret, err = sender.Export(externalInitLabel, hashLen)
	if err != nil {
		return nil, nil, ErrCrypto
	}
	return enc, initSecret, nil
}

// ExternalInitReceive is the members' side of ExternalInitSend.
func (s *Suite) ExternalInitReceive(externalSecret, kemOutput []byte) ([]byte, error) {
	priv, err := s.kem.DeriveKeyPair(externalSecret)
	if err != nil || len(kemOutput) != s.encLen {
		return nil, ErrCrypto
	}
	rcv, err := hpke.NewRecipient(kemOutput, priv, s.kdf, s.aead, nil)
	if err != nil {
		return nil, ErrCrypto
	}
	out, err := rcv.Export(externalInitLabel, hashLen)
	if err != nil {
		return nil, ErrCrypto
	}
	return out, nil
}
