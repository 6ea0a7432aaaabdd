package federation

import (
	"context"
	"fmt"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// A partner may give itself another name (docs/protocol.md 2.18). One that looks like a name
// that is known here is followed by the operator's word alone: until then the partner is known
// by its manifests of before.

// followsName refuses manifests with a name that is not to be followed, and notes it. It may
// ask the network; no lock is held.
func (f *Federation) followsName(ctx context.Context, p *partner, manifests []string) error {
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	known, shown, err := prevails(p.id, rec.Manifests, manifests)
	if err != nil {
		return err
	}
	name := shown.Manifest.Name
	if f.opts.Rename == nil || name == known.Manifest.Name || name == rec.Confirmed {
		return nil
	}
	why := f.opts.Rename(ctx, p.id, name)
	if why == nil {
		return nil
	}
	err = f.noteName(ctx, p, func(r *partnerRecord) { r.Renaming = name })
	return fmt.Errorf("federation: the partner calls itself %s now: %w", name, firstOf(err, why))
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// noteName writes what is known of a partner's new name.
func (f *Federation) noteName(ctx context.Context, p *partner, change func(*partnerRecord)) error {
	f.making.Lock()
	defer f.making.Unlock()
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	before := rec
	if change(&rec); rec.Renaming == before.Renaming && rec.Confirmed == before.Confirmed {
		return nil
	}
	if err := f.put(ctx, partnerKey(p.id), rec); err != nil {
		return err
	}
	p.mu.Lock()
	p.record = rec
	p.mu.Unlock()
	return nil
}

// ConfirmName follows a partner's new name, by the operator's word. The manifests that have it
// are asked for at once; with a partner that is away, when it is linked again.
func (f *Federation) ConfirmName(ctx context.Context, id wire.OrganizationID, name string) error {
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "")
	}
	p.mu.Lock()
	waits := p.record.Renaming
	p.mu.Unlock()
	if waits == "" || waits != name {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "%s does not call itself otherwise", p.standing().org.Manifest.Name)
	}
	if err := f.noteName(ctx, p, func(r *partnerRecord) { r.Confirmed = name }); err != nil {
		return err
	}
	p.mu.Lock()
	p.refreshed = p.refreshed.Add(-2 * RefreshEvery)
	p.mu.Unlock()
	return f.refresh(ctx, p)
}
