package node

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// renamed stops a site, gives its organization another name, and starts it.
func (s *site) renamed(name string) {
	s.t.Helper()
	s.halt()
	_, err := Rename(s.dir, filepath.Join(s.dir, RootFile), worldPass, name, time.Now())
	must(s.t, err)
	s.start()
}

// sees waits until a site sees another as it should.
func (s *site) sees(of *site, what string, right func(federation.PartnerInfo) bool) {
	s.t.Helper()
	eventually(s.t, what, func() bool {
		p, err := s.fed.Partner(of.org.ID.String())
		must(s.t, err)
		return right(p)
	})
}

func TestARenamedPartnerIsFollowedAndFoundUnderBothNames(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	alice := a.client("alice")
	asker := b.client("bob")
	b.follows(a)
	before := b.copyOf(a)
	a.renamed("acme.test")
	b.sees(a, "the new name is followed", func(p federation.PartnerInfo) bool { return p.Name == "acme.test" && p.State == "connected" })
	for _, address := range []string{"alice@acme.test", "alice@acme.example"} {
		got, err := b.Node.resolve(t.Context(), asker.id, address)
		must(t, err)
		m, err := identity.VerifyChain(got.Chain, a.org.ID, time.Now())
		must(t, err)
		if m.ID != alice.member || m.Address().String() != "alice@acme.test" {
			t.Errorf("%s is %s", address, m.Address())
		}
		if _, err := identity.VerifyCurrency(got.Chain.Currency, m.Organization, m.ID, got.Chain.Record); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := a.Node.resolve(t.Context(), alice.id, "alice@acme.example"); err != nil {
		t.Errorf("at home, under the former name: %v", err)
	}
	// The log goes on, the marks hold, and nobody is accused.
	a.client("carol")
	b.follows(a)
	if after := b.copyOf(a); after.Fork != nil || after.Problem != "" || after.Size <= before.Size {
		t.Errorf("%+v", after)
	}
	d, err := b.Node.showPartner("acme.example")
	must(t, err)
	if len(d.Former) != 1 || d.Former[0] != "acme.example" || d.Status.Renaming != "" {
		t.Errorf("shown as %+v", d)
	}
}

func TestANameThatLooksLikeAnotherIsFollowedByTheOperatorsWordAlone(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	a, b, c := sites[0], sites[1], sites[2]
	alice := a.client("alice")
	asker := b.client("bob")
	b.follows(a)
	a.renamed("gl0bex.example") // as globex itself is called
	b.sees(a, "the new name waits", func(p federation.PartnerInfo) bool { return p.Renaming == "gl0bex.example" && p.State == "connected" })
	c.sees(a, "it waits at initech too", func(p federation.PartnerInfo) bool { return p.Renaming == "gl0bex.example" })
	got, err := b.Node.resolve(t.Context(), asker.id, "alice@acme.example")
	must(t, err)
	m, err := identity.VerifyChain(got.Chain, a.org.ID, time.Now())
	must(t, err)
	if m.ID != alice.member || m.Address().String() != "alice@acme.example" {
		t.Errorf("members are shown %s", m.Address())
	}
	if _, err := b.Node.resolve(t.Context(), asker.id, "alice@gl0bex.example"); err == nil {
		t.Error("found under a name that is not followed")
	}
	a.client("carol")
	b.follows(a) // all else goes on
	b.halt()
	b.start() // and it is not forgotten
	b.sees(a, "the name still waits", func(p federation.PartnerInfo) bool { return p.Renaming == "gl0bex.example" && p.State == "connected" })
	api := operatorAPI{b.Node}
	_, err = api.RenamePartner(t.Context(), connect.NewRequest(&pb.RenamePartnerRequest{Name: "acme.example"}))
	if err == nil || !strings.Contains(err.Error(), "nameTaken") {
		t.Errorf("followed without the word: %v", err)
	}
	d, err := api.RenamePartner(t.Context(), connect.NewRequest(&pb.RenamePartnerRequest{Name: "acme.example", AcceptSimilarName: true}))
	must(t, err)
	if d.Msg.Status.Name != "gl0bex.example" || d.Msg.Status.Renaming != "" || len(d.Msg.Status.Check.Similar) == 0 {
		t.Errorf("followed as %+v", d.Msg.Status)
	}
	_, err = api.RenamePartner(t.Context(), connect.NewRequest(&pb.RenamePartnerRequest{Name: "gl0bex.example"}))
	if err == nil || !strings.Contains(err.Error(), "notFound") {
		t.Errorf("once more: %v", err)
	}
}

func TestANameThatAnotherPartnerHasIsNeverTaken(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	a.renamed("initech.example")
	b.sees(a, "the new name waits", func(p federation.PartnerInfo) bool { return p.Renaming == "initech.example" })
	_, err := operatorAPI{b.Node}.RenamePartner(t.Context(), connect.NewRequest(&pb.RenamePartnerRequest{Name: "acme.example", AcceptSimilarName: true}))
	p, e := b.fed.Partner(a.org.ID.String())
	must(t, e)
	if p.Name != "acme.example" || err == nil {
		t.Errorf("two partners are called %s (%v)", p.Name, err)
	}
}

// TestOurOwnNameIsTakenByNoPartner: two would answer to one address.
func TestOurOwnNameIsTakenByNoPartner(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	a.renamed("globex.example")
	b.sees(a, "the new name waits", func(p federation.PartnerInfo) bool { return p.Renaming == "globex.example" })
	_, err := operatorAPI{b.Node}.RenamePartner(t.Context(), connect.NewRequest(&pb.RenamePartnerRequest{Name: "acme.example", AcceptSimilarName: true}))
	if err == nil || !strings.Contains(err.Error(), "this organization is called globex.example") {
		t.Errorf("a partner called as we are: %v", err)
	}
	b.sees(a, "it is called as before", func(p federation.PartnerInfo) bool { return p.Name == "acme.example" && p.Renaming == "globex.example" })
}
