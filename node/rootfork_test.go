package node

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestARootThatSignsTwoManifestsInOnePlaceIsProvedUntilTheNextRootDecides(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	before := filepath.Join(t.TempDir(), "before")
	a.halt()
	copyFolder(t, before, a.dir)
	a.start()
	a.renamed("acme.test")
	eventually(t, "the new name is followed", func() bool { return b.nameOf(a.org.ID) == "acme.test" })
	// The root signs another manifest in the same place: whoever has it, or a folder from before.
	a.halt()
	a.setBack(before)
	_, err := Readdress(a.dir, filepath.Join(a.dir, RootFile), worldPass, []string{"/ip4/127.0.0.1/tcp/1"}, time.Now())
	must(t, err)
	a.start()
	var proof *pb.RootFork
	eventually(t, "the fork is proved", func() bool {
		proof, err = b.twoRoots(a.org.ID)
		must(t, err)
		return proof != nil
	})
	if p, err := identity.VerifyRootFork(proof); err != nil || p.At != 1 {
		t.Errorf("the proof: %v", err)
	}
	eventually(t, "quarantine", func() bool { p, err := b.fed.Partner(a.org.ID.String()); must(t, err); return p.State == "quarantined" })
	look := func() error {
		_, err := b.ask(t.Context(), a.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "alice"}}})
		return err
	}
	if err := look(); wire.StatusOf(err).Code != pb.Code_CODE_QUARANTINED {
		t.Errorf("a look-up: %v", err)
	}
	b.halt()
	b.start()
	if f, err := b.twoRoots(a.org.ID); err != nil || f == nil {
		t.Errorf("after a restart: %v", err)
	}
	// The next root takes precedence over both.
	a.halt()
	_, err = RotateRoot(a.dir, filepath.Join(a.dir, RootFile), filepath.Join(t.TempDir(), "root-1"), worldPass, time.Now())
	must(t, err)
	a.start()
	eventually(t, "the rotation decides", func() bool { f, err := b.twoRoots(a.org.ID); must(t, err); return f == nil })
	must(t, b.fed.Release(t.Context(), a.org.ID, ""))
	eventually(t, "members are looked up", func() bool { return look() == nil })
}

func TestARestoredNodeTakesItsManifestsBack(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	before := filepath.Join(t.TempDir(), "before")
	a.halt()
	copyFolder(t, before, a.dir)
	a.start()
	a.renamed("acme.test")
	eventually(t, "the new name is followed", func() bool { return b.nameOf(a.org.ID) == "acme.test" })
	a.halt()
	a.setBack(before)
	a.start()
	eventually(t, "the manifests are taken back", func() bool { return a.stale.Load() })
	o, err := OpenOrganization(a.dir)
	must(t, err)
	if o.Manifest.Name != "acme.test" || len(a.problems()) == 0 {
		t.Errorf("the folder's organization is %s; problems %v", o.Manifest.Name, a.problems())
	}
	a.halt()
	a.start()
	if a.org.Manifest.Name != "acme.test" || len(a.problems()) != 0 {
		t.Errorf("after a restart it is %s; problems %v", a.org.Manifest.Name, a.problems())
	}
	if f, err := b.twoRoots(a.org.ID); err != nil || f != nil {
		t.Errorf("accused: %v %v", f, err)
	}
}

// The largest chains of manifests that are taken still make proofs that are kept: who fills his
// notes up with lines of nobody is no less a liar.
func TestProofsOfTheLargestChainsAreKept(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	root, err := identity.OpenRootKeys(filepath.Join(a.dir, RootFile), worldPass)
	must(t, err)
	padded := func(note string) string {
		return note + "\u2014 " + strings.Repeat("\"", wire.MaxNote-len(note)-16) + " AAAAAAA=\n"
	}
	long := func(address string) *identity.Organization {
		o := a.org
		for range 30 {
			m, err := o.Successor(time.Now())
			must(t, err)
			m.Addresses = []string{address}
			note, err := m.Sign(root.Root)
			must(t, err)
			next, err := identity.VerifyManifests(append(slices.Clone(o.Notes), padded(note)), a.org.ID)
			if err != nil {
				break
			}
			o = next
		}
		return o
	}
	one, other := long("/ip4/192.0.2.1/tcp/1"), long("/ip4/192.0.2.2/tcp/1")
	f, err := identity.ProveRootFork(a.org.ID, one.Notes, other.Notes)
	must(t, err)
	must(t, b.foundTwoRoots(t.Context(), a.org.ID, f))
	f, err = b.twoRoots(a.org.ID)
	must(t, err)
	if again, err := b.twoRoots(a.org.ID); err != nil || f == nil || again != f {
		t.Errorf("the proof is kept, and verified once: %v", err)
	}
	if p, err := b.fed.Partner(a.org.ID.String()); err != nil || p.State != "quarantined" {
		t.Errorf("the partner is %s: %v", p.State, err)
	}
	keys, err := identity.OpenNodeKeys(filepath.Join(a.dir, KeysFile), worldPass)
	must(t, err)
	head := func(root byte) *identity.Checkpoint {
		signed, err := identity.SignCheckpoint(one, 4, [32]byte{root}, keys.Directory)
		must(t, err)
		h, err := identity.VerifyCheckpoint(signed, one)
		must(t, err)
		return h
	}
	proof, err := identity.ProveFork(one, head(1), head(2), nil)
	must(t, err)
	r, err := b.replicas.of(a.org.ID)
	must(t, err)
	for range 2 { // and once more, of the log after it
		must(t, r.Refuse(t.Context(), &replica.ForkError{Proof: proof}, time.Now()))
		_, err = r.Turn(t.Context(), r.State().Log+1)
		must(t, err)
	}
	must(t, r.Refuse(t.Context(), &replica.ForkError{Proof: proof}, time.Now()))
	if r.Forked() == nil || r.State().Settled == nil {
		t.Error("a proof is lost")
	}
}
