package directory

import (
	"crypto/ed25519"
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// further certifies a further device of a person.
func (w *world) further(p *person, key ed25519.PrivateKey) (wire.DeviceID, string) {
	w.t.Helper()
	id := wire.DeviceID(newKey(w.t).Public().(ed25519.PublicKey))
	c, err := identity.SignDeviceCertificate(w.org.ID, p.id, id, key, w.clock.Now())
	w.must(err)
	return id, c.Note
}

func TestAMemberAddsDevicesAndNobodyElseDoes(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	id, note := w.further(alice, alice.key)
	_, byBob := w.further(alice, bob.key)
	bobs, err := identity.SignDeviceCertificate(w.org.ID, alice.id, bob.device, alice.key, w.clock.Now())
	w.must(err)
	old, err := identity.SignDeviceCertificate(w.org.ID, alice.id, id, alice.key, w.clock.Now().Add(-wire.DeviceCertLifetime))
	w.must(err)
	other := newWorld(t)
	elsewhere, err := identity.SignDeviceCertificate(other.org.ID, alice.id, id, alice.key, w.clock.Now())
	w.must(err)
	beside := func(*store.Batch, wire.DeviceID) { t.Error("something is added to a refused device") }
	for name, x := range map[string]struct {
		member wire.MemberID
		note   string
		want   pb.Code
	}{
		"a certificate by another key":    {alice.id, byBob, pb.Code_CODE_MALFORMED},
		"another member's certificate":    {bob.id, note, pb.Code_CODE_MALFORMED},
		"another member's device":         {alice.id, bobs.Note, pb.Code_CODE_EXISTS},
		"a certificate that is over":      {alice.id, old.Note, pb.Code_CODE_MALFORMED},
		"a certificate of another house":  {alice.id, elsewhere.Note, pb.Code_CODE_MALFORMED},
		"nothing":                         {alice.id, "", pb.Code_CODE_MALFORMED},
		"a member that nobody knows":      {wire.MemberID{7}, note, pb.Code_CODE_UNKNOWN_MEMBER},
		"a certificate that was tampered": {alice.id, note[:len(note)-6] + "AAAAA\n", pb.Code_CODE_MALFORMED},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.AddDevice(ctx, x.member, x.note, beside)
			code(t, err, x.want)
		})
	}
	size, _, err := w.Head()
	w.must(err)
	for range 2 { // repeated: the same answer, no further version
		chain, err := w.AddDevice(ctx, alice.id, note, nil)
		w.must(err)
		m, err := identity.VerifyChain(chain, w.org.ID, w.clock.Now())
		w.must(err)
		if m.Version != 2 || len(m.Devices) != 2 || m.Devices[id] == nil {
			t.Errorf("version %d with %d devices", m.Version, len(m.Devices))
		}
	}
	after, _, err := w.Head()
	w.must(err)
	if after != size+2 { // the record and the map
		t.Errorf("the log went from %d to %d", size, after)
	}
	w.restart()
	if m, ok := w.ByDevice(id); !ok || m != alice.id {
		t.Error("the device is gone after a restart")
	}
}

func TestARevokedDeviceDoesNotComeBackAndTheNumberOfDevicesIsBounded(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	id, note := w.further(alice, alice.key)
	_, err := w.AddDevice(ctx, alice.id, note, nil)
	w.must(err)
	revocation, err := w.SignRevocation(id)
	w.must(err)
	w.must(w.RevokeDevice(ctx, revocation))
	_, err = w.AddDevice(ctx, alice.id, note, nil)
	code(t, err, pb.Code_CODE_REVOKED)
	for range wire.MaxDevicesPerMember - 1 {
		_, note := w.further(alice, alice.key)
		_, err := w.AddDevice(ctx, alice.id, note, nil)
		w.must(err)
	}
	_, note = w.further(alice, alice.key)
	_, err = w.AddDevice(ctx, alice.id, note, nil)
	code(t, err, pb.Code_CODE_FULL)
}

func TestOwnDevicesAreClaimedWithoutTheLimitsForOthers(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	id, note := w.further(alice, alice.key)
	_, err := w.AddDevice(ctx, alice.id, note, nil)
	w.must(err)
	_, err = w.Publish(ctx, id, packages(wire.KeyPackagePool, 1), nil, false)
	w.must(err)
	for range wire.KeyPackagePool {
		got, err := w.ClaimOwn(ctx, alice.id, []wire.DeviceID{id, bob.device}, FirstSuite)
		w.must(err)
		if len(got) != 1 || string(got[0].Device) != string(id[:]) || len(got[0].KeyPackage) == 0 {
			t.Fatalf("claimed %d", len(got))
		}
	}
	_, err = w.ClaimOwn(ctx, alice.id, []wire.DeviceID{id}, FirstSuite)
	code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
	_, err = w.ClaimOwn(ctx, alice.id, make([]wire.DeviceID, wire.MaxDevicesPerMember+1), FirstSuite)
	code(t, err, pb.Code_CODE_TOO_LARGE)
}

// A call of a device that was revoked while it waited: the device still knows the member key, and
// has made the next one so that it fits the record without it.
func TestACallThatBeganBeforeItsDeviceWasRevokedChangesNothing(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	stolen, note := w.further(alice, alice.key)
	_, err := w.AddDeviceBy(t.Context(), alice.device, note, nil)
	w.must(err)
	before, err := w.Get(alice.id)
	w.must(err)
	next := newKey(t)
	r := identity.Rotation{Organization: w.org.ID, Member: alice.id, Number: 1, Issued: w.clock.Now(), Without: []wire.DeviceID{stolen},
		Devices: []identity.DeviceEntry{{Device: alice.device, Certificate: before.Devices[alice.device].Hash}}}
	rotation, err := identity.SignRotation(r, alice.key, next)
	w.must(err)
	_, another := w.further(alice, alice.key)
	out, err := w.SignRevocation(stolen)
	w.must(err)
	w.must(w.RevokeDevice(t.Context(), out))
	_, err = w.RotateKeyBy(t.Context(), stolen, rotation)
	code(t, err, pb.Code_CODE_REVOKED)
	_, err = w.AddDeviceBy(t.Context(), stolen, another, nil)
	code(t, err, pb.Code_CODE_REVOKED)
	if m, err := w.Get(alice.id); err != nil || !m.Key.Equal(before.Key) || len(m.Devices) != 1 {
		t.Errorf("%d devices: %v", len(m.Devices), err)
	}
	// The very same by a device that stays is what a member does.
	_, err = w.RotateKeyBy(t.Context(), alice.device, rotation)
	w.must(err)
}
