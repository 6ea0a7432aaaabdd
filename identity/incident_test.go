package identity

import (
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	"golang.org/x/mod/sumdb/tlog"
)

// declared is an organization that has told of an incident.
func declared(t testing.TB, h *house, reason string, at time.Time) *Organization {
	t.Helper()
	o, err := h.Declare(h.root.Root, reason, at)
	must(t, err)
	return o
}

func TestAnIncidentBeginsALogOfItsOwn(t *testing.T) {
	acme := newHouse(t, "acme.example")
	old, err := SignCheckpoint(acme.Organization, 2, [32]byte{1}, acme.keys.Directory)
	must(t, err)
	after := declared(t, acme, "our backup was started", now.Add(time.Hour))
	if after.ID != acme.ID || after.Manifest.Log() != uint64(now.Add(time.Hour).Unix()) || after.Manifest.Incidents[0].Reason != "our backup was started" {
		t.Errorf("%+v", after.Manifest.Incidents)
	}
	// Heads of the old log are past heads, and none of the new one.
	if _, err := VerifyCheckpoint(old, after); err == nil {
		t.Error("a head of the old log stands for the new one")
	}
	head, err := VerifyHead(old, after)
	if err != nil || head.Log != 0 {
		t.Errorf("a past head: %+v, %v", head, err)
	}
	signed, err := SignCheckpoint(after, 2, [32]byte{2}, acme.keys.Directory)
	must(t, err)
	if head, err = VerifyCheckpoint(signed, after); err != nil || head.Log != after.Manifest.Log() {
		t.Errorf("a head of the new log: %+v, %v", head, err)
	}
	if _, err := VerifyHead(signed, acme.Organization); err == nil {
		t.Error("a head of a log that the manifests do not begin")
	}
	cosigned, err := Cosign(head, "globex.example/cosigner", seeded("globex cosigner"), now)
	must(t, err)
	if _, err := VerifyCheckpoint(cosigned, after); err != nil {
		t.Errorf("cosigned: %v", err)
	}
}

func TestHeadsOfTwoLogsAreNoFork(t *testing.T) {
	acme := newHouse(t, "acme.example")
	after := declared(t, acme, "our backup was started", now.Add(time.Hour))
	leaves := [][]byte{{1}, {2}}
	older := signedHead(t, acme.Organization, acme, leaves[:1])
	for _, newer := range []*Checkpoint{signedHead(t, after, acme, [][]byte{{9}}), signedHead(t, after, acme, [][]byte{{9}, {8}})} {
		_, err := ProveFork(after, older, newer, func(i uint64) []byte { return [][]byte{{9}, {8}}[i] })
		refused(t, err, "two logs")
	}
	// What was proved of the old log stays proved, and says which log it is about.
	f, err := ProveFork(after, older, signedHead(t, acme.Organization, acme, leaves[1:]), nil)
	must(t, err)
	p, err := VerifyFork(f)
	must(t, err)
	if p.Older.Log == after.Manifest.Log() {
		t.Error("the proof is about the new log")
	}
}

func signedHead(t testing.TB, o *Organization, h *house, leaves [][]byte) *Checkpoint {
	t.Helper()
	root := subtree(0, uint64(len(leaves)), func(i uint64) []byte { return leaves[i] })
	signed, err := SignCheckpoint(o, uint64(len(leaves)), tlogHash(root), h.keys.Directory)
	must(t, err)
	c, err := VerifyCheckpoint(signed, o)
	must(t, err)
	return c
}

func tlogHash(h tlog.Hash) [32]byte { return [32]byte(h) }

func TestIncidentsAreNeitherTakenBackNorInvented(t *testing.T) {
	acme := newHouse(t, "acme.example")
	one := declared(t, acme, "one", now.Add(time.Hour))
	for because, change := range map[string]func(*Manifest){
		"other incidents": func(m *Manifest) { m.Incidents = nil },
		"than the one":    func(m *Manifest) { m.Incidents[0].Reason = "nothing" },
		"before it": func(m *Manifest) {
			m.Incidents = append(m.Incidents, Incident{m.Issued.Add(time.Hour), "of another time"})
		},
		"incidents than": func(m *Manifest) {
			m.Incidents = append(m.Incidents, Incident{m.Issued.Add(-time.Minute), "two"}, Incident{m.Issued, "three"})
		},
		"order of their": func(m *Manifest) {
			m.Issued = one.Manifest.Issued
			m.Incidents = append(m.Incidents, Incident{m.Issued, "at once"})
		},
		"incident":   func(m *Manifest) { m.Incidents = append(m.Incidents, Incident{m.Issued, "a\u202etext that turns"}) },
		"manifest 2": func(m *Manifest) { m.Incidents[0].At = m.Incidents[0].At.Add(time.Second) },
	} {
		m, err := one.Successor(now.Add(2 * time.Hour))
		must(t, err)
		change(&m)
		signed, err := m.Sign(acme.root.Root)
		if err != nil {
			continue
		}
		_, err = VerifyManifests(append(one.Notes[:len(one.Notes):len(one.Notes)], signed), acme.ID)
		refused(t, err, because)
	}
	for _, reason := range []string{"", " ", "two\nlines", " indented", "\x1b[31mred", string(make([]byte, 10)), string([]byte{0xff}), longText(MaxIncidentReason + 1)} {
		if _, err := acme.Declare(acme.root.Root, reason, now); err == nil {
			t.Errorf("%q is told", reason)
		}
	}
	if _, err := acme.Declare(seeded("thief"), "not my root", now); err == nil {
		t.Error("another key than the root tells of an incident")
	}
	// A genesis manifest has none.
	m := acme.Manifest
	m.Incidents = []Incident{{m.Issued, "before the beginning"}}
	signed, err := m.Sign(acme.root.Root)
	must(t, err)
	_, err = VerifyManifests([]string{signed}, wire.OrganizationID{})
	refused(t, err, "manifest 0 tells")
	// Up to the bound, not beyond.
	h := &house{Organization: acme.Organization, root: acme.root}
	for i := range MaxIncidents {
		h.Organization = declared(t, h, "again", now.Add(time.Duration(i+1)*time.Minute))
	}
	_, err = h.Declare(h.root.Root, "too many", now.Add(time.Hour))
	refused(t, err, "most")
}

func longText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a'
	}
	return string(b)
}
