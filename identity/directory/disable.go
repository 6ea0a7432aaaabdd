package directory

import (
	"context"
	"fmt"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
)

// Disable records that a member is disabled, as the member's next record: from then on none
// of its devices is active, none is added, and no link admits it. Its devices are still to be
// revoked, for the rooms. Why is the operator's own note and stays here. Repeating it with
// another note is another record.
func (d *Directory) Disable(ctx context.Context, name, why string) error {
	return d.setDisabled(ctx, name, true, why)
}

// Enable undoes Disable: the member may come back by a reset (CreateResetLink).
func (d *Directory) Enable(ctx context.Context, name string) error {
	return d.setDisabled(ctx, name, false, "")
}

func (d *Directory) setDisabled(ctx context.Context, name string, disabled bool, why string) error {
	d.write.Lock()
	defer d.write.Unlock()
	m, err := d.Lookup(name)
	if err != nil {
		return err
	}
	e, err := d.entry(m.ID)
	if err != nil {
		return err
	}
	if m.Disabled == disabled && e.row.Why == why {
		return nil
	}
	rec, err := identity.VerifyRecord(e.row.Record, d.opts.Organization)
	if err != nil {
		return err
	}
	if err := d.succeed(rec, e); err != nil {
		return err
	}
	rec.Disabled = disabled
	row := e.row
	row.Why = why
	var b store.Batch
	shown, err := d.put(&b, *rec, row)
	if err != nil {
		return err
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return fmt.Errorf("directory: disabling: %w", err)
	}
	shown()
	return nil
}

// WhyDisabled is the operator's note about a disabled member.
func (d *Directory) WhyDisabled(m *identity.Member) string {
	if e, err := d.entry(m.ID); err == nil && m.Disabled {
		return e.row.Why
	}
	return ""
}
