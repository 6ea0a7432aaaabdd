package directory

import (
	"context"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// CreateResetLink makes a link by which a member who has lost all devices comes back with a
// new key. It is refused while the member has a device: revoke it first.
func (d *Directory) CreateResetLink(ctx context.Context, name string, ttl time.Duration) (CreatedLink, error) {
	if ttl <= 0 || ttl > wire.LinkLifetime {
		return CreatedLink{}, wire.Refuse(pb.Code_CODE_MALFORMED, "a link is good for at most %s", wire.LinkLifetime)
	}
	d.write.Lock()
	defer d.write.Unlock()
	m, err := d.Lookup(name)
	if err != nil {
		return CreatedLink{}, err
	}
	if err := resettable(m); err != nil {
		return CreatedLink{}, err
	}
	return d.createLink(ctx, linkRow{Name: name, Reset: m.ID[:]}, ttl)
}

func resettable(m *identity.Member) error {
	switch {
	case m.Disabled:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the member is disabled")
	case len(m.Devices) > 0:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the member has %d devices: revoke them first", len(m.Devices))
	case len(m.Rotations) >= identity.MaxRotations:
		return wire.Refuse(pb.Code_CODE_FULL, "the member has had %d keys, the most that are kept", len(m.Rotations)+1)
	}
	return nil
}

// checkReset verifies a reset and its device against the link and the member as it is now, and
// makes the member's next record; d.write is held.
func (d *Directory) checkReset(e Enrolment, row linkRow) (*identity.MemberRecord, *memberRow, wire.DeviceID, error) {
	fail := func(err error) (*identity.MemberRecord, *memberRow, wire.DeviceID, error) {
		return nil, nil, wire.DeviceID{}, err
	}
	if e.Genesis != "" || e.Reset == "" {
		return fail(wire.Refuse(pb.Code_CODE_UNSUPPORTED, "the link is for a member who is reset: this program is too old for it"))
	}
	id, err := wire.Bytes32(row.Reset)
	if err != nil {
		return fail(err)
	}
	known, err := d.entry(id)
	if err != nil {
		return fail(err)
	}
	if err := resettable(known.member); err != nil {
		return fail(err)
	}
	note, err := identity.CountersignReset(e.Reset, known.member, d.opts.Directory)
	if err != nil {
		return fail(wire.Refuse(pb.Code_CODE_MALFORMED, "a reset that does not stand"))
	}
	r, err := known.member.Rotated(note)
	if err != nil {
		return fail(err)
	}
	c, err := identity.VerifyDeviceCertificate(e.Device, id, r.Key)
	if err != nil || c.Organization != d.opts.Organization.ID || !c.InForce(d.opts.Clock.Now()) || slices.Contains(known.member.Revoked, c.Device) {
		return fail(wire.Refuse(pb.Code_CODE_MALFORMED, "a device certificate that does not stand: is the device's clock right?"))
	}
	if _, taken := d.ByDevice(c.Device); taken {
		return fail(wire.Refuse(pb.Code_CODE_EXISTS, "the device is enrolled already"))
	}
	if err := checkSizes(e.KeyPackages); err != nil {
		return fail(err)
	}
	rec, err := identity.VerifyRecord(known.row.Record, d.opts.Organization)
	if err != nil {
		return fail(err)
	}
	if err := d.succeed(rec, known); err != nil {
		return fail(err)
	}
	rec.Key, rec.Devices = r.Key, []identity.DeviceEntry{{Device: c.Device, Certificate: c.Hash}}
	next := known.row
	next.Keys, next.Devices = append(slices.Clone(next.Keys), note), []string{e.Device}
	return rec, &next, c.Device, nil
}
