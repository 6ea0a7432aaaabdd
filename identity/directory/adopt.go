package directory

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	"golang.org/x/mod/sumdb/tlog"
)

// A directory that was set back, by a restored backup or a lost tail, is behind heads that
// it has signed. Going on from there would make a second past, which anybody could prove.
// It takes the leaves that a partner has kept, and goes on after them (docs/protocol.md
// 2.14). The leaves do not hold the records themselves: what was lost of them stays lost,
// and its members are put back as they were known here.

// adoptedKey is how far the log goes of which records may be missing here.
const adoptedKey = "id/adopted"

// ErrTwoPasts says that what this directory holds is no past of what it has signed before:
// it has gone on after a restore. Nothing heals that.
var ErrTwoPasts = errors.New("directory: its log is no past of a head that it has signed before")

// Behind reports whether this directory is behind a head that it knows to have signed, or
// has taken leaves over and not yet put back the members that they are of.
func (d *Directory) Behind() bool {
	d.write.Lock()
	defer d.write.Unlock()
	return len(d.lost) > 0 || d.log.size < d.store.Mark(headMark(d.log.number))>>32
}

// Strangers counts the members that the log has and whose records are not here: they came
// after the copy that this directory was restored from.
func (d *Directory) Strangers() int {
	d.write.Lock()
	defer d.write.Unlock()
	return max(d.log.labels.Len()-len(d.members), 0)
}

// Fits compares a head that somebody holds of this log with it: nil when it is a past of
// it or beyond it, or of another log, ErrTwoPasts when it cannot be.
func (d *Directory) Fits(head *identity.Checkpoint) error {
	d.write.Lock()
	defer d.write.Unlock()
	if head.Log != d.log.number || head.Size > d.log.size {
		return nil
	}
	root, err := tlog.TreeHash(int64(head.Size), hashReader{d.store})
	if err == nil && [32]byte(root) != head.Root {
		err = ErrTwoPasts
	}
	return err
}

// Hashes reports an error unless leaves are those of a head, all of them from the first.
func Hashes(leaves []byte, head *identity.Checkpoint) error {
	if head.Size == 0 || uint64(len(leaves))/LeafLen != head.Size || len(leaves)%LeafLen != 0 ||
		identity.LogRoot(head.Size, func(i uint64) []byte { return leaves[i*LeafLen : (i+1)*LeafLen] }) != head.Root {
		return fmt.Errorf("directory: %d bytes of leaves that do not hash to the signed head of %d", len(leaves), head.Size)
	}
	return nil
}

// Adopt takes the leaves of a verified head of this log over, all of them from the first.
// When it returns nil they are on stable storage, and Behind is true until Restore. Leaves
// that are not the head's say nothing of this log, whatever they begin with.
func (d *Directory) Adopt(ctx context.Context, head *identity.Checkpoint, leaves []byte) error {
	d.write.Lock()
	defer d.write.Unlock()
	size := uint64(len(leaves) / LeafLen)
	if head.Organization != d.opts.Organization.ID || head.Log != d.log.number || uint64(len(leaves)) != head.Size*LeafLen || size <= d.log.size {
		return fmt.Errorf("directory: %d bytes of leaves for a head of %d, where %d are held", len(leaves), head.Size, d.log.size)
	}
	if err := Hashes(leaves, head); err != nil {
		return err
	}
	for i := range d.log.size {
		own, err := d.Leaf(i)
		if err != nil {
			return err
		}
		if !bytes.Equal(own, leaves[i*LeafLen:(i+1)*LeafLen]) {
			return ErrTwoPasts
		}
	}
	log, b, err := d.extend(leaves, size)
	if err != nil {
		return err
	}
	if root, err := tlog.TreeHash(int64(size), pending{hashReader{d.store}, log.fresh}); err != nil || [32]byte(root) != head.Root {
		return errors.Join(errors.New("directory: leaves that do not hash to the signed head"), err)
	}
	b.Put([]byte(sizeKey), binary.BigEndian.AppendUint64(nil, size))
	b.Put([]byte(adoptedKey), binary.BigEndian.AppendUint64(nil, size))
	if _, err := d.store.Commit(context.WithoutCancel(ctx), b); err != nil {
		return fmt.Errorf("directory: taking leaves over: %w", err)
	}
	d.mu.Lock()
	d.log, d.adopted = log.logState, size
	d.mu.Unlock()
	return d.findLost()
}

// extended is a log with leaves that are not stored yet.
type extended struct {
	logState
	fresh map[int64]tlog.Hash
}

// extend adds leaves, from the log's end on, to a batch; d.write is held.
func (d *Directory) extend(leaves []byte, size uint64) (extended, *store.Batch, error) {
	x := extended{d.log, make(map[int64]tlog.Hash)}
	b := &store.Batch{}
	r := pending{hashReader{d.store}, x.fresh}
	for i := d.log.size; i < size; i++ {
		leaf := leaves[i*LeafLen : (i+1)*LeafLen]
		e, ok := prefix.ParseEntry(leaf)
		before, _ := x.labels.Get(e.Label)
		switch {
		case !ok:
			return x, nil, fmt.Errorf("directory: leaf %d does not parse", i)
		case e.Label == prefix.Label{} && e != rootLeaf(x.labels):
			return x, nil, fmt.Errorf("directory: leaf %d is not the root of what stands before it", i)
		case e.Label != prefix.Label{} && !follows(e, before, x.number):
			return x, nil, fmt.Errorf("directory: leaf %d has version %d after %d", i, e.Version, before.Version)
		case e.Label != prefix.Label{}:
			x.labels = x.labels.Set(e)
		}
		hashes, err := tlog.StoredHashes(int64(i), leaf, r)
		if err != nil {
			return x, nil, fmt.Errorf("directory: hashing a leaf: %w", err)
		}
		first := tlog.StoredHashIndex(0, int64(i))
		for j, h := range hashes {
			x.fresh[first+int64(j)] = h
			b.Put(numbered(hashPrefix, uint64(first)+uint64(j)), h[:])
		}
		b.Put(numbered(leafPrefix, i), leaf)
	}
	x.size = size
	return x, b, nil
}

// findLost lists the members of whom the log has newer records than this directory; those
// of whom it has none are known to nobody. d.write is held, or nobody knows d yet.
func (d *Directory) findLost() error {
	newest := make(map[prefix.Label]uint64)
	for i := range d.log.size {
		leaf, err := d.Leaf(i)
		if err != nil {
			return err
		}
		if e, ok := prefix.ParseEntry(leaf); ok && e.Label != (prefix.Label{}) {
			newest[e.Label] = i
		}
	}
	d.lost, d.owed = nil, nil
	rows := 0
	for id, e := range d.members {
		label, err := d.labelOf(id, &e.row)
		if err != nil {
			return err
		}
		at, found := newest[label]
		switch {
		case !found && e.row.Log != d.log.number:
			d.owed = append(d.owed, id)
		case e.row.Log == d.log.number && at == e.row.Leaf:
		case at >= d.adopted:
			return fmt.Errorf("directory: leaf %d is newer than its member's row", at)
		default:
			d.lost = append(d.lost, id)
		}
		delete(newest, label)
		rows++
	}
	for _, at := range newest {
		if at >= d.adopted {
			return fmt.Errorf("directory: %d members where the log has %d", rows, rows+len(newest))
		}
	}
	return nil
}

// Restore puts the members whose newer records were lost back as they are known here: as
// the version after next, so that whoever knows the lost one takes it. It returns their
// addresses. Members that a new log has nothing of yet get their first record there.
func (d *Directory) Restore(ctx context.Context) ([]string, error) {
	names, err := d.putAllBack(ctx)
	if err != nil {
		return names, err
	}
	return names, d.renew(ctx)
}

func (d *Directory) putAllBack(ctx context.Context) ([]string, error) {
	d.write.Lock()
	defer d.write.Unlock()
	var names []string
	for len(d.lost) > 0 {
		id := d.lost[len(d.lost)-1]
		for range 2 {
			if err := d.putBack(ctx, id); err != nil {
				return names, err
			}
		}
		names = append(names, d.members[id].member.Address().String())
		d.lost = d.lost[:len(d.lost)-1]
	}
	return names, nil
}

// putBack appends the record that is known of a member under the version after the log's
// newest; d.write is held.
func (d *Directory) putBack(ctx context.Context, id wire.MemberID) error {
	e := d.members[id]
	rec, err := identity.VerifyRecord(e.row.Record, d.opts.Organization)
	if err != nil {
		return err
	}
	label, err := d.labelOf(id, &e.row)
	if err != nil {
		return err
	}
	newest, _ := d.log.labels.Get(label)
	if err := d.succeed(rec, e); err != nil {
		return err
	}
	rec.Version = newest.Version + 1
	var b store.Batch
	shown, err := d.put(&b, *rec, e.row)
	if err != nil {
		return err
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return fmt.Errorf("directory: putting a member back: %w", err)
	}
	shown()
	return nil
}

// loadAdopted reads how far leaves were taken over.
func (d *Directory) loadAdopted() error {
	b, err := d.store.Get([]byte(adoptedKey))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil || len(b) != 8 {
		return errors.Join(errors.New("directory: how far leaves were taken over does not parse"), err)
	}
	d.adopted = binary.BigEndian.Uint64(b)
	return nil
}
