// Package vrf is the verifiable random function ECVRF-EDWARDS25519-SHA512-TAI of
// RFC 9381 §5.5. A directory's labels are its outputs: whoever has no proof learns
// nothing from a label, and a proof cannot lie.
//
// Proving is not constant-time in the input (try-and-increment, RFC 9381 §5.4.1.1):
// inputs are member IDs, which are not secret from those who could measure.
package vrf

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"errors"

	"filippo.io/edwards25519"
)

// Lengths of proofs and outputs.
const (
	ProofLen  = 80
	OutputLen = 64

	suite        = 0x03
	challengeLen = 16
)

// ErrProof says that a proof does not verify.
var ErrProof = errors.New("vrf: the proof does not verify")

// Prove returns the output for alpha and the proof of it (RFC 9381 §5.1).
func Prove(key ed25519.PrivateKey, alpha []byte) (output [OutputLen]byte, proof [ProofLen]byte, err error) {
	if len(key) != ed25519.PrivateKeySize {
		return output, proof, errors.New("vrf: a key of the wrong length")
	}
	hashed := sha512.Sum512(key.Seed())
	defer clear(hashed[:])
	x, err := edwards25519.NewScalar().SetBytesWithClamping(hashed[:32])
	if err != nil {
		return output, proof, err
	}
	public := key[32:]
	h, err := encodeToCurve(public, alpha)
	if err != nil {
		return output, proof, err
	}
	gamma := new(edwards25519.Point).ScalarMult(x, h)
	// Nonce of RFC 8032 §5.1.6 (RFC 9381 §5.4.2.2).
	nonce := sha512.Sum512(append(append([]byte(nil), hashed[32:]...), h.Bytes()...))
	k, err := edwards25519.NewScalar().SetUniformBytes(nonce[:])
	if err != nil {
		return output, proof, err
	}
	y, err := new(edwards25519.Point).SetBytes(public)
	if err != nil {
		return output, proof, err
	}
	c := challenge(y, h, gamma, new(edwards25519.Point).ScalarBaseMult(k), new(edwards25519.Point).ScalarMult(k, h))
	s := edwards25519.NewScalar().MultiplyAdd(scalar(c), x, k)
	copy(proof[:], gamma.Bytes())
	copy(proof[32:], c[:])
	copy(proof[48:], s.Bytes())
	return hash(gamma), proof, nil
}

// Verify returns the output that a proof shows for alpha under a public key
// (RFC 9381 §5.3), after checking the key (§5.4.5).
func Verify(public ed25519.PublicKey, alpha, proof []byte) (output [OutputLen]byte, err error) {
	if len(public) != ed25519.PublicKeySize || len(proof) != ProofLen {
		return output, ErrProof
	}
	y, err := canonicalPoint(public)
	if err != nil || new(edwards25519.Point).MultByCofactor(y).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return output, ErrProof
	}
	gamma, err := canonicalPoint(proof[:32])
	if err != nil {
		return output, ErrProof
	}
	c := [challengeLen]byte(proof[32:48])
	s, err := edwards25519.NewScalar().SetCanonicalBytes(proof[48:])
	if err != nil {
		return output, ErrProof
	}
	h, err := encodeToCurve(public, alpha)
	if err != nil {
		return output, ErrProof
	}
	minus := edwards25519.NewScalar().Negate(scalar(c))
	u := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minus, y, s)
	v := new(edwards25519.Point).Add(new(edwards25519.Point).ScalarMult(s, h), new(edwards25519.Point).ScalarMult(minus, gamma))
	if challenge(y, h, gamma, u, v) != c {
		return output, ErrProof
	}
	return hash(gamma), nil
}

// canonicalPoint refuses encodings that another one stands for as well.
func canonicalPoint(b []byte) (*edwards25519.Point, error) {
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil || !bytes.Equal(p.Bytes(), b) {
		return nil, ErrProof
	}
	return p, nil
}

// encodeToCurve is try-and-increment (RFC 9381 §5.4.1.1).
func encodeToCurve(public, alpha []byte) (*edwards25519.Point, error) {
	prefix := append(append([]byte{suite, 0x01}, public...), alpha...)
	for ctr := range 256 {
		sum := sha512.Sum512(append(append([]byte(nil), prefix...), byte(ctr), 0x00))
		if p, err := new(edwards25519.Point).SetBytes(sum[:32]); err == nil {
			if p.MultByCofactor(p); p.Equal(edwards25519.NewIdentityPoint()) == 0 {
				return p, nil
			}
		}
	}
	return nil, errors.New("vrf: no point found")
}

// challenge is RFC 9381 §5.4.3.
func challenge(points ...*edwards25519.Point) (c [challengeLen]byte) {
	h := sha512.New()
	h.Write([]byte{suite, 0x02})
	for _, p := range points {
		h.Write(p.Bytes())
	}
	h.Write([]byte{0x00})
	copy(c[:], h.Sum(nil))
	return c
}

func scalar(c [challengeLen]byte) *edwards25519.Scalar {
	var b [32]byte
	copy(b[:], c[:])
	s, err := edwards25519.NewScalar().SetCanonicalBytes(b[:])
	if err != nil {
		panic("vrf: 16 bytes are always below the order") // cannot happen
	}
	return s
}

// hash is RFC 9381 §5.2, proof to hash.
func hash(gamma *edwards25519.Point) [OutputLen]byte {
	p := new(edwards25519.Point).MultByCofactor(gamma)
	return sha512.Sum512(append(append([]byte{suite, 0x03}, p.Bytes()...), 0x00))
}
