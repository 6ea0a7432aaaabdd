package identity

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// seeds adds every committed vector of a type.
func seeds(f *testing.F, typ string) *vectorFile {
	f.Helper()
	b, err := os.ReadFile("testdata/notes.json")
	must(f, err)
	var file vectorFile
	must(f, json.Unmarshal(b, &file))
	for _, v := range file.Vectors {
		if v.Type == typ && len(v.Notes) > 0 {
			f.Add(v.Notes[len(v.Notes)-1])
		}
	}
	return &file
}

// FuzzManifest: what parses re-encodes to the same text, and nothing but what the
// root key has signed stands.
func FuzzManifest(f *testing.F) {
	file := seeds(f, manifestType)
	org, err := VerifyManifests(file.Organization, wire.OrganizationID{})
	must(f, err)
	f.Fuzz(func(t *testing.T, signed string) {
		text, err := wire.NoteText(signed)
		if err != nil {
			return
		}
		if m, err := parseManifest(text); err == nil {
			if again, err := m.record().Text(); err != nil || again != text {
				t.Errorf("re-encodes to %q, %v", again, err)
			}
		}
		if o, err := VerifyManifests([]string{signed}, org.ID); err == nil && text != textOf(t, file.Organization[0]) {
			t.Errorf("another genesis of %s stands", o.ID)
		}
	})
}

// FuzzAgreement: what parses re-encodes to the same text.
func FuzzAgreement(f *testing.F) {
	seeds(f, agreementType)
	f.Fuzz(func(t *testing.T, signed string) {
		text, err := wire.NoteText(signed)
		if err != nil {
			return
		}
		a, err := parseAgreement(text)
		if err != nil {
			return
		}
		if again, err := a.Text(); err != nil || again != text {
			t.Errorf("re-encodes to %q, %v", again, err)
		}
	})
}

// FuzzNotes puts the same bytes before every other verifier: only texts of the
// committed vectors may stand, since nobody else holds the keys.
func FuzzNotes(f *testing.F) {
	file := seeds(f, nodeType)
	known := map[string]bool{}
	for _, v := range file.Vectors {
		if len(v.Notes) == 1 {
			f.Add(v.Notes[0])
		}
		if v.Accept {
			known[textOf(f, v.Notes[len(v.Notes)-1])] = true
		}
	}
	known[textOf(f, file.Genesis)] = true
	f.Fuzz(func(t *testing.T, signed string) {
		for _, typ := range []string{nodeType, recordType, deviceType, revocationType, agreementType} {
			if err := file.verify(noteVector{Type: typ, Notes: []string{signed}}); err == nil && !known[textOf(t, signed)] {
				t.Errorf("as %s stands %q", typ, signed)
			}
		}
		if g, id, err := VerifyGenesis(signed); err == nil && (id != wire.MemberID(wire.TextHash(textOf(t, signed))) || len(g.Key) != 32) {
			t.Errorf("a genesis of %s", id)
		}
	})
}

// FuzzChain decodes a chain as it comes over the wire.
func FuzzChain(f *testing.F) {
	acme := newHouse(f, "acme.example")
	alice := acme.member(f, "alice", "laptop")
	b, err := proto.Marshal(alice.chain(f, alice.record("alice")))
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c pb.MemberChain
		if proto.Unmarshal(b, &c) != nil {
			return
		}
		if m, err := VerifyChain(&c, acme.ID, now); err == nil && (m.ID != alice.id || len(m.Devices) != 1) {
			t.Errorf("stands as %+v", m)
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(exampleLink().String())
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := ParseLink(s); err == nil && l.String() != s {
			t.Errorf("comes back as %q", l)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add(exampleToken().String(), []byte(nil))
	b, err := json.Marshal(exampleToken())
	must(f, err)
	f.Add("", b)
	f.Fuzz(func(t *testing.T, s string, inner []byte) {
		// The second argument gets a right checksum, so that the fuzzer comes past it.
		made := tokenPrefix + token32.EncodeToString(append(tokenChecksum(inner), inner...))
		for _, s := range []string{s, made} {
			token, err := ParseToken(s)
			if err != nil {
				continue
			}
			if token.String() != s || token.Terms.Check() != nil || len(token.Addresses) > maxAddresses {
				t.Errorf("%q stands as %+v", s, token)
			}
		}
	})
}

// FuzzSealed reads headers only: costs are bounded before they are paid.
func FuzzSealed(f *testing.F) {
	f.Add(append([]byte(sealMagic), make([]byte, sealHeader+16)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		passes, memory, threads, err := parseSealed(b)
		if err == nil && (passes == 0 || passes > maxSealPasses || memory < 8*uint32(threads) || memory > maxSealMemory || threads == 0) {
			t.Errorf("passes %d, memory %d, threads %d", passes, memory, threads)
		}
	})
}

// FuzzPartnerRevocation: what parses re-encodes to the same text.
func FuzzPartnerRevocation(f *testing.F) {
	seeds(f, partnerRevocationType)
	f.Fuzz(func(t *testing.T, signed string) {
		r, err := ReadPartnerRevocation(signed)
		if err != nil {
			return
		}
		if again, err := r.record().Text(); err != nil || again != textOf(t, signed) {
			t.Errorf("re-encodes to %q, %v", again, err)
		}
	})
}
