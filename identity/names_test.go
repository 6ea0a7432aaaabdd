package identity

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func TestARenamedOrganizationIsTheSameAndWhatItHasSignedStands(t *testing.T) {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	alice := acme.member(t, "alice", "phone")
	chain := alice.chain(t, alice.record("alice"))
	head := signedHead(t, acme.Organization, acme, [][]byte{{1}})
	agreement := NewAgreement(acme.Organization, globex.Organization, DefaultTerms(now, now.Add(time.Hour)))
	signedAgreement, err := SignAgreement(agreement, noteKey("acme.example/node", acme.keys.Node))
	must(t, err)
	o, err := acme.Rename(acme.root.Root, "acme.test", now.Add(time.Hour))
	must(t, err)
	if o.ID != acme.ID || o.Manifest.Name != "acme.test" || o.KeyName() != "acme.example" || !slices.Equal(o.Names(), []string{"acme.example", "acme.test"}) {
		t.Fatalf("%s %s %v", o.Manifest.Name, o.KeyName(), o.Names())
	}
	chain.Manifests = o.Notes
	m, err := VerifyChain(chain, acme.ID, now.Add(time.Hour))
	must(t, err)
	if m.Address() != (wire.Address{Name: "alice", Organization: "acme.test"}) {
		t.Errorf("alice is %s", m.Address())
	}
	if _, err := VerifyCheckpoint(head.Note, o); err != nil {
		t.Errorf("its head: %v", err)
	}
	if _, err := VerifyNodeCertificate(acme.cert, o, o.Manifest.Nodes[0].Peer, now.Add(time.Hour)); err != nil {
		t.Errorf("its node: %v", err)
	}
	if _, err := VerifyProposal(signedAgreement, o, globex.Organization); err != nil {
		t.Errorf("its agreement: %v", err)
	}
	if CosignerOf(o).Owner != CosignerOf(acme.Organization).Owner {
		t.Error("its cosigner has another name")
	}
	// It is renamed again, rotated and back: who holds what chain agrees.
	again, err := o.Rename(acme.root.Root, "acme.example", now.Add(2*time.Hour))
	must(t, err)
	if got, err := Prevailing(acme.Organization, again); err != nil || got != again {
		t.Errorf("%v", err)
	}
}

func TestAFormerNameIsFoundForThirtyDays(t *testing.T) {
	acme := newHouse(t, "acme.example")
	at := now.Add(time.Hour)
	o, err := acme.Rename(acme.root.Root, "acme.test", at)
	must(t, err)
	for _, c := range []struct {
		name string
		when time.Time
		want bool
	}{
		{"acme.test", at, true}, {"acme.example", at.Add(FormerName - time.Second), true}, {"acme.example", at.Add(FormerName), false},
		{"globex.example", at, false}, {"", at, false},
	} {
		if got := o.Answers(c.name, c.when); got != c.want {
			t.Errorf("%q at %s: %v", c.name, c.when, got)
		}
	}
}

func TestRenamesThatAreRefused(t *testing.T) {
	acme := guarded(t)
	for _, name := range []string{"acme.example", "", "ACME.example", "acme example", "xn--a"} {
		if o, err := acme.Rename(acme.root.Root, name, now); err == nil {
			t.Errorf("renamed to %q", o.Manifest.Name)
		}
	}
	_, err := acme.Rename(seeded("thief"), "evil.example", now)
	refused(t, err, "signature")
	// Custodians bring in a root; the name is the root's to give.
	m := acme.successor(t, 7)
	m.Name, m.Root, m.NextRoot = "evil.example", public(seeded("third")), NextRootHash(public(seeded("fourth")))
	signed, err := m.Sign(seeded("third"))
	must(t, err)
	_, err = OpenRecovery(acme.Organization, signed)
	refused(t, err, "renames")
	_, err = VerifyManifests(acme.with(signed), acme.ID)
	refused(t, err, "renames")
	o := acme.Organization
	for i := 1; i < MaxNames; i++ {
		o, err = o.Rename(acme.root.Root, fmt.Sprintf("acme%d.example", i), now)
		must(t, err)
	}
	_, err = o.Rename(acme.root.Root, "onemore.example", now)
	refused(t, err, "names")
}
