package identity

import (
	"testing"
)

func TestTwoSuccessorsOfOneManifestAreProvedUntilAnAuthorityDecides(t *testing.T) {
	acme := guarded(t)
	one, other := byRoot(1)(t, acme), byThief(t, acme)
	f, err := ProveRootFork(acme.ID, one.Notes, other.Notes)
	must(t, err)
	p, err := VerifyRootFork(f)
	must(t, err)
	if p.At != len(acme.Notes) {
		t.Errorf("they part at %d", p.At)
	}
	for name, c := range map[string]struct {
		o    *Organization
		want bool
	}{"one of them": {one, false}, "the other": {other, false}, "what both share": {acme.Organization, false}, "the next root": {byNext(t, acme), true}, "custodians": {byCustodians(t, acme), true}} {
		if got := p.SettledBy(c.o); got != c.want {
			t.Errorf("settled by %s: %v", name, got)
		}
	}
	for because, pair := range map[string][2]*Organization{
		"one stands": {one, byNext(t, acme)}, "stands": {one, one}, "which one stands": {acme.Organization, one}, "another organization": {one, newHouse(t, "globex.example").Organization},
	} {
		_, err := ProveRootFork(acme.ID, pair[0].Notes, pair[1].Notes)
		refused(t, err, because)
	}
	f.Type = ForkType
	_, err = VerifyRootFork(f)
	refused(t, err, "type")
	f.Type, f.Organization = RootForkType, newHouse(t, "globex.example").ID.String()
	_, err = VerifyRootFork(f)
	refused(t, err, "another organization")
	f.Organization, f.Other = acme.ID.String(), nil
	_, err = VerifyRootFork(f)
	refused(t, err, "0 manifests")
}
