package node

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
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
