package identity

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
)

type safetyVector struct {
	Organization string `json:"organization"`
	Member       string `json:"member"`
	Key          string `json:"key"`
	Fingerprint  string `json:"fingerprint"`
}

type safetyVectors struct {
	Comment string          `json:"comment"`
	Own     safetyVector    `json:"own"`
	Theirs  safetyVector    `json:"theirs"`
	Digits  string          `json:"digits"`
	QR      string          `json:"qr"`
	Refused []safetyRefused `json:"refused"`
}

// safetyRefused is a code that is not taken: form (true) or another number (false).
type safetyRefused struct {
	Why  string `json:"why"`
	Code string `json:"code"`
	Form bool   `json:"form"`
}

func readSafety(t *testing.T) (v safetyVectors, s SafetyNumber) {
	b, err := os.ReadFile("testdata/safety.json")
	must(t, err)
	must(t, json.Unmarshal(b, &v))
	return v, SafetyNumber{v.Own.compute(t), v.Theirs.compute(t)}
}

func (v safetyVector) compute(t *testing.T) Fingerprint {
	part := func(s string) [32]byte {
		b, err := hex.DecodeString(s)
		must(t, err)
		return [32]byte(b)
	}
	key := part(v.Key)
	f := SafetyFingerprint(wire.OrganizationID(part(v.Organization)), wire.MemberID(part(v.Member)), ed25519.PublicKey(key[:]))
	if hex.EncodeToString(f[:]) != v.Fingerprint {
		t.Fatalf("the fingerprint is %x, the vector's is %s", f, v.Fingerprint)
	}
	return f
}

func TestASafetyNumberIsThatOfTheVectorsAndTheSameForBoth(t *testing.T) {
	v, s := readSafety(t)
	other := SafetyNumber{s.Theirs, s.Own}
	if s.Digits() != v.Digits || other.Digits() != v.Digits || s.QR() != v.QR {
		t.Fatalf("digits %q and %q, QR %q", s.Digits(), other.Digits(), s.QR())
	}
	must(t, s.CheckDigits(other.Digits()))
	must(t, s.CheckQR(other.QR()))
	for _, r := range v.Refused {
		want := ErrSafetyDiffers
		if r.Form {
			want = ErrSafetyForm
		}
		check := s.CheckDigits
		if strings.HasPrefix(r.Code, "entente") {
			check = s.CheckQR
		}
		if err := check(r.Code); !errors.Is(err, want) {
			t.Errorf("%s: %v", r.Why, err)
		}
	}
}

func TestASafetyNumberChangesWithOrganizationMemberAndKey(t *testing.T) {
	base := SafetyFingerprint(wire.OrganizationID{1}, wire.MemberID{2}, public(seeded("a")))
	for name, f := range map[string]Fingerprint{
		"organization": SafetyFingerprint(wire.OrganizationID{3}, wire.MemberID{2}, public(seeded("a"))),
		"member":       SafetyFingerprint(wire.OrganizationID{1}, wire.MemberID{3}, public(seeded("a"))),
		"key":          SafetyFingerprint(wire.OrganizationID{1}, wire.MemberID{2}, public(seeded("b"))),
	} {
		if f == base || f.digits() == base.digits() {
			t.Errorf("another %s has the same number", name)
		}
	}
}

// An own code that is shown back, as by a mirror or by a node, verifies nobody.
func TestAnOwnQRCodeVerifiesNobody(t *testing.T) {
	_, s := readSafety(t)
	elsewhere := SafetyNumber{s.Own, Fingerprint{9}}
	for name, code := range map[string]string{"for the other": s.QR(), "for somebody else": elsewhere.QR()} {
		if err := s.CheckQR(code); !errors.Is(err, ErrSafetyOwn) || !errors.Is(err, ErrSafetyDiffers) {
			t.Errorf("an own code %s: %v", name, err)
		}
	}
}

func FuzzSafetyCode(f *testing.F) {
	s := SafetyNumber{Fingerprint{1}, Fingerprint{2}}
	other := SafetyNumber{s.Theirs, s.Own}
	f.Add(other.QR())
	f.Add(s.Digits())
	f.Add("entente:safety:")
	f.Fuzz(func(t *testing.T, text string) {
		if s.CheckQR(text) == nil && strings.TrimSpace(text) != other.QR() {
			t.Fatalf("%q is taken for the code", text)
		}
		if s.CheckDigits(text) == nil && strings.Join(strings.Fields(text), "") != strings.ReplaceAll(s.Digits(), " ", "") {
			t.Fatalf("%q is taken for the digits", text)
		}
	})
}
