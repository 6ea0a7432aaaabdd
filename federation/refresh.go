package federation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// RefreshEvery is how often a partner's manifests are asked for while links come
// and go; one that is about to be unable to speak is asked every time.
const RefreshEvery = time.Hour

// refreshRate and refreshBurst bound the questions that a partner causes by what its hellos say.
const refreshRate, refreshBurst = 0.1, 10

// refresh asks a partner for its manifests when they are due and takes new ones.
// A partner that cannot be reached is an error; one that shows nothing new, or what
// does not stand, is linked with as it was.
func (f *Federation) refresh(ctx context.Context, p *partner) error {
	now := f.clock.Now()
	p.mu.Lock()
	due := p.refreshed.IsZero() || now.Sub(p.refreshed) >= RefreshEvery || !now.Add(24*time.Hour).Before(p.terms.expires)
	if due = due && p.refreshes.take(now, 1) == 0; due {
		p.refreshed = now // asked by one at a time
	}
	p.mu.Unlock()
	if !due {
		return nil
	}
	answer, err := f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Manifest{Manifest: &pb.ManifestQuery{Have: uint64(len(f.opts.Organization.Notes))}}})
	if err != nil {
		p.mu.Lock()
		p.refreshed = time.Time{}
		p.mu.Unlock()
		return err
	}
	f.hearOwn(p, answer.GetManifest().GetAsker())
	if err := f.takeManifests(ctx, p, answer.GetManifest()); err != nil {
		f.log.Warn("a partner's manifests do not stand; the known ones are kept", "partner", p.id.String(), "error", err.Error())
	}
	return nil
}

// hearOwn compares what a partner knows of our own manifests with them: a node that was
// restored from a backup may have lost some, and whoever signs others makes a fork.
func (f *Federation) hearOwn(p *partner, notes []string) {
	if len(notes) == 0 || len(notes) > maxManifests || f.opts.Newer == nil {
		return
	}
	_, shown, err := prevails(f.opts.Organization.ID, f.opts.Organization.Notes, notes)
	if err != nil {
		f.log.Error("a partner knows manifests of ours that do not continue those that we have", "partner", p.id.String(), "error", err.Error())
		return
	}
	f.opts.Newer(shown)
}

// shows has the partner's manifests asked for with the next link, because it says that it has
// a newer one than we know, or another one.
func (p *partner) shows(sequence uint64, hash []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sequence > p.terms.org.Manifest.Sequence || len(hash) > 0 && !bytes.Equal(hash, p.terms.org.Tip()) {
		p.refreshed = time.Time{}
	}
}

// maxManifests bounds a chain: one a week for ten years, and some.
const maxManifests = 1_024

// takeManifests verifies a chain of manifests and a new node certificate and puts them
// in place of the known ones. The chain has to continue the known one, or to take
// precedence over it where the two part (docs/protocol.md 2.15): what a thief of the
// root has shown goes when the next root or the custodians speak. Otherwise an
// organization that shows two pasts is not followed. The certificate has to be for
// the peer that answered; a node with another key comes with another token.
func (f *Federation) takeManifests(ctx context.Context, p *partner, m *pb.ManifestAnswer) error {
	if len(m.GetManifests()) == 0 || len(m.Manifests) > maxManifests || len(m.NodeCertificate) > wire.MaxNote {
		return fmt.Errorf("%w: %d manifests", wire.ErrMalformed, len(m.GetManifests()))
	}
	if rec, _ := p.recorded(); slices.Equal(rec.Manifests, m.Manifests) && rec.Certificate == m.NodeCertificate {
		return nil
	}
	if err := f.followsName(ctx, p, m.Manifests); err != nil {
		if errors.Is(err, identity.ErrManifestFork) && f.opts.TwoRoots != nil {
			f.opts.TwoRoots(p.id, p.standing().org.Notes, m.Manifests)
		}
		return err
	}
	f.making.Lock()
	defer f.making.Unlock()
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	if slices.Equal(rec.Manifests, m.Manifests) && rec.Certificate == m.NodeCertificate {
		return nil
	}
	known, shown, err := prevails(p.id, rec.Manifests, m.Manifests)
	if err != nil {
		return err
	}
	rec.Manifests, rec.Certificate, rec.Checked = m.Manifests, m.NodeCertificate, f.clock.Now().UTC()
	rec.Renaming = ""
	rec.TheirManifests = min(rec.TheirManifests, len(m.Manifests))
	st, err := f.verify(p.id, rec)
	if err != nil {
		return err
	}
	if err := f.clashes(p.id, st); err != nil { // before it is written: a restart would find two
		return err
	}
	f.keepProposals(&rec, st)
	if err := f.put(ctx, partnerKey(p.id), rec); err != nil {
		return err
	}
	if _, err = f.install(p.id, rec, st); err != nil {
		return err
	}
	if shown.Manifest.Name != known.Manifest.Name {
		f.log.Warn("a partner has another name", "partner", p.id.String(), "was", known.Manifest.Name, "is", shown.Manifest.Name)
	}
	if !shown.Manifest.Root.Equal(known.Manifest.Root) {
		f.log.Warn("a partner has a new root key", "partner", p.id.String(), "sequence", shown.Manifest.Sequence, "by", string(shown.RootCause()))
	}
	return nil
}

// prevails verifies two chains of an organization and reports an error unless the shown
// one is the known one or stands in its place.
func prevails(id wire.OrganizationID, had, offered []string) (known, shown *identity.Organization, err error) {
	if known, err = identity.VerifyManifests(had, id); err != nil {
		return nil, nil, err
	}
	if shown, err = identity.VerifyManifests(offered, id); err != nil {
		return nil, nil, err
	}
	stands, err := identity.Prevailing(known, shown)
	if err != nil {
		return nil, nil, fmt.Errorf("federation: %d manifests beside %d known ones: %w", len(offered), len(had), err)
	}
	// Of the same texts, the known chain stands: another certificate may come with them.
	if again, err := identity.Prevailing(shown, known); stands == known && (err != nil || again != shown) {
		return nil, nil, fmt.Errorf("federation: %d manifests do not stand against the %d known ones", len(offered), len(had))
	}
	return known, shown, nil
}
