package mls

import (
	"crypto/ecdh"
	"testing"
)

func TestKeysThatMakeZeroSecretsAreRefused(t *testing.T) {
	priv, err := ecdh.X25519().GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range suites {
		for i, k := range lowOrder {
			for _, top := range []byte{0, 0x80} {
				pub := k
				pub[31] |= top
				peer, err := ecdh.X25519().NewPublicKey(pub[:])
				if err != nil {
					t.Fatal(err)
				}
				if _, err := priv.ECDH(peer); err == nil {
					t.Fatalf("entry %d of the list is no point of low order", i)
				}
				if s.CheckPublicKey(pub[:]) == nil {
					t.Fatalf("low-order key %d accepted", i)
				}
				if _, err := s.EncryptWithLabel(pub[:], "x", nil, []byte("secret")); err == nil {
					t.Fatal("encrypted to a low-order key")
				}
				sk, _, err := s.GenerateKeyPair()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.DecryptWithLabel(sk, "x", nil, HPKECiphertext{pub[:], make([]byte, 32)}); err == nil {
					t.Fatal("decrypted from a low-order KEM output")
				}
				if _, err := s.ExternalInitReceive(sk, pub[:]); err == nil {
					t.Fatal("external init from a low-order KEM output")
				}
			}
		}
		_, pub, _ := s.GenerateKeyPair()
		if err := s.CheckPublicKey(pub); err != nil {
			t.Fatal(err)
		}
	}
}
