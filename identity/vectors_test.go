package identity

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// The vectors are made from seeded keys: go test ./identity -run Vectors -update
var update = flag.Bool("update", false, "write testdata anew")

// vectorFile is testdata/notes.json: notes of every type with what they are checked
// against, for other implementations as well.
type vectorFile struct {
	Comment      string       `json:"comment"`
	Now          time.Time    `json:"now"`
	Organization []string     `json:"organization"` // manifests of acme.example
	Partner      []string     `json:"partner"`      // manifests of globex.example
	Genesis      string       `json:"genesis"`      // of the member alice@acme.example
	Vectors      []noteVector `json:"vectors"`
}

// noteVector is one note, or a chain of manifests.
type noteVector struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Notes   []string `json:"notes"`
	Accept  bool     `json:"accept"`
	Because string   `json:"because,omitempty"` // part of the refusal's text
}

// verify runs the function that the vector's type belongs to.
func (f *vectorFile) verify(v noteVector) error {
	org, err := VerifyManifests(f.Organization, wire.OrganizationID{})
	if err != nil {
		return err
	}
	partner, err := VerifyManifests(f.Partner, wire.OrganizationID{})
	if err != nil {
		return err
	}
	g, id, err := VerifyGenesis(f.Genesis)
	if err != nil {
		return err
	}
	switch v.Type {
	case manifestType:
		_, err = VerifyManifests(v.Notes, org.ID)
	case nodeType:
		_, err = VerifyNodeCertificate(v.Notes[0], org, org.Manifest.Nodes[0].Peer, f.Now)
	case genesisType:
		_, _, err = VerifyGenesis(v.Notes[0])
	case recordType:
		_, err = VerifyRecord(v.Notes[0], org)
	case deviceType:
		_, err = VerifyDeviceCertificate(v.Notes[0], id, g.Key)
	case revocationType:
		_, err = VerifyRevocation(v.Notes[0], org, &Member{ID: id, Key: g.Key})
	case agreementType:
		_, err = VerifyAgreement(v.Notes[0], org, partner)
	case complaintType:
		_, err = VerifyComplaint(v.Notes[0])
	case partnerRevocationType:
		_, err = VerifyPartnerRevocation(v.Notes[0], org)
	default:
		err = errors.New("a vector of an unknown type")
	}
	return err
}

func TestNoteVectors(t *testing.T) {
	if *update {
		b, err := json.MarshalIndent(makeVectors(t), "", " ")
		must(t, err)
		must(t, os.WriteFile("testdata/notes.json", append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile("testdata/notes.json")
	must(t, err)
	var f vectorFile
	must(t, json.Unmarshal(b, &f))
	types := map[string][2]int{}
	for _, v := range f.Vectors {
		n := types[v.Type]
		if err := f.verify(v); v.Accept {
			n[0]++
			if err != nil {
				t.Errorf("%s, %s: %v", v.Type, v.Name, err)
			}
		} else {
			n[1]++
			t.Run(v.Type+" "+v.Name, func(t *testing.T) { refused(t, err, v.Because) })
			if !errors.Is(err, ErrNotStanding) {
				t.Errorf("%s, %s: %v is not ErrNotStanding", v.Type, v.Name, err)
			}
		}
		types[v.Type] = n
	}
	if len(types) != 9 {
		t.Errorf("vectors of %d types of note, not 9", len(types))
	}
	for typ, n := range types {
		if n[0] == 0 || n[1] == 0 {
			t.Errorf("%s: %d accepting and %d refusing vectors", typ, n[0], n[1])
		}
	}
}

// maker collects vectors.
type maker struct {
	t testing.TB
	f *vectorFile
}

func (m maker) accept(name, typ string, notes ...string) {
	m.f.Vectors = append(m.f.Vectors, noteVector{Name: name, Type: typ, Notes: notes, Accept: true})
}

func (m maker) refuse(name, because, typ string, notes ...string) {
	m.f.Vectors = append(m.f.Vectors, noteVector{Name: name, Type: typ, Notes: notes, Because: because})
}

// optional are the fields that may stand no time at all.
var optional = []string{"address", "api", "capability", "device", "revoked"}

// form makes what every type has to refuse: a field missing, superfluous, or out of
// order, another version, and signatures that are not the right one's.
func (m maker) form(typ, good string, keys ...wire.NoteKey) {
	m.accept("as signed", typ, good)
	text := textOf(m.t, good)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines[1:] {
		field, _, _ := strings.Cut(line, " ")
		if slices.Contains(optional, field) && typ != deviceType && typ != revocationType && typ != complaintType {
			continue
		}
		without := strings.Join(slices.Delete(slices.Clone(lines), i+1, i+2), "\n") + "\n"
		m.refuse("without "+field, "", typ, m.sign(typ, without, keys))
	}
	last := len(lines) - 1
	swapped := slices.Clone(lines)
	swapped[last], swapped[last-1] = swapped[last-1], swapped[last]
	m.refuse("last two fields exchanged", "", typ, m.sign(typ, strings.Join(swapped, "\n")+"\n", keys))
	m.refuse("a field more", "superfluous", typ, m.sign(typ, text+"zzz 1\n", keys))
	m.refuse("of another version", "of type", typ, m.sign(typ, strings.Replace(text, "/v1\n", "/v2\n", 1), keys))
	m.refuse("more text after an empty line", "", typ, m.sign(typ, text+"\nzzz 1\n", keys))
	stranger := noteKey(keys[0].Owner, seeded("stranger"))
	m.refuse("signed by a stranger of that name", "signature", typ, sign(m.t, text, append([]wire.NoteKey{stranger}, keys[1:]...)...))
	other := wire.NoteKey{Owner: "other.example/x", Public: keys[0].Public, Private: keys[0].Private}
	m.refuse("signed under another key name", "signature", typ, sign(m.t, text, append([]wire.NoteKey{other}, keys[1:]...)...))
	m.refuse("without signatures", "", typ, text)
	m.refuse("a letter of the text changed", "", typ, strings.Replace(good, "2026", "2027", 1))
	m.refuse("empty", "", typ, "")
}

// sign signs a changed text; a genesis record's key name follows its text.
func (m maker) sign(typ, text string, keys []wire.NoteKey) string {
	if typ == genesisType {
		k := keys[0]
		k.Owner = MemberKeyName(wire.TextHash(text))
		keys = []wire.NoteKey{k}
	}
	return sign(m.t, text, keys...)
}

// edits makes refusals by replacing one part of a good text.
func (m maker) edits(typ, good string, keys []wire.NoteKey, edits [][4]string) {
	for _, e := range edits {
		m.refuse(e[0], e[1], typ, m.sign(typ, replaced(m.t, textOf(m.t, good), e[2], e[3]), keys))
	}
}
