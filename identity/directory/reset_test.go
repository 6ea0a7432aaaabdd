package directory

import (
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// returns makes what a member who is reset hands over.
func (w *world) returns(id wire.MemberID, secret [32]byte) *person {
	w.t.Helper()
	chain, err := w.Chain(id)
	w.must(err)
	m, err := identity.VerifyChain(chain, w.org.ID, w.clock.Now())
	w.must(err)
	p := &person{id: id, key: newKey(w.t), device: wire.DeviceID(newKey(w.t)[32:])}
	half, err := identity.SignReset(m, p.key, identity.Rotation{Issued: w.clock.Now()})
	w.must(err)
	c, err := identity.SignDeviceCertificate(w.org.ID, id, p.device, p.key, w.clock.Now())
	w.must(err)
	p.enrol = Enrolment{Secret: secret, Reset: half, Device: c.Note}
	return p
}

func TestAMemberWhoLostAllDevicesComesBackAsTheSame(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	ctx := t.Context()
	_, err := w.CreateResetLink(ctx, "alice", time.Hour)
	code(t, err, pb.Code_CODE_FORBIDDEN) // she has a device
	_, err = w.CreateResetLink(ctx, "nobody", time.Hour)
	code(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
	_, err = w.CreateResetLink(ctx, "alice", 2*wire.LinkLifetime)
	code(t, err, pb.Code_CODE_MALFORMED)
	note, err := w.SignRevocation(alice.device)
	w.must(err)
	w.must(w.RevokeDevice(ctx, note))
	before, err := w.Get(alice.id)
	w.must(err)
	l, err := w.CreateResetLink(ctx, "alice", time.Hour)
	w.must(err)
	info, err := w.DescribeLink(l.ID)
	w.must(err)
	if info.Reset == nil || *info.Reset != alice.id || info.Name != "alice" {
		t.Errorf("the link is %+v", info)
	}
	// A link for a reset makes no new member, and one for a new member resets nobody.
	_, err = w.Enroll(ctx, w.applicant("alice", l.Secret).enrol, nil)
	code(t, err, pb.Code_CODE_UNSUPPORTED)
	_, err = w.Enroll(ctx, w.returns(alice.id, w.link("bob").Secret).enrol, nil)
	code(t, err, pb.Code_CODE_FORBIDDEN)
	p := w.returns(alice.id, l.Secret)
	broken := p.enrol
	broken.Device = alice.enrol.Device
	_, err = w.Enroll(ctx, broken, nil)
	code(t, err, pb.Code_CODE_MALFORMED)
	chain, err := w.Enroll(ctx, p.enrol, nil)
	w.must(err)
	again, err := w.Enroll(ctx, p.enrol, nil) // the answer was lost
	w.must(err)
	if again.Record != chain.Record {
		t.Error("another record")
	}
	_, err = w.Enroll(ctx, w.returns(alice.id, l.Secret).enrol, nil)
	code(t, err, pb.Code_CODE_LINK_USED)
	w.restart()
	m, err := w.Get(alice.id)
	w.must(err)
	w.must(m.Supersedes(before))
	if m.Name != "alice" || len(m.Devices) != 1 || m.Devices[p.device] == nil || !m.ResetSince(before.Key) || len(m.Uncovered()) > 0 {
		t.Errorf("alice is %+v", m)
	}
	if id, active := w.ByDevice(p.device); !active || id != alice.id {
		t.Error("the new device is not active")
	}
	if _, active := w.ByDevice(alice.device); active {
		t.Error("the lost device is active")
	}
	if a, err := w.Audit(ctx); err != nil || len(a.Problems) > 0 {
		t.Errorf("the audit: %+v %v", a, err)
	}
}

// TestWhoHasADeviceInHandDoesNotUseUpTheKeysOfAReset: a thief of an unlocked device has the member
// key and makes one after the other. The administrator still ends that.
func TestWhoHasADeviceInHandDoesNotUseUpTheKeysOfAReset(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	key, made := alice.key, 0
	rotate := func(without ...wire.DeviceID) error {
		m, err := w.Get(alice.id)
		w.must(err)
		next := newKey(t)
		r := identity.Rotation{Organization: w.org.ID, Member: m.ID, Number: uint64(len(m.Rotations)) + 1, Issued: w.clock.Now(), Without: without}
		for id, c := range m.Devices {
			r.Devices = append(r.Devices, identity.DeviceEntry{Device: id, Certificate: c.Hash})
		}
		note, err := identity.SignRotation(r, key, next)
		w.must(err)
		if _, err = w.RotateKey(t.Context(), alice.id, note); err == nil {
			key, made = next, made+1
		}
		return err
	}
	code(t, rotate(), pb.Code_CODE_FORBIDDEN) // nobody is out
	var err error
	for range identity.MaxRotations {
		alice.key = key
		id, note := w.further(alice, key)
		_, err := w.AddDevice(t.Context(), alice.id, note, nil)
		w.must(err)
		out, err := identity.SignRevocation(identity.Revocation{Organization: w.org.ID, Member: alice.id, Device: id, Issued: w.clock.Now(), By: "member"}, w.org.Manifest.Name, key)
		w.must(err)
		w.must(w.RevokeDevice(t.Context(), out))
		if err = rotate(id); err != nil {
			break
		}
		if made == 1 {
			code(t, rotate(id), pb.Code_CODE_FORBIDDEN) // it is out already
		}
	}
	if made != identity.MaxRotations-keptForResets {
		t.Fatalf("%d keys were made: %v", made, err)
	}
	note, err := w.SignRevocation(alice.device)
	w.must(err)
	w.must(w.RevokeDevice(t.Context(), note))
	l, err := w.CreateResetLink(t.Context(), "alice", time.Hour)
	w.must(err)
	_, err = w.Enroll(t.Context(), w.returns(alice.id, l.Secret).enrol, nil)
	w.must(err)
}
