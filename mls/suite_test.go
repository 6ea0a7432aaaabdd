package mls

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"
)

func TestKeysThatMakeZeroSecretsAreRefused(t *testing.T) {
	priv, err := ecdh.X25519().GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range lowOrder {
		for _, top := range []byte{0, 0x80} {
			point := k
			point[31] |= top
			peer, err := ecdh.X25519().NewPublicKey(point[:])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := priv.ECDH(peer); err == nil {
				t.Fatalf("entry %d of the list is no point of low order", i)
			}
			for _, s := range suites {
				refusesPoint(t, s, point[:])
			}
		}
	}
}

// refusesPoint puts a point into keys and KEM outputs that are good otherwise.
func refusesPoint(t *testing.T, s *Suite, point []byte) {
	t.Helper()
	sk, pub, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckPublicKey(pub); err != nil {
		t.Fatal(err)
	}
	c, err := s.EncryptWithLabel(pub, "x", nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	copy(pub[len(pub)-32:], point)
	copy(c.KEMOutput[len(c.KEMOutput)-32:], point)
	if s.CheckPublicKey(pub) == nil {
		t.Fatalf("%s: low-order key %x accepted", s.Name, point)
	}
	if _, err := s.EncryptWithLabel(pub, "x", nil, []byte("secret")); err == nil {
		t.Fatalf("%s: encrypted to low-order key %x", s.Name, point)
	}
	if _, _, err := s.ExternalInitSend(pub); err == nil {
		t.Fatalf("%s: external init to low-order key %x", s.Name, point)
	}
	// A wrong tag would fail later: the KEM itself must refuse.
	if _, err := s.ExternalInitReceive(sk, c.KEMOutput); err == nil {
		t.Fatalf("%s: external init from low-order KEM output %x", s.Name, point)
	}
	if _, err := s.DecryptWithLabel(sk, "x", nil, c); err == nil {
		t.Fatalf("%s: decrypted from low-order KEM output %x", s.Name, point)
	}
}

func TestLengthsAreThoseOfTheRow(t *testing.T) {
	for _, s := range suites {
		sk, pub, err := s.GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.EncryptWithLabel(pub, "x", []byte("context"), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if len(pub) != s.pubLen || len(c.KEMOutput) != s.encLen || len(c.Ciphertext) != len("secret")+16 {
			t.Fatalf("%s: key %d, KEM output %d, ciphertext %d bytes", s.Name, len(pub), len(c.KEMOutput), len(c.Ciphertext))
		}
		if got, err := s.DecryptWithLabel(sk, "x", []byte("context"), c); err != nil || string(got) != "secret" {
			t.Fatalf("%s: %q, %v", s.Name, got, err)
		}
		if again, err := s.PublicOf(sk); err != nil || !bytes.Equal(again, pub) {
			t.Fatalf("%s: public key of the private one: %v", s.Name, err)
		}
		for _, n := range []int{0, 31, s.pubLen - 1, s.pubLen + 1} {
			if s.CheckPublicKey(append(pub, 0)[:n]) == nil {
				t.Fatalf("%s: key of %d bytes accepted", s.Name, n)
			}
		}
		for _, n := range []int{0, 31, s.encLen - 1, s.encLen + 1} {
			if _, err := s.ExternalInitReceive(sk, append(c.KEMOutput, 0)[:n]); !errors.Is(err, ErrCrypto) {
				t.Fatalf("%s: KEM output of %d bytes: %v", s.Name, n, err)
			}
		}
	}
}

// An ML-KEM key has one encoding only: coefficients beyond the modulus would
// give a second name to the same key (FIPS 203 §7.2).
func TestHybridKeysHaveOneEncoding(t *testing.T) {
	s, err := LookupSuite(SuiteXWingChaCha20)
	if err != nil {
		t.Fatal(err)
	}
	_, pub, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	pub[0], pub[1] = 0xff, pub[1]|0x0f // the first coefficient becomes 4095
	if s.CheckPublicKey(pub) == nil {
		t.Fatal("coefficient beyond the modulus accepted")
	}
}

// Either half of a hybrid KEM output that was tampered with gives another secret:
// neither can be replaced without the other's being noticed.
func TestBothHalvesOfAHybridCount(t *testing.T) {
	s, err := LookupSuite(SuiteXWingChaCha20)
	if err != nil {
		t.Fatal(err)
	}
	sk, pub, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.EncryptWithLabel(pub, "x", nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, s.encLen - 33, s.encLen - 32, s.encLen - 2} {
		bad := HPKECiphertext{KEMOutput: bytes.Clone(c.KEMOutput), Ciphertext: c.Ciphertext}
		bad.KEMOutput[at] ^= 1
		if _, err := s.DecryptWithLabel(sk, "x", nil, bad); !errors.Is(err, ErrCrypto) {
			t.Fatalf("byte %d of the KEM output does not count: %v", at, err)
		}
	}
}
