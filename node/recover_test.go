package node

import (
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// guardedSites are an organization with custodians, two of three, and its two partners, who
// witness the time; all have the manifest that says so.
func guardedSites(t *testing.T) (sites []*site, custodians []ed25519.PrivateKey) {
	t.Helper()
	sites = newLinked(t, "acme.example", "globex.example", "initech.example")
	acme := sites[0]
	var public []ed25519.PublicKey
	for range 3 {
		pub, key, err := ed25519.GenerateKey(nil)
		must(t, err)
		public, custodians = append(public, pub), append(custodians, key)
	}
	acme.halt()
	witnesses := []identity.Cosigner{identity.CosignerOf(sites[1].org), identity.CosignerOf(sites[2].org)}
	_, err := Entrust(acme.dir, filepath.Join(acme.dir, RootFile), worldPass, public, 2, witnesses, time.Now())
	must(t, err)
	acme.start()
	for _, s := range sites[1:] {
		s.knows(acme, 1)
	}
	return sites, custodians
}

// knows waits until a site has a partner's manifest of a number.
func (s *site) knows(of *site, sequence uint64) {
	s.t.Helper()
	eventually(s.t, s.org.Manifest.Name+" has the manifest", func() bool {
		o, ok := s.partner(of.org.ID)
		return ok && o.Manifest.Sequence == sequence
	})
}

func TestCustodiansBringInANewRootAfterThreeDays(t *testing.T) {
	sites, custodians := guardedSites(t)
	acme, witnesses := sites[0], sites[1:]
	dir := t.TempDir()
	r, err := BeginRecovery(filepath.Join(acme.dir, ManifestFile), filepath.Join(dir, "new.sealed"), worldPass, time.Now())
	must(t, err)
	stands := func(missing string) {
		t.Helper()
		_, err := r.Stands()
		if missing == "" && err != nil || missing != "" && (err == nil || !strings.Contains(err.Error(), missing)) {
			t.Fatalf("it stands: %v, wanted %q", err, missing)
		}
	}
	stands("0 custodians of 2 needed")
	r, err = r.Sign(custodians[0])
	must(t, err)
	if _, err := witnesses[0].witnessRecovery(r.Bytes()); err == nil {
		t.Error("what too few custodians have signed is witnessed")
	}
	if _, err := r.Sign(acme.client("mallory").key); err == nil {
		t.Error("a stranger signs")
	}
	// Another one signs a copy of his own; the two are put together.
	copied, err := ParseRecovery(r.Bytes())
	must(t, err)
	copied, err = copied.Sign(custodians[2])
	must(t, err)
	r, err = r.Merge(copied)
	must(t, err)
	stands("0 witnesses of 2 needed")
	seen := func() {
		t.Helper()
		for _, w := range witnesses {
			a, err := w.witnessRecovery(r.Bytes())
			must(t, err)
			r, err = ParseRecovery(a.Recovery)
			must(t, err)
		}
	}
	seen()
	stands("0 witnesses of 2 needed")
	if _, err := FinishRecovery(acme.dir, r); err == nil {
		t.Fatal("it is brought in before its time")
	}
	// Three days later by the witnesses' clocks, and by nobody else's.
	for _, w := range witnesses {
		w.halt()
		w.startWith(Options{Clock: aheadClock{identity.RecoveryDelay + time.Minute, time.Now()}}, func(*Config) {})
	}
	seen()
	seen() // again changes nothing
	stands("")
	acme.halt()
	_, err = FinishRecovery(acme.dir, r)
	must(t, err)
	for _, w := range witnesses {
		w.halt()
		w.start()
	}
	acme.start()
	for _, w := range witnesses {
		w.knows(acme, 2)
		o, _ := w.partner(acme.org.ID)
		if o.RootCause() != identity.ByCustodians {
			t.Errorf("%s takes it as by %s", w.org.Manifest.Name, o.RootCause())
		}
	}
	// The new keys are the organization's from now on.
	acme.halt()
	_, err = RotateRoot(acme.dir, filepath.Join(dir, "new.sealed"), filepath.Join(dir, "next.sealed"), worldPass, time.Now())
	must(t, err)
	acme.start()
	witnesses[0].knows(acme, 3)
}

func TestARecoveryThatItsOwnersDoNotWantIsWitnessedNoMore(t *testing.T) {
	sites, custodians := guardedSites(t)
	acme, globex := sites[0], sites[1]
	dir := t.TempDir()
	r, err := BeginRecovery(filepath.Join(acme.dir, ManifestFile), filepath.Join(dir, "thief.sealed"), worldPass, time.Now())
	must(t, err)
	for _, k := range custodians[:2] {
		r, err = r.Sign(k)
		must(t, err)
	}
	a, err := globex.witnessRecovery(r.Bytes())
	must(t, err)
	// acme's people see it, and bring in the root that they had committed to.
	acme.halt()
	_, err = RotateRoot(acme.dir, filepath.Join(acme.dir, RootFile), filepath.Join(dir, "next.sealed"), worldPass, time.Now())
	must(t, err)
	acme.start()
	globex.knows(acme, 2)
	if _, err := globex.witnessRecovery(a.Recovery); wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN {
		t.Errorf("witnessed again: %v", err)
	}
	if _, err := FinishRecovery(acme.dir, r); err == nil {
		t.Error("it is brought in all the same")
	}
}

func TestRecoveriesOfOthersAndGarbageAreNotWitnessed(t *testing.T) {
	sites, custodians := guardedSites(t)
	acme, globex := sites[0], sites[1]
	stranger := newSite(t, "hooli.example")
	dir := t.TempDir()
	if _, err := BeginRecovery(filepath.Join(globex.dir, ManifestFile), filepath.Join(dir, "none.sealed"), worldPass, time.Now()); err == nil || !strings.Contains(err.Error(), "no custodians") {
		t.Errorf("an organization without custodians: %v", err)
	}
	r, err := BeginRecovery(filepath.Join(acme.dir, ManifestFile), filepath.Join(dir, "new.sealed"), worldPass, time.Now())
	must(t, err)
	for _, k := range custodians {
		r, err = r.Sign(k)
		must(t, err)
	}
	if _, err := stranger.witnessRecovery(r.Bytes()); wire.StatusOf(err).Code != pb.Code_CODE_UNKNOWN_ORGANIZATION {
		t.Errorf("a stranger witnesses: %v", err)
	}
	if _, err := acme.witnessRecovery(r.Bytes()); err == nil {
		t.Error("an organization witnesses its own")
	}
	if _, err := FinishRecovery(globex.dir, r); err == nil {
		t.Error("it is brought into another organization")
	}
	file := r.Bytes()
	for what, b := range map[string][]byte{"nothing": nil, "half": file[:len(file)/2], "garbage": []byte("entente"),
		"manifests alone": []byte(joinNotes(acme.org.Notes)), "too much": append(make([]byte, 64*wire.MaxNote), file...)} {
		if _, err := globex.witnessRecovery(b); wire.StatusOf(err).Code != pb.Code_CODE_MALFORMED {
			t.Errorf("%s: %v", what, err)
		}
	}
}
