package identity

import (
	"strings"
	"testing"
	"time"
)

func TestACosignatureStandsForItsCosignerAndHeadAlone(t *testing.T) {
	h := newHouse(t, "acme.example")
	signed, err := SignCheckpoint(h.Organization, 4, [32]byte{1}, h.keys.Directory)
	if err != nil {
		t.Fatal(err)
	}
	head, err := VerifyCheckpoint(signed, h.Organization)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_790_000_000, 0)
	note, err := Cosign(head, "globex.example/cosigner", seeded("w"), at)
	if err != nil {
		t.Fatal(err)
	}
	by := Cosigner{"globex.example/cosigner", public(seeded("w"))}
	got, err := Cosignatures(note, []Cosigner{{"globex.example/cosigner", public(seeded("other"))}, by, {"initech.example/cosigner", by.Public}})
	if err != nil || len(got) != 1 || !got[0].At.Equal(at) || got[0].By.Owner != by.Owner {
		t.Fatalf("%+v %v\n%s", got, err, note)
	}
	if c, err := VerifyCheckpoint(note, h.Organization); err != nil || c.Size != 4 {
		t.Errorf("a cosigned head: %v", err)
	}
	other := strings.Replace(note, "\n4\n", "\n6\n", 1)
	if got, _ := Cosignatures(other, []Cosigner{by}); len(got) != 0 {
		t.Error("a cosignature stands for another head")
	}
	// A later one goes in the place of an earlier one, an earlier one in none's.
	again, err := Cosign(head, by.Owner, seeded("w"), at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	head.Note = note
	for _, add := range []string{again, note} {
		merged, err := MergeCosignatures(head, add, []Cosigner{by})
		if err != nil {
			t.Fatal(err)
		}
		head.Note = merged
	}
	if got, _ := Cosignatures(head.Note, []Cosigner{by}); len(got) != 1 || !got[0].At.Equal(at.Add(time.Hour)) || strings.Count(head.Note, "\n— ") != 2 {
		t.Errorf("%+v\n%s", got, head.Note)
	}
	if bare, err := MergeCosignatures(head, head.Note, nil); err != nil || bare != signed {
		t.Errorf("without cosignatures: %v\n%s", err, bare)
	}
	if _, err := MergeCosignatures(head, other, []Cosigner{by}); err == nil {
		t.Error("cosignatures of another head were merged")
	}
}
