package directory

import (
	"context"
	"fmt"
	"slices"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// keptForResets is how many of a member's keys only the organization brings in: who has a
// device in hand that is not the member's any more can use up all others.
const keptForResets = 16

// RotateKey takes a member's next key: signed by the one of now, for all devices that the
// record names and none that it does not. Repeating it is a success.
func (d *Directory) RotateKey(ctx context.Context, member wire.MemberID, rotation string) (*pb.MemberChain, error) {
	d.write.Lock()
	defer d.write.Unlock()
	return d.rotateKey(ctx, member, rotation)
}

// RotateKeyBy is RotateKey by one of the member's devices. It is refused when that one is not
// active any more: who is out still knows the key of now, and its call may have begun before.
func (d *Directory) RotateKeyBy(ctx context.Context, by wire.DeviceID, rotation string) (*pb.MemberChain, error) {
	d.write.Lock()
	defer d.write.Unlock()
	member, ok := d.ByDevice(by)
	if !ok {
		return nil, wire.Refuse(pb.Code_CODE_REVOKED, "")
	}
	return d.rotateKey(ctx, member, rotation)
}

// rotateKey is RotateKey; d.write is held.
func (d *Directory) rotateKey(ctx context.Context, member wire.MemberID, rotation string) (*pb.MemberChain, error) {
	e, err := d.entry(member)
	if err != nil {
		return nil, err
	}
	if n := len(e.row.Keys); n > 0 && e.row.Keys[n-1] == rotation {
		return d.chain(&e.row), nil
	}
	if len(e.row.Keys) >= identity.MaxRotations-keptForResets {
		return nil, wire.Refuse(pb.Code_CODE_FULL, "the member has had %d keys, the most that its devices make: the administrator can reset it", len(e.row.Keys)+1)
	}
	rec, err := identity.VerifyRecord(e.row.Record, d.opts.Organization)
	if err != nil {
		return nil, err
	}
	row := e.row
	row.Keys = append(slices.Clone(row.Keys), rotation)
	r, err := e.member.Rotated(rotation)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a member key that does not follow the one that the directory has: another device was first, or this one is behind")
	}
	if err := fits(r, rec); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(r.Without, func(id wire.DeviceID) bool { return !e.member.Without(id) }) {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a member key that nobody needs: the one before is known to no device that is out")
	}
	rec.Key = r.Key
	if err := d.succeed(rec, e); err != nil {
		return nil, err
	}
	var b store.Batch
	shown, err := d.put(&b, *rec, row)
	if err != nil {
		return nil, err
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return nil, fmt.Errorf("directory: rotating a member key: %w", err)
	}
	shown()
	return d.Chain(member)
}

// fits holds a rotation against the record that it is to follow.
func fits(r *identity.Rotation, rec *identity.MemberRecord) error {
	if len(r.Devices) != len(rec.Devices) || slices.ContainsFunc(rec.Devices, func(e identity.DeviceEntry) bool { return !slices.Contains(r.Devices, e) }) {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a member key for other devices than the directory has")
	}
	if slices.ContainsFunc(r.Without, func(id wire.DeviceID) bool { return !slices.Contains(rec.Revoked, id) }) {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a member key without a device that is not revoked")
	}
	return nil
}
