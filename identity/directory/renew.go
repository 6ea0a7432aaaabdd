package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/identity/vrf"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// An incident statement begins a new log (docs/protocol.md 2.16): the manifest has its number,
// and the directory follows when it is opened next. The leaves of the old log go, the heads
// and proofs that others hold of it stay with them; with Restore every member gets a record in
// the new one, of a version that no past of the old one has reached.

// renewedBy is what a record's version rises by when a log begins: whoever was shown newer
// records than ours, in the past of the old log that is not ours, takes the new one.
const renewedBy = 1_000

// begin begins the log that the manifest is about, when it is another than the stored one. A
// crash after it goes on with Restore.
func (d *Directory) begin(ctx context.Context) error {
	number := d.opts.Organization.Manifest.Log()
	if number < d.log.number {
		return errors.New("directory: its log is newer than the manifest: was the manifest's file set back?")
	}
	if number > d.log.number {
		var b store.Batch
		b.Put([]byte(numberKey), binary.BigEndian.AppendUint64(nil, number))
		b.Put([]byte(sizeKey), make([]byte, 8))
		b.Delete([]byte(adoptedKey))
		if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
			return fmt.Errorf("directory: beginning a log: %w", err)
		}
		d.log = logState{number: number}
	}
	if d.log.number > 0 && d.log.size == 0 {
		return errors.Join(d.clear(ctx, leafPrefix), d.clear(ctx, hashPrefix))
	}
	return nil
}

// clear deletes the rows under a prefix.
func (d *Directory) clear(ctx context.Context, under string) error {
	for {
		page, err := d.store.Scan([]byte(under), nil, 500)
		if err != nil || len(page) == 0 {
			return err
		}
		var b store.Batch
		for _, kv := range page {
			b.Delete(kv.Key)
		}
		if _, err := d.store.Commit(ctx, &b); err != nil {
			return fmt.Errorf("directory: deleting an old log: %w", err)
		}
	}
}

// renew puts the members that no leaf of this log is about into it; others may change the
// directory meanwhile.
func (d *Directory) renew(ctx context.Context) error {
	for {
		if more, err := d.renewNext(ctx); err != nil || !more {
			return err
		}
	}
}

func (d *Directory) renewNext(ctx context.Context) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	d.write.Lock()
	defer d.write.Unlock()
	n := len(d.owed)
	if n == 0 {
		return false, nil
	}
	if e := d.members[d.owed[n-1]]; e.row.Log != d.log.number { // else something else has changed it meanwhile
		if err := d.renewMember(ctx, e); err != nil {
			return false, err
		}
	}
	d.owed = d.owed[:n-1]
	return n > 1, nil
}

// renewMember signs a member's record anew, as the first of its label; d.write is held.
func (d *Directory) renewMember(ctx context.Context, e *entry) error {
	rec, err := identity.VerifyRecord(e.row.Record, d.opts.Organization)
	if err != nil {
		return err
	}
	if err := d.succeed(rec, e); err != nil {
		return err
	}
	var b store.Batch
	shown, err := d.put(&b, *rec, e.row)
	if err != nil {
		return err
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return fmt.Errorf("directory: a member's record in a new log: %w", err)
	}
	shown()
	return nil
}

// Owes reports whether members wait for Restore to put them into a new log.
func (d *Directory) Owes() bool {
	d.write.Lock()
	defer d.write.Unlock()
	return len(d.owed) > 0
}

// labelOf is where a member stands in the map; d.write is held, or nobody knows d yet.
func (d *Directory) labelOf(id wire.MemberID, row *memberRow) (prefix.Label, error) {
	if row.Log != d.log.number {
		output, _, err := vrf.Prove(d.opts.VRF, identity.LabelInput(id))
		return identity.Label(output), err
	}
	leaf, err := d.Leaf(row.Leaf)
	own, _ := prefix.ParseEntry(leaf)
	return own.Label, err
}
