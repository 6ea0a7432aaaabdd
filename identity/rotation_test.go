package identity

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// rotate replaces a person's key, without some devices, and returns the chain that the
// directory makes of it. edit changes the rotation before it is signed, lie the chain.
func rotate(t *testing.T, p *person, keys []ed25519.PrivateKey, without []wire.DeviceID, edit func(int, *Rotation), lie func(*pb.MemberChain, *MemberRecord)) *pb.MemberChain {
	t.Helper()
	r := p.record("alice")
	r.Revoked = without
	devices := p.devices
	p.devices = nil
	for _, d := range devices {
		out := false
		for _, w := range without {
			out = out || w == d.Device
		}
		if !out {
			p.devices = append(p.devices, d)
		}
	}
	defer func() { p.devices = devices }()
	r.Devices = nil
	for _, d := range p.devices {
		r.Devices = append(r.Devices, DeviceEntry{d.Device, d.Hash})
	}
	var notes []string
	old := p.key
	for i, next := range keys {
		x := Rotation{Organization: p.house.ID, Member: p.id, Number: uint64(i) + 1, Issued: now, Without: without, Devices: r.Devices}
		if edit != nil {
			edit(i, &x)
		}
		n, err := SignRotation(x, old, next)
		must(t, err)
		notes, old = append(notes, n), next
	}
	r.Key = public(old)
	scratch := &pb.MemberChain{Keys: notes}
	if lie != nil {
		lie(scratch, &r)
	}
	c := p.chain(t, r)
	c.Keys = scratch.Keys
	return c
}

func TestAMembersKeyChangesByItsOwnWordOnly(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice", "laptop", "phone", "tablet")
	mallory := seeded("mallory")
	keys := []ed25519.PrivateKey{seeded("alice 2"), seeded("alice 3")}
	phone := []wire.DeviceID{alice.devices[1].Device}
	m, err := VerifyChain(rotate(t, alice, keys, phone, nil, nil), acme.ID, now)
	must(t, err)
	if !m.Key.Equal(public(keys[1])) || len(m.Rotations) != 2 || len(m.Devices) != 2 || !m.Without(phone[0]) || len(m.Uncovered()) != 0 {
		t.Errorf("verified as %+v", m)
	}
	before, err := VerifyChain(alice.chain(t, alice.record("alice")), acme.ID, now)
	must(t, err)
	if m.follows(before) != true || before.follows(m) {
		t.Error("which keys follow which")
	}
	forked, err := VerifyChain(rotate(t, alice, []ed25519.PrivateKey{seeded("alice 2b")}, phone, nil, nil), acme.ID, now)
	must(t, err)
	forked.Version, m.Version = 3, 2
	if err := forked.Supersedes(m); err == nil {
		t.Error("a member's key forks unseen")
	}
	for name, chain := range map[string]*pb.MemberChain{
		"by another key": rotate(t, alice, keys[:1], nil, nil, func(c *pb.MemberChain, _ *MemberRecord) {
			c.Keys[0], err = SignRotation(Rotation{Organization: acme.ID, Member: alice.id, Number: 1, Issued: now}, mallory, keys[0])
			must(t, err)
		}),
		"left out of the record":  rotate(t, alice, keys[:1], nil, nil, func(_ *pb.MemberChain, r *MemberRecord) { r.Key = public(alice.key) }),
		"left out of the chain":   rotate(t, alice, keys[:1], nil, nil, func(c *pb.MemberChain, _ *MemberRecord) { c.Keys = nil }),
		"the last left out":       rotate(t, alice, keys, nil, nil, func(c *pb.MemberChain, _ *MemberRecord) { c.Keys = c.Keys[:1] }),
		"the first left out":      rotate(t, alice, keys, nil, nil, func(c *pb.MemberChain, _ *MemberRecord) { c.Keys = c.Keys[1:] }),
		"twice":                   rotate(t, alice, keys[:1], nil, nil, func(c *pb.MemberChain, _ *MemberRecord) { c.Keys = append(c.Keys, c.Keys[0]) }),
		"of another number":       rotate(t, alice, keys, nil, func(_ int, r *Rotation) { r.Number++ }, nil),
		"of another member":       rotate(t, alice, keys, nil, func(_ int, r *Rotation) { r.Member = wire.MemberID{1} }, nil),
		"of another organization": rotate(t, alice, keys, nil, func(_ int, r *Rotation) { r.Organization = wire.OrganizationID{1} }, nil),
		"back to an old key":      rotate(t, alice, []ed25519.PrivateKey{keys[0], alice.key}, nil, nil, nil),
		"to itself":               rotate(t, alice, []ed25519.PrivateKey{alice.key}, nil, nil, nil),
		"that does not take a device over": rotate(t, alice, keys, nil, func(i int, r *Rotation) {
			r.Devices = r.Devices[:len(r.Devices)-i]
		}, nil),
		"that takes another certificate over": rotate(t, alice, keys, nil, func(_ int, r *Rotation) {
			r.Devices = []DeviceEntry{{r.Devices[0].Device, [32]byte{1}}, r.Devices[1], r.Devices[2]}
		}, nil),
		"with a device that is out and stays": rotate(t, alice, keys, nil, func(_ int, r *Rotation) { r.Without = []wire.DeviceID{r.Devices[0].Device} }, nil),
		"that is no note":                     rotate(t, alice, keys[:1], nil, nil, func(c *pb.MemberChain, _ *MemberRecord) { c.Keys[0] = "x" }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := VerifyChain(chain, acme.ID, now); err == nil {
				t.Error("it stands")
			}
		})
	}
	var many []ed25519.PrivateKey
	for i := range MaxRotations + 1 {
		many = append(many, seeded(fmt.Sprint("alice, many ", i)))
	}
	if _, err := VerifyChain(rotate(t, alice, many[:MaxRotations], nil, nil, nil), acme.ID, now); err != nil {
		t.Errorf("%d rotations: %v", MaxRotations, err)
	}
	if _, err := VerifyChain(rotate(t, alice, many, nil, nil, nil), acme.ID, now); err == nil {
		t.Error("rotations without end")
	}
}

func TestAnOldKeyRevokesThoseOnlyThatARotationNames(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice", "laptop", "phone")
	phone, laptop := alice.devices[1].Device, alice.devices[0].Device
	m, err := VerifyChain(rotate(t, alice, []ed25519.PrivateKey{seeded("alice 2")}, []wire.DeviceID{phone}, nil, nil), acme.ID, now)
	must(t, err)
	for device, want := range map[wire.DeviceID]bool{phone: true, laptop: false} {
		for i, key := range []ed25519.PrivateKey{alice.key, seeded("alice 2"), seeded("mallory")} {
			note, err := SignRevocation(Revocation{Organization: acme.ID, Member: alice.id, Device: device, Issued: now, By: "member"}, "acme.example", key)
			must(t, err)
			stands := i == 1 || i == 0 && want
			if _, err := VerifyRevocation(note, acme.Organization, m); (err == nil) != stands {
				t.Errorf("key %d, the lost device: %t: %v", i, want, err)
			}
		}
	}
}

// A revocation of before a change of the directory key arrives after it. What the record of
// now names as revoked stays so; a thief of the old key, who dates a note back, revokes nobody.
func TestAnOldDirectoryKeyRevokesThoseOnlyThatTheRecordNames(t *testing.T) {
	acme := newHouse(t, "acme.example")
	old := acme.keys.Directory
	next, err := acme.Successor(now)
	must(t, err)
	acme.keys.Directory = seeded("acme.example/directory 2")
	next.Directory = public(acme.keys.Directory)
	note, err := next.Sign(acme.root.Root)
	must(t, err)
	acme.Organization, err = VerifyManifests(append(acme.Notes, note), acme.ID)
	must(t, err)
	alice := acme.member(t, "alice", "laptop")
	phone, laptop := deviceID("phone"), alice.devices[0].Device
	rec := alice.record("alice")
	rec.Revoked = []wire.DeviceID{phone}
	m, err := VerifyChain(alice.chain(t, rec), acme.ID, now)
	must(t, err)
	other := *m
	other.ID[0]++
	for device, gone := range map[wire.DeviceID]bool{phone: true, laptop: false} {
		for i, key := range []ed25519.PrivateKey{old, acme.keys.Directory, seeded("mallory")} {
			note, err := SignRevocation(Revocation{Organization: acme.ID, Member: alice.id, Device: device, Issued: now.Add(-time.Hour), By: "organization"}, "acme.example", key)
			must(t, err)
			for who, known := range map[string]*Member{"the record": m, "no record": nil, "another's record": &other} {
				stands := i == 1 || i == 0 && gone && who == "the record"
				if _, err := VerifyRevocation(note, acme.Organization, known); (err == nil) != stands {
					t.Errorf("key %d, a device that is gone: %t, %s: %v", i, gone, who, err)
				}
			}
		}
	}
}
