package federation

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A partner proposes terms under many manifests and then shows fewer that take precedence: the
// proposal stands under none of them. This node still starts, without it.
func TestAProposalThatItsOwnManifestsLeaveBehindKeepsNoNodeFromStarting(t *testing.T) {
	a, b := pair(t)
	ctx, p, before := context.Background(), b.fed.find(a.org.ID), a.org
	for range 3 {
		a.remanifest(func(*identity.Manifest) {})
	}
	if err := b.fed.takeManifests(ctx, p, &pb.ManifestAnswer{Manifests: a.org.Notes, NodeCertificate: a.cert}); err != nil {
		t.Fatal(err)
	}
	_, st := a.fed.find(b.org.ID).recorded()
	note, err := identity.SignAgreement(st.agreement.Amend(stricter(a.info(b))), a.fed.opts.AgreementKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := says(b, a, &pb.AmendQuery{Note: note}); err != nil {
		t.Fatal(err)
	}
	_, after, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := before.Remanifest(a.root.Next, after.Public().(ed25519.PublicKey), before.Manifest.Addresses, before.Manifest.API, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.fed.takeManifests(ctx, p, &pb.ManifestAnswer{Manifests: rotated.Notes, NodeCertificate: a.cert}); err != nil {
		t.Fatal(err)
	}
	a.org = rotated
	b.halt()
	b.start()
	if i := b.info(a); i.Offered != nil || i.Version != 1 {
		t.Errorf("after a restart %+v is offered, under version %d", i.Offered, i.Version)
	}
}

// Two partners take one name at the same time. The second is kept under its old one, on disk
// as well: a restart finds both.
func TestANameThatAnotherPartnerTookMeanwhileIsNotWritten(t *testing.T) {
	a, b := pair(t)
	c := newNode(t, "third.example")
	befriend(t, c, b)
	b.linked(c)
	rename := func(n *node) error {
		p := b.fed.find(n.org.ID)
		o, err := n.org.Rename(n.root.Root, "taken.example", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return b.fed.takeManifests(context.Background(), p, &pb.ManifestAnswer{Manifests: o.Notes, NodeCertificate: n.cert})
	}
	if err := rename(a); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, rename(c), pb.Code_CODE_NAME_TAKEN)
	b.halt()
	b.start()
	if _, err := b.fed.Partner("third.example"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if i, err := b.fed.Partner("taken.example"); err != nil || i.ID != a.org.ID {
		t.Errorf("after a restart taken.example is %v: %v", i.ID, err)
	}
}

// An organization whose root was taken has made agreements under manifests that are gone with
// its recovery. It starts, and they hold.
func TestARecoveryToFewerManifestsKeepsAgreements(t *testing.T) {
	a, b := prepareNode(t, "acme.example"), prepareNode(t, "globex.example")
	before := b.org
	for range 3 {
		b.remanifest(func(*identity.Manifest) {})
	}
	a.start()
	b.start()
	befriend(t, a, b)
	_, after, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b.halt()
	if b.org, err = before.Remanifest(b.root.Next, after.Public().(ed25519.PublicKey), before.Manifest.Addresses, before.Manifest.API, time.Now()); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.linked(a)
	a.linked(b)
	if body, err := b.fed.AgreementBody(a.org.ID); err != nil || len(body.Ours) != 2 {
		t.Errorf("our devices are shown %d manifests of ours: %v", len(body.GetOurs()), err)
	}
}
