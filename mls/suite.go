package mls

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// SuiteID is a cipher suite number (RFC 9420 §5.1).
type SuiteID uint16

// Suite is a row of the table of cipher suites: everything that depends on the
// choice of algorithms is behind its methods (labels.go has those of §5 and §8).
type Suite struct {
	ID   SuiteID
	Name string

	kem     hpke.KEM
	kdf     hpke.KDF
	aead    hpke.AEAD
	newAEAD func(key []byte) (cipher.AEAD, error)
	keyLen  int // AEAD.Nk
	pubLen  int // KEM.Npk, of which the last 32 bytes are an X25519 point
	encLen  int // KEM.Nenc, likewise
}

var suites = []*Suite{
	{
		ID: SuiteX25519AES128, Name: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
		kem: hpke.DHKEM(ecdh.X25519()), kdf: hpke.HKDFSHA256(), aead: hpke.AES128GCM(),
		newAEAD: newGCM, keyLen: 16, pubLen: 32, encLen: 32,
	},
	{
		ID: SuiteX25519ChaCha20, Name: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
		kem: hpke.DHKEM(ecdh.X25519()), kdf: hpke.HKDFSHA256(), aead: hpke.ChaCha20Poly1305(),
		newAEAD: chacha20poly1305.New, keyLen: 32, pubLen: 32, encLen: 32,
	},
	{
		// ChaCha20 because its code takes the same time for every key on machines
		// without AES instructions, WebAssembly included; its keys have 256 bits.
		ID: SuiteXWingChaCha20, Name: "MLS_128_MLKEM768X25519_CHACHA20POLY1305_SHA256_Ed25519",
		kem: hpke.MLKEM768X25519(), kdf: hpke.HKDFSHA256(), aead: hpke.ChaCha20Poly1305(),
		newAEAD: chacha20poly1305.New, keyLen: 32,
		pubLen: mlkem.EncapsulationKeySize768 + 32, encLen: mlkem.CiphertextSize768 + 32,
	},
}

// ErrSuite is returned for a cipher suite that has no row in the table.
var ErrSuite = errors.New("mls: unknown cipher suite")

// ErrCrypto is returned when a signature, a tag, a ciphertext or a key is
// wrong. It does not say more: what was wrong is nobody's business but ours.
var ErrCrypto = errors.New("mls: cryptographic check failed")

// Suites lists the suites of the table.
func Suites() []SuiteID {
	out := make([]SuiteID, len(suites))
	for i, s := range suites {
		out[i] = s.ID
	}
	return out
}

// LookupSuite finds the row of a suite, or fails with ErrSuite.
func LookupSuite(id SuiteID) (*Suite, error) {
	for _, s := range suites {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w %d", ErrSuite, id)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// KeyLen is AEAD.Nk in bytes.
func (s *Suite) KeyLen() int { return s.keyLen }

// NonceLen is AEAD.Nn in bytes; every AEAD of the table has 12.
func (s *Suite) NonceLen() int { return 12 }

// Seal encrypts with the suite's AEAD.
func (s *Suite) Seal(key, nonce, aad, plaintext []byte) ([]byte, error) {
	a, err := s.newAEAD(key)
	if err != nil || len(nonce) != a.NonceSize() {
		return nil, ErrCrypto
	}
	return a.Seal(nil, nonce, plaintext, aad), nil
}

// Open decrypts with the suite's AEAD.
func (s *Suite) Open(key, nonce, aad, ciphertext []byte) ([]byte, error) {
	a, err := s.newAEAD(key)
	if err != nil || len(nonce) != a.NonceSize() {
		return nil, ErrCrypto
	}
	out, err := a.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return nil, ErrCrypto
	}
	return out, nil
}

// verify checks a signature. Every suite of the table signs with Ed25519.
func (s *Suite) verify(pub, message, sig []byte) bool {
	return len(pub) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize &&
		ed25519.Verify(pub, message, sig)
}

// lowOrder are the X25519 public keys, top bit cleared, with which every shared
// secret is zero (RFC 7748 §6.1). The KEM refuses to encrypt to them: in a leaf,
// one of them would keep everybody from making a Commit.
var lowOrder = [][32]byte{
	{},
	{1},
	{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
	{0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
	nearPrime(0xec), nearPrime(0xed), nearPrime(0xee), // p-1, p, p+1
}

// nearPrime is 2^255-256+low, little-endian.
func nearPrime(low byte) (b [32]byte) {
	for i := range b {
		b[i] = 0xff
	}
	b[0], b[31] = low, 0x7f
	return b
}

// isLowOrder looks at the X25519 half of a hybrid key: what is left of the other
// half alone would be no hybrid any more.
func isLowOrder(pub []byte) bool {
	masked := [32]byte(pub[len(pub)-32:])
	masked[31] &= 0x7f
	return slices.Contains(lowOrder, masked)
}

// CheckSigner refuses a signer whose key is not of the suite's scheme and
// returns its public key as it stands in a leaf.
func (s *Suite) CheckSigner(signer crypto.Signer) ([]byte, error) {
	if signer == nil {
		return nil, errors.New("mls: no signer")
	}
	pub, ok := signer.Public().(ed25519.PublicKey)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return nil, errors.New("mls: signer is not Ed25519")
	}
	return pub, nil
}

// Random returns n bytes of the system's generator.
func Random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
