package node

import (
	"crypto/ed25519"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestAHubHandsOnCertificatesAsFarAsBothAgreementsCarry(t *testing.T) {
	const none, named, all = "none", "named", "any"
	for _, c := range []struct {
		globex, initech string
		named           []string
		code            pb.Code
	}{
		{none, none, nil, noAgreement}, {all, none, nil, noAgreement}, {none, all, nil, noAgreement},
		{named, all, nil, noAgreement}, {named, all, []string{"globex.example"}, noAgreement},
		{named, all, []string{"globex.example", "initech.example"}, pb.Code_CODE_UNKNOWN_MEMBER},
		{all, all, nil, pb.Code_CODE_UNKNOWN_MEMBER}, // they meet in no room
	} {
		acme, globex, initech := newSite(t, "acme.example"), newSite(t, "globex.example"), newSite(t, "initech.example")
		agreeOn(t, acme, globex, &pb.TermsChange{Transit: to(c.globex)})
		agreeOn(t, acme, initech, &pb.TermsChange{Transit: to(c.initech)})
		acme.config.Transit = c.named
		ida := initech.client("ida")
		st := acme.Query(t.Context(), globex.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Chain{Chain: &pb.ChainQuery{Member: ida.member[:], Organization: initech.org.ID[:]}}}).Status
		if st.Code != c.code {
			t.Errorf("transit %s and %s, naming %v: %s %s, want %s", c.globex, c.initech, c.named, wire.CodeName(st.Code), st.Detail, wire.CodeName(c.code))
		}
		for _, s := range []*site{acme, globex, initech} {
			s.halt()
		}
	}
}

func TestWhatAHubHandsOnHasToStand(t *testing.T) {
	acme, initech := newSite(t, "acme.example"), newSite(t, "initech.example")
	ida := initech.client("ida").knownTo(acme)
	other := acme.client("alice")
	must(t, acme.met(t.Context(), initech.org.ID, ida.chain.Manifests))
	if key, ok := acme.nodeKeyOf(initech.org.ID); !ok || key.Owner != initech.org.NodeKey().Owner {
		t.Error("the notices of an organization that was met cannot be verified")
	}
	chain, err := acme.Node.dir.Chain(other.member)
	must(t, err)
	must(t, acme.met(t.Context(), wire.OrganizationID{7}, chain.Manifests)) // kept, and worth nothing
	if _, ok := acme.nodeKeyOf(wire.OrganizationID{7}); ok {
		t.Error("manifests of one organization speak for another")
	}
	if _, err := acme.chainThrough(t.Context(), initech.org.ID, ida.member[:]); wire.StatusOf(err).Code != noAgreement {
		t.Errorf("without a hub to ask: %v", err)
	}
}

// A thief of the root of an organization that is met through hubs has shown more manifests than it
// has. The next root takes precedence, and stays.
func TestAThiefOutrunsNoOrganizationThatIsMetThroughAHub(t *testing.T) {
	acme, initech := newSite(t, "acme.example"), newSite(t, "initech.example")
	root, err := identity.OpenRootKeys(filepath.Join(initech.dir, RootFile), worldPass)
	must(t, err)
	thief := initech.org
	for range 3 {
		thief, err = thief.Remanifest(root.Root, nil, []string{"/ip4/192.0.2.66/tcp/1"}, nil, time.Now())
		must(t, err)
	}
	next, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	rotated, err := initech.org.Remanifest(root.Next, next, initech.org.Manifest.Addresses, initech.org.Manifest.API, time.Now())
	must(t, err)
	for _, o := range []*identity.Organization{thief, rotated, thief, initech.org} {
		must(t, acme.met(t.Context(), initech.org.ID, o.Notes))
	}
	if o, err := acme.metBefore(initech.org.ID); err != nil || !o.Manifest.Root.Equal(rotated.Manifest.Root) {
		t.Errorf("it is known by %d manifests: %v", len(o.Notes), err)
	}
}
