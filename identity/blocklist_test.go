package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func listOf(h *house, entries ...BlockEntry) BlockList {
	return BlockList{Organization: h.ID, Sequence: 7, Issued: now, Until: now.Add(30 * 24 * time.Hour), Entries: entries}
}

// blockListVectors makes testdata/blocklists.json anew: go test ./identity -run BlockListVectors -update
func blockListVectors(t testing.TB) *vectorFile {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	f := &vectorFile{Comment: "each block list stands (accept) or is refused, against the organization given here", Now: now, Organization: acme.Notes, Partner: globex.Notes}
	m := maker{t, f}
	key := noteKey("acme.example/directory", acme.keys.Directory)
	member := wire.MemberID{1, 2, 3}
	good, err := listOf(acme, BlockEntry{globex.ID, member, "phishing", now.Add(time.Hour)}, BlockEntry{wire.OrganizationID{9}, wire.MemberID{}, "spam", time.Time{}}).Sign("acme.example", acme.keys.Directory)
	must(t, err)
	m.accept("as signed", blockListType, good)
	empty, err := listOf(acme).Sign("acme.example", acme.keys.Directory)
	must(t, err)
	m.accept("without entries", blockListType, empty)
	other, err := listOf(globex).Sign("globex.example", globex.keys.Directory)
	must(t, err)
	m.refuse("of another organization", "another organization", blockListType, other)
	m.refuse("signed by the node's key", "signature", blockListType, sign(t, textOf(t, good), noteKey("acme.example/directory", acme.keys.Node)))
	m.refuse("signed under another name", "signature", blockListType, sign(t, textOf(t, good), noteKey("acme.example/node", acme.keys.Directory)))
	m.refuse("without a signature", "", blockListType, textOf(t, good))
	who := globex.ID.String() + "/" + member.String()
	first, second := "entry "+wire.OrganizationID{9}.String()+" spam list\n", "entry "+who+" phishing "+wire.FormatTime(now.Add(time.Hour))+"\n"
	if !strings.Contains(textOf(t, good), first+second) {
		first, second = second, first
	}
	m.edits(blockListType, good, []wire.NoteKey{key}, [][4]string{
		{"of another version", "of type", "/v1\n", "/v2\n"},
		{"sequence with a leading zero", "not a number", "sequence 7", "sequence 07"},
		{"sequence of zero", "sequence of 0", "sequence 7", "sequence 0"},
		{"valid before it was issued", "no time", "valid-until 2026-12-23", "valid-until 2026-11-22"},
		{"valid for a year", "90 days", "valid-until 2026-12-23", "valid-until 2027-11-23"},
		{"entries exchanged", "order", first + second, second + first},
		{"an entry twice", "order", first, first + first},
		{"an entry about the issuer", "issuer itself", "entry " + globex.ID.String(), "entry " + acme.ID.String()},
		{"a reason that is none", "does not parse", " spam ", " dislike "},
		{"a reason in capitals", "does not parse", " spam ", " Spam "},
		{"an end with a fraction", "does not parse", "T01:00:00Z", "T01:00:00.5Z"},
		{"an end with a zone", "does not parse", "T01:00:00Z", "T01:00:00+00:00"},
		{"an entry with a remark", "does not parse", " spam list", " spam list really"},
		{"an entry without an end", "does not parse", " spam list", " spam"},
		{"a member of zeros", "does not parse", "/" + member.String(), "/" + wire.MemberID{}.String()},
		{"a member ID that is short", "does not parse", "/" + member.String(), "/" + member.String()[:50]},
		{"a field more", "superfluous", "entry " + wire.OrganizationID{9}.String() + " spam list\n", "entry " + wire.OrganizationID{9}.String() + " spam list\nzzz 1\n"},
		{"without a sequence", "missing", "sequence 7\n", ""},
	})
	return f
}

func TestBlockListVectors(t *testing.T) {
	if *update {
		b, err := json.MarshalIndent(blockListVectors(t), "", " ")
		must(t, err)
		must(t, os.WriteFile("testdata/blocklists.json", append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile("testdata/blocklists.json")
	must(t, err)
	var f vectorFile
	must(t, json.Unmarshal(b, &f))
	acme, err := VerifyManifests(f.Organization, wire.OrganizationID{})
	must(t, err)
	if len(f.Vectors) < 20 {
		t.Fatalf("%d vectors", len(f.Vectors))
	}
	for _, v := range f.Vectors {
		l, err := VerifyBlockList(v.Notes[0], acme)
		switch {
		case !v.Accept:
			t.Run(v.Name, func(t *testing.T) { refused(t, err, v.Because) })
			if !errors.Is(err, ErrNotStanding) {
				t.Errorf("%s: %v is not ErrNotStanding", v.Name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", v.Name, err)
		default:
			if text, err := l.record().Text(); err != nil || text != textOf(t, v.Notes[0]) {
				t.Errorf("%s: re-encodes to %q, %v", v.Name, text, err)
			}
		}
	}
}

func TestABlockListHasAsManyEntriesAndBytesAsItMayAndNoMore(t *testing.T) {
	acme := newHouse(t, "acme.example")
	many := func(n int, member wire.MemberID) (out []BlockEntry) {
		for i := range n {
			var id wire.OrganizationID
			copy(id[:], fmt.Sprintf("%032d", i))
			out = append(out, BlockEntry{id, member, "other", time.Time{}})
		}
		slices.Reverse(out) // Sign puts them in order
		return out
	}
	full, err := listOf(acme, many(wire.MaxBlockListEntries, wire.MemberID{})...).Sign("acme.example", acme.keys.Directory)
	must(t, err)
	l, err := VerifyBlockList(full, acme.Organization)
	must(t, err)
	if len(l.Entries) != wire.MaxBlockListEntries || len(full) > wire.MaxBlockList {
		t.Errorf("%d entries in %d bytes", len(l.Entries), len(full))
	}
	if _, err := listOf(acme, many(wire.MaxBlockListEntries+1, wire.MemberID{})...).Sign("acme.example", acme.keys.Directory); err == nil {
		t.Error("an entry too many is signed")
	}
	if _, err := listOf(acme, many(wire.MaxBlockListEntries, wire.MemberID{1})...).Sign("acme.example", acme.keys.Directory); err == nil {
		t.Error("a list of more than a MiB is signed")
	}
	long := "entente.im/member/v1\nname " + strings.Repeat("x", wire.MaxNote) + "\n"
	if _, err := wire.ParseRecord(long, "entente.im/member/v1"); err == nil {
		t.Error("another note may be as long")
	}
}

func TestABlockListHoldsFromWhenItWasIssuedToItsEnd(t *testing.T) {
	l := BlockList{Issued: now, Until: now.Add(time.Hour)}
	for at, want := range map[time.Time]bool{now: true, now.Add(time.Hour - 1): true, now.Add(time.Hour): false, now.Add(-time.Minute): true, now.Add(-wire.ClockTolerance - time.Second): false} {
		if l.Holds(at) != want {
			t.Errorf("at %s it holds: %v", at, !want)
		}
	}
}

// FuzzBlockList: what parses re-encodes to the same text, and nothing stands that the
// directory key has not signed.
func FuzzBlockList(f *testing.F) {
	b, err := os.ReadFile("testdata/blocklists.json")
	must(f, err)
	var file vectorFile
	must(f, json.Unmarshal(b, &file))
	acme, err := VerifyManifests(file.Organization, wire.OrganizationID{})
	must(f, err)
	signed := make(map[string]bool)
	for _, v := range file.Vectors {
		f.Add(v.Notes[0])
		if v.Accept {
			signed[textOf(f, v.Notes[0])] = true
		}
	}
	f.Fuzz(func(t *testing.T, note string) {
		text, err := wire.NoteText(note)
		if err != nil {
			return
		}
		if l, err := parseBlockList(text); err == nil {
			if again, err := l.record().Text(); err != nil || again != text {
				t.Errorf("re-encodes to %q, %v", again, err)
			}
		}
		if _, err := VerifyBlockList(note, acme); err == nil && !signed[text] {
			t.Error("a list stands that nobody has signed")
		}
	})
}
