package mls

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/entente-im/entente/mls/internal/tls"
)

// Hashing, HMAC and HKDF of the suites. All suites of the table hash with
// SHA-256, and this file is written for it: a message takes seven derivations, and
// crypto/hmac makes four allocations for each that nobody erases. Here the padded
// keys are on the stack and are cleared.

const (
	hashLen   = sha256.Size
	hashBlock = sha256.BlockSize
)

// HashLen is KDF.Nh in bytes: the length of every secret and hash.
func (s *Suite) HashLen() int { return hashLen }

// Hash is the suite's hash of the parts, one after another.
func (s *Suite) Hash(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// MAC is HMAC with the suite's hash (§5.1).
func (s *Suite) MAC(key, data []byte) []byte {
	out := make([]byte, hashLen)
	sum := hmacSum(key, data)
	copy(out, sum[:])
	return out
}

// VerifyMAC compares in constant time. A tag of another length, an empty one
// included, is refused.
func (s *Suite) VerifyMAC(key, data, tag []byte) bool {
	sum := hmacSum(key, data)
	return hmac.Equal(sum[:], tag)
}

// Extract is KDF.Extract (RFC 5869 §2.2).
func (s *Suite) Extract(salt, ikm []byte) []byte { return s.MAC(salt, ikm) }

// hmacSum is HMAC-SHA-256 (RFC 2104).
func hmacSum(key, data []byte) [hashLen]byte {
	var k [hashBlock]byte
	if len(key) > hashBlock {
		long := sha256.Sum256(key)
		copy(k[:], long[:])
	} else {
		copy(k[:], key)
	}
	var inner [6 * hashBlock]byte // longer data goes to the heap
	b := append(inner[:0], k[:]...)
	for i := range b {
		b[i] ^= 0x36
	}
	b = append(b, data...)
	sum := sha256.Sum256(b)
	clear(b)
	clear(inner[:])
	var outer [hashBlock + hashLen]byte
	for i := range k {
		outer[i] = k[i] ^ 0x5c
	}
	copy(outer[hashBlock:], sum[:])
	sum = sha256.Sum256(outer[:])
	clear(k[:])
	clear(outer[:])
	return sum
}

// ExpandWithLabel is that of §8. n is at most 255 hashes.
func (s *Suite) ExpandWithLabel(secret []byte, label string, context []byte, n int) []byte {
	if n < 0 || n > 255*hashLen { // exporter lengths are checked before
		panic("mls: HKDF-Expand: too long")
	}
	// T(i) = HMAC(secret, T(i-1) | KDFLabel | i) (RFC 5869 §2.3).
	var buf [4 * hashBlock]byte
	b := append(buf[:hashLen], byte(n>>8), byte(n))
	b = tls.AppendHeader(b, len(labelPrefix)+len(label))
	b = append(append(b, labelPrefix...), label...)
	b = append(tls.AppendHeader(b, len(context)), context...)
	b = append(b, 0)
	out := make([]byte, n)
	from := hashLen // the first round has no T before it
	for at, i := 0, byte(1); at < n; i++ {
		b[len(b)-1] = i
		t := hmacSum(secret, b[from:])
		at += copy(out[at:], t[:])
		copy(b, t[:])
		clear(t[:])
		from = 0
	}
	clear(b[:hashLen])
	return out
}

// DeriveSecret is that of §8.
func (s *Suite) DeriveSecret(secret []byte, label string) []byte {
	return s.ExpandWithLabel(secret, label, nil, hashLen)
}

// DeriveTreeSecret is that of §9.1.
func (s *Suite) DeriveTreeSecret(secret []byte, label string, generation uint32, n int) []byte {
	g := [4]byte{byte(generation >> 24), byte(generation >> 16), byte(generation >> 8), byte(generation)}
	return s.ExpandWithLabel(secret, label, g[:], n)
}
