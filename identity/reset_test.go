package identity

import (
	"crypto/ed25519"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// lost is a member whose only device was revoked, as its organization has it.
func lost(t *testing.T, acme *house) (*person, *Member) {
	t.Helper()
	alice := acme.member(t, "alice", "phone")
	phone := alice.devices[0].Device
	alice.devices = nil
	r := alice.record("alice")
	r.Version, r.Previous, r.Revoked = 2, [32]byte{1}, []wire.DeviceID{phone}
	m, err := VerifyChain(alice.chain(t, r), acme.ID, now)
	must(t, err)
	return alice, m
}

// resetChain is what a directory answers after a reset to a key.
func resetChain(t *testing.T, acme *house, alice *person, m *Member, key ed25519.PrivateKey, resets ...string) *pb.MemberChain {
	t.Helper()
	c, err := SignDeviceCertificate(acme.ID, m.ID, deviceID("new phone"), key, now)
	must(t, err)
	alice.devices = []*DeviceCertificate{c}
	defer func() { alice.devices = nil }()
	r := alice.record("alice")
	r.Version, r.Previous, r.Key, r.Revoked = 3, m.Record, public(key), m.Revoked
	chain := alice.chain(t, r)
	chain.Keys = resets
	return chain
}

func TestAResetTakesTheOrganizationAndTheNewKey(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice, m := lost(t, acme)
	next := seeded("alice after")
	half, err := SignReset(m, next, Rotation{Issued: now})
	must(t, err)
	whole, err := CountersignReset(half, m, acme.keys.Directory)
	must(t, err)
	after, err := VerifyChain(resetChain(t, acme, alice, m, next, whole), acme.ID, now)
	must(t, err)
	must(t, after.Supersedes(m))
	if after.ID != m.ID || !after.Key.Equal(public(next)) || len(after.Uncovered()) > 0 || !after.ResetSince(m.Key) || after.ResetSince(after.Key) || len(after.Devices) != 1 {
		t.Errorf("%+v", after)
	}
	// Neither the half alone, nor another's countersignature, nor the organization without the key.
	_, err = VerifyChain(resetChain(t, acme, alice, m, next, half), acme.ID, now)
	refused(t, err, "has not signed")
	other, err := CountersignReset(half, m, seeded("thief"))
	if err == nil {
		_, err = VerifyChain(resetChain(t, acme, alice, m, next, other), acme.ID, now)
	}
	refused(t, err, "has not signed")
	r := Rotation{Organization: acme.ID, Member: m.ID, Number: 1, Previous: m.Key, Key: public(next), Issued: now}
	text, err := r.record(resetType).Text()
	must(t, err)
	_, err = VerifyChain(resetChain(t, acme, alice, m, next, sign(t, text, noteKey("acme.example/directory", acme.keys.Directory))), acme.ID, now)
	refused(t, err, "reset")
	// A rotation that calls itself one, signed by the organization in the old key's place.
	text, err = r.record(rotationType).Text()
	must(t, err)
	_, err = VerifyChain(resetChain(t, acme, alice, m, next, sign(t, text, noteKey("acme.example/directory", acme.keys.Directory), noteKey(MemberKeyName(m.ID), next))), acme.ID, now)
	refused(t, err, "signature")
	// Back to the lost key: whoever found the phone.
	back, err := SignRotation(Rotation{Organization: acme.ID, Member: m.ID, Number: 2, Issued: now}, next, alice.key)
	must(t, err)
	_, err = VerifyChain(resetChain(t, acme, alice, m, alice.key, whole, back), acme.ID, now)
	refused(t, err, "one before")
	// The next key is signed by the new one, and who had seen the first still knows of the reset.
	third := seeded("alice third")
	rotated, err := SignRotation(Rotation{Organization: acme.ID, Member: m.ID, Number: 2, Issued: now}, next, third)
	must(t, err)
	later, err := VerifyChain(resetChain(t, acme, alice, m, third, whole, rotated), acme.ID, now)
	must(t, err)
	if !later.ResetSince(m.Key) || later.ResetSince(public(next)) || later.ResetSince(seeded("nobody").Public().(ed25519.PublicKey)) {
		t.Error("since when it was reset")
	}
}

func TestAnOrganizationResetsNobodyWhoHasADevice(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice, m := lost(t, acme)
	next := seeded("alice after")
	half, err := SignReset(m, next, Rotation{Issued: now})
	must(t, err)
	with := *m
	with.Devices = map[wire.DeviceID]*DeviceCertificate{{7}: {}}
	_, err = CountersignReset(half, &with, acme.keys.Directory)
	refused(t, err, "has devices")
	moved := *m
	moved.Key = public(seeded("another"))
	_, err = CountersignReset(half, &moved, acme.keys.Directory)
	refused(t, err, "does not follow")
	stranger := acme.member(t, "bob", "tablet")
	other, err := VerifyChain(stranger.chain(t, stranger.record("bob")), acme.ID, now)
	must(t, err)
	other.Devices = nil
	_, err = CountersignReset(half, other, acme.keys.Directory)
	refused(t, err, "does not follow")
	_, err = CountersignReset(sign(t, textOf(t, half), noteKey(MemberKeyName(m.ID), alice.key)), m, acme.keys.Directory)
	refused(t, err, "reset")
	r := Rotation{Organization: acme.ID, Member: m.ID, Number: 1, Previous: m.Key, Key: public(next), Issued: now, Devices: []DeviceEntry{{Device: deviceID("phone")}}}
	text, err := r.record(resetType).Text()
	must(t, err)
	_, err = CountersignReset(sign(t, text, noteKey(MemberKeyName(m.ID), next)), m, acme.keys.Directory)
	refused(t, err, "takes devices over")
	r.Devices, r.Without = nil, []wire.DeviceID{deviceID("tablet")}
	text, err = r.record(resetType).Text()
	must(t, err)
	_, err = CountersignReset(sign(t, text, noteKey(MemberKeyName(m.ID), next)), m, acme.keys.Directory)
	refused(t, err, "not revoked")
}

func TestAResetOfWhoHasLostManyDevicesLeavesTheRestToTheNextKey(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice")
	r := alice.record("alice")
	for i := range wire.MaxDevicesPerMember + 4 {
		r.Revoked = append(r.Revoked, wire.DeviceID{byte(i + 1)})
	}
	m, err := VerifyChain(alice.chain(t, r), acme.ID, now)
	must(t, err)
	next := seeded("alice after")
	half, err := SignReset(m, next, Rotation{Issued: now})
	must(t, err)
	whole, err := CountersignReset(half, m, acme.keys.Directory)
	must(t, err)
	after, err := VerifyChain(resetChain(t, acme, alice, m, next, whole), acme.ID, now)
	must(t, err)
	if n := len(after.Uncovered()); n != 4 {
		t.Errorf("%d devices are left to the next key", n)
	}
}
