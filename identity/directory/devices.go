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

// AddDevice puts a further device into a member's record: one whose certificate the
// member key has signed. What also adds to the transaction (nil: nothing) becomes
// durable with it. Repeating it is a success.
func (d *Directory) AddDevice(ctx context.Context, member wire.MemberID, certificate string, also func(*store.Batch, wire.DeviceID)) (*pb.MemberChain, error) {
	d.write.Lock()
	defer d.write.Unlock()
	return d.addDevice(ctx, member, certificate, also)
}

// AddDeviceBy is AddDevice by one of the member's devices. It is refused when that one is not
// active any more: its call may have begun before it was revoked.
func (d *Directory) AddDeviceBy(ctx context.Context, by wire.DeviceID, certificate string, also func(*store.Batch, wire.DeviceID)) (*pb.MemberChain, error) {
	d.write.Lock()
	defer d.write.Unlock()
	member, ok := d.ByDevice(by)
	if !ok {
		return nil, wire.Refuse(pb.Code_CODE_REVOKED, "")
	}
	return d.addDevice(ctx, member, certificate, also)
}

// addDevice is AddDevice; d.write is held.
func (d *Directory) addDevice(ctx context.Context, member wire.MemberID, certificate string, also func(*store.Batch, wire.DeviceID)) (*pb.MemberChain, error) {
	e, err := d.entry(member)
	if err != nil {
		return nil, err
	}
	c, err := d.checkDevice(e.member, certificate)
	if err != nil {
		return nil, err
	}
	if had := e.member.Devices[c.Device]; had != nil && had.Hash == c.Hash {
		return d.chain(&e.row), nil
	}
	if _, taken := d.ByDevice(c.Device); taken {
		return nil, wire.Refuse(pb.Code_CODE_EXISTS, "the device is enrolled already")
	}
	if d.closed[member] > 0 {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the administrator resets the member")
	}
	rec, err := identity.VerifyRecord(e.row.Record, d.opts.Organization)
	if err != nil {
		return nil, err
	}
	if len(rec.Devices) >= wire.MaxDevicesPerMember {
		return nil, wire.Refuse(pb.Code_CODE_FULL, "the member has %d devices, the most that are allowed: revoke one", len(rec.Devices))
	}
	rec.Devices = append(rec.Devices, identity.DeviceEntry{Device: c.Device, Certificate: c.Hash})
	if err := d.succeed(rec, e); err != nil {
		return nil, err
	}
	var b store.Batch
	row := e.row
	row.Devices = append(slices.Clone(row.Devices), certificate)
	shown, err := d.put(&b, *rec, row)
	if err != nil {
		return nil, err
	}
	if also != nil {
		also(&b, c.Device)
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return nil, fmt.Errorf("directory: adding a device: %w", err)
	}
	shown()
	return d.Chain(member)
}

// Close lets a member have no further device until the function that it returns is called: what
// is read of the member's devices in between is all of them. Nothing of it is durable.
func (d *Directory) Close(member wire.MemberID) (reopen func()) {
	d.write.Lock()
	defer d.write.Unlock()
	d.closed[member]++
	return func() {
		d.write.Lock()
		defer d.write.Unlock()
		if d.closed[member]--; d.closed[member] <= 0 {
			delete(d.closed, member)
		}
	}
}

// checkDevice verifies a certificate against the member's key of now.
func (d *Directory) checkDevice(m *identity.Member, certificate string) (*identity.DeviceCertificate, error) {
	if m.Disabled {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the member is disabled")
	}
	c, err := identity.VerifyDeviceCertificate(certificate, m.ID, m.Key)
	if err != nil || c.Organization != d.opts.Organization.ID || !c.InForce(d.opts.Clock.Now()) {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a device certificate that does not stand: is the device's clock right?")
	}
	for _, r := range m.Revoked {
		if r == c.Device {
			return nil, wire.Refuse(pb.Code_CODE_REVOKED, "the device was revoked: it needs a new key")
		}
	}
	return c, nil
}
