package mls

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/entente-im/entente/mls/internal/tls"
)

// Our HMAC and HKDF keep their keys on the stack; they must be those of the
// standard library at every length around a block and beyond the stack buffers.
func TestDerivationsAreThoseOfTheStandardLibrary(t *testing.T) {
	s := suites[0]
	for _, keyLen := range []int{0, 1, 31, 32, 63, 64, 65, 200} {
		key := Random(keyLen)
		for _, n := range []int{0, 1, 55, 63, 64, 65, 300, 319, 320, 321, 1000, 70_000} {
			data := Random(n)
			m := hmac.New(sha256.New, key)
			m.Write(data)
			want := m.Sum(nil)
			if !bytes.Equal(s.MAC(key, data), want) || !s.VerifyMAC(key, data, want) {
				t.Fatalf("HMAC with a key of %d bytes over %d", keyLen, n)
			}
			if s.VerifyMAC(key, data, want[:31]) || s.VerifyMAC(key, data, nil) {
				t.Fatal("a short tag was taken")
			}
			want[31] ^= 1
			if s.VerifyMAC(key, data, want) {
				t.Fatal("a wrong tag was taken")
			}
			prk, err := hkdf.Extract(sha256.New, data, key)
			if err != nil || !bytes.Equal(s.Extract(key, data), prk) {
				t.Fatalf("Extract of %d bytes with a salt of %d: %v", n, keyLen, err)
			}
		}
	}
	for _, contextLen := range []int{0, 4, 63, 64, 200, 16_383, 16_384} {
		context, secret := Random(contextLen), Random(32)
		for _, n := range []int{0, 1, 12, 16, 31, 32, 33, 64, 65, 255 * 32} {
			var w tls.Writer
			w.U16(uint16(n))
			w.Vec([]byte("MLS 1.0 some label"))
			w.Vec(context)
			want, err := hkdf.Expand(sha256.New, secret, string(w.B), n)
			if err != nil || !bytes.Equal(s.ExpandWithLabel(secret, "some label", context, n), want) {
				t.Fatalf("Expand to %d bytes with a context of %d: %v", n, contextLen, err)
			}
		}
	}
}
