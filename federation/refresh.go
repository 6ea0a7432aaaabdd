package federation

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// RefreshEvery is how often a partner's manifests are asked for while links come
// and go; one that is about to be unable to speak is asked every time.
const RefreshEvery = time.Hour

// refresh asks a partner for its manifests when they are due and takes new ones.
// A partner that cannot be reached is an error; one that shows nothing new, or what
// does not stand, is linked with as it was.
func (f *Federation) refresh(ctx context.Context, p *partner) error {
	now := f.clock.Now()
	p.mu.Lock()
	due := p.refreshed.IsZero() || now.Sub(p.refreshed) >= RefreshEvery || !now.Add(24*time.Hour).Before(p.terms.expires)
	p.mu.Unlock()
	if !due {
		return nil
	}
	answer, err := f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Manifest{Manifest: &pb.ManifestQuery{}}})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.refreshed = now
	p.mu.Unlock()
	if err := f.takeManifests(ctx, p, answer.GetManifest()); err != nil {
		f.log.Warn("a partner's manifests do not stand; the known ones are kept", "partner", p.id.String(), "error", err.Error())
	}
	return nil
}

// maxManifests bounds a chain: one a week for ten years, and some.
const maxManifests = 1_024

// takeManifests verifies a longer chain of manifests and a new node certificate and
// puts them in place of the known ones. The known chain has to be its beginning: an
// organization that shows two pasts is not followed. The certificate has to be for
// the peer that answered; a node with another key comes with another token.
func (f *Federation) takeManifests(ctx context.Context, p *partner, m *pb.ManifestAnswer) error {
	if len(m.GetManifests()) == 0 || len(m.Manifests) > maxManifests || len(m.NodeCertificate) > wire.MaxNote {
		return fmt.Errorf("%w: %d manifests", wire.ErrMalformed, len(m.GetManifests()))
	}
	f.making.Lock()
	defer f.making.Unlock()
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	if len(m.Manifests) < len(rec.Manifests) {
		return fmt.Errorf("federation: %d manifests where %d are known", len(m.Manifests), len(rec.Manifests))
	}
	if slices.Equal(rec.Manifests, m.Manifests) && rec.Certificate == m.NodeCertificate {
		return nil
	}
	if err := samePast(rec.Manifests, m.Manifests); err != nil {
		return err
	}
	rec.Manifests, rec.Certificate, rec.Checked = m.Manifests, m.NodeCertificate, f.clock.Now().UTC()
	st, err := f.verify(p.id, rec)
	if err != nil {
		return err
	}
	if err := f.put(ctx, partnerKey(p.id), rec); err != nil {
		return err
	}
	_, err = f.install(p.id, rec, st)
	return err
}

// samePast compares the texts of the manifests both have; signatures may differ.
func samePast(known, shown []string) error {
	for i := range known {
		if err := sameText(known[i], shown[i]); err != nil {
			return fmt.Errorf("federation: manifest %d: %w", i, err)
		}
	}
	return nil
}
