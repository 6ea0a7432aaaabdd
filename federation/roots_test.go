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

// A thief of the root shows a partner his own manifests, many of them; the holder of the next
// root takes the organization back with one, and the thief cannot undo it.
func TestNextRootTakesAPartnerBackFromAThiefOfTheRoot(t *testing.T) {
	a, b := pair(t)
	p, ctx := b.fed.find(a.org.ID), context.Background()
	genuine := a.org
	takes := func(o *identity.Organization) error {
		return b.fed.takeManifests(ctx, p, &pb.ManifestAnswer{Manifests: o.Notes, NodeCertificate: a.cert})
	}
	for range 3 {
		a.remanifest(func(m *identity.Manifest) { m.Addresses = []string{"/ip4/192.0.2.66/tcp/1"} })
	}
	thief := a.org
	if err := takes(thief); err != nil {
		t.Fatal(err)
	}
	_, after, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := genuine.Remanifest(a.root.Next, after.Public().(ed25519.PublicKey), genuine.Manifest.Addresses, genuine.Manifest.API, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := takes(rotated); err != nil {
		t.Fatalf("the rotation is not taken: %v", err)
	}
	for _, stale := range []*identity.Organization{thief, genuine} {
		if takes(stale) == nil {
			t.Errorf("%d manifests replace the rotation", len(stale.Notes))
		}
	}
	o, err := b.fed.Organization(a.org.ID)
	if err != nil || !o.Manifest.Root.Equal(rotated.Manifest.Root) || o.RootCause() != identity.ByNextRoot {
		t.Errorf("the partner is known by %v, %v", o.RootCause(), err)
	}
	// It is what a restart finds.
	a.org = rotated
	b.halt()
	b.start()
	if o, err := b.fed.Organization(a.org.ID); err != nil || !o.Manifest.Root.Equal(rotated.Manifest.Root) {
		t.Errorf("after a restart: %v", err)
	}
}
