package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/entente-im/entente/wire"
)

const (
	safetyLabel   = "entente.im/safety-number/v1\n"
	safetyVersion = 1
	// safetyRounds is what each guess costs somebody who searches for a key with a number
	// that looks alike; Signal's numeric fingerprint, version 2, has the same count.
	safetyRounds = 5_200
	// SafetyDigits is the length of a safety number: 30 digits for each of the two.
	SafetyDigits = 60

	safetyQR = "entente:safety:"
)

// Errors a caller acts on.
var (
	// ErrSafetyForm says that a text is no safety number: something was mistyped.
	ErrSafetyForm = errors.New("identity: no safety number: 60 digits, or the text of a QR code, are wanted")
	// ErrSafetyDiffers says that the two see different keys.
	ErrSafetyDiffers = errors.New("identity: the safety numbers differ")
	// ErrSafetyOwn says that it is the code of who compares, which says nothing of the other.
	ErrSafetyOwn = fmt.Errorf("%w: that is your own code", ErrSafetyDiffers)
)

// Fingerprint stands for a member with its key of now.
type Fingerprint [32]byte

// SafetyFingerprint hashes a member with its organization and its key
// (docs/protocol.md 7.16).
func SafetyFingerprint(org wire.OrganizationID, member wire.MemberID, key ed25519.PublicKey) Fingerprint {
	first := append([]byte(safetyLabel), org[:]...)
	first = append(first, member[:]...)
	sum := sha512.Sum512(append(first, key...))
	for range safetyRounds {
		h := sha512.New()
		h.Write(sum[:])
		h.Write(key)
		h.Sum(sum[:0])
	}
	return Fingerprint(sum[:32])
}

// digits are 30 of them: six times five bytes modulo 100,000.
func (f Fingerprint) digits() string { return FiveDigits(f[:30]) }

// FiveDigits writes each five bytes as a number of five digits.
func FiveDigits(b []byte) string {
	var out strings.Builder
	for ; len(b) >= 5; b = b[5:] {
		n := binary.BigEndian.Uint64(append([]byte{0, 0, 0}, b[:5]...))
		fmt.Fprintf(&out, "%05d", n%100_000)
	}
	return out.String()
}

// GroupDigits puts a space after each five digits, for a person who reads them out.
func GroupDigits(s string) string {
	var groups []string
	for ; len(s) > 5; s = s[5:] {
		groups = append(groups, s[:5])
	}
	return strings.Join(append(groups, s), " ")
}

// SafetyNumber is what two members compare outside of the network.
type SafetyNumber struct{ Own, Theirs Fingerprint }

// Digits are 60 in twelve groups of five, the same for both members.
func (s SafetyNumber) Digits() string {
	a, b := s.Own, s.Theirs
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return GroupDigits(a.digits() + b.digits())
}

// QR is the text of the code that the other member scans: version, own and their
// fingerprint.
func (s SafetyNumber) QR() string {
	b := append([]byte{safetyVersion}, s.Own[:]...)
	return safetyQR + base64.RawURLEncoding.EncodeToString(append(b, s.Theirs[:]...))
}

// CheckDigits compares, in constant time, with the digits that the other member sees. What
// is between the digits may be white space; ErrSafetyForm or ErrSafetyDiffers says why not.
func (s SafetyNumber) CheckDigits(text string) error {
	if len(text) > 4*SafetyDigits {
		return ErrSafetyForm
	}
	got := strings.Join(strings.Fields(text), "")
	if len(got) != SafetyDigits || strings.Trim(got, "0123456789") != "" {
		return ErrSafetyForm
	}
	want := strings.ReplaceAll(s.Digits(), " ", "")
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return ErrSafetyDiffers
	}
	return nil
}

// CheckQR compares, in constant time, with the code that the other member shows: what is
// its own there is theirs here. ErrSafetyOwn says that it is the one from this screen.
func (s SafetyNumber) CheckQR(text string) error {
	if len(text) > 4*SafetyDigits {
		return ErrSafetyForm
	}
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), safetyQR)
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(b) != 1+2*len(s.Own) || b[0] != safetyVersion {
		return ErrSafetyForm
	}
	if bytes.Equal(b[1:1+len(s.Own)], s.Own[:]) {
		return ErrSafetyOwn
	}
	want := append(append([]byte{safetyVersion}, s.Theirs[:]...), s.Own[:]...)
	if subtle.ConstantTimeCompare(b, want) != 1 {
		return ErrSafetyDiffers
	}
	return nil
}
