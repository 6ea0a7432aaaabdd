package identity

import (
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

func TestChainOfAnHonestOrganizationStands(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice", "laptop", "phone")
	m, err := VerifyChain(alice.chain(t, alice.record("alice")), acme.ID, now)
	must(t, err)
	if m.ID != alice.id || m.Address().String() != "alice@acme.example" || len(m.Devices) != 2 || m.Version != 1 {
		t.Errorf("verified as %+v", m)
	}
	for _, d := range alice.devices {
		c := wire.Credential{Organization: acme.ID, Member: alice.id, Device: d.Device, Certificate: d.Hash}
		must(t, CheckCredential(c, d.Device[:], m, now))
	}
}

// What a directory that lies can try with the directory key and the root key in its
// hands, but without the member's.
func TestDirectoryCannotSpeakForAMember(t *testing.T) {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	alice, bob := acme.member(t, "alice", "laptop", "phone"), acme.member(t, "bob", "bob's")
	mallory := &person{house: acme, key: seeded("mallory"), id: alice.id, genesis: alice.genesis}
	spy, err := SignDeviceCertificate(acme.ID, alice.id, deviceID("spy"), mallory.key, now)
	must(t, err)
	good := alice.record("alice")
	with := func(change func(*pb.MemberChain, *MemberRecord)) *pb.MemberChain {
		r := alice.record("alice")
		scratch := alice.chain(t, r)
		change(scratch, &r)
		c := alice.chain(t, r)
		c.Genesis, c.Devices, c.Manifests = scratch.Genesis, scratch.Devices, scratch.Manifests
		return c
	}
	for _, c := range []struct {
		name, because string
		chain         *pb.MemberChain
	}{
		{"nothing", "no chain", nil},
		{"an empty chain", "0 manifests", &pb.MemberChain{}},
		{"another organization", "another organization", globex.member(t, "alice", "laptop").chain(t, good)},
		{"another key in the record", "do not lead", with(func(c *pb.MemberChain, r *MemberRecord) { r.Key = public(mallory.key) })},
		{"another key with a genesis of its own", "another member", with(func(c *pb.MemberChain, r *MemberRecord) {
			r.Key, c.Genesis = public(mallory.key), acme.member(t, "mallory").genesis
		})},
		{"another key in a genesis of the same ID", "signature", with(func(c *pb.MemberChain, r *MemberRecord) {
			text := replaced(t, textOf(t, alice.genesis), wire.FormatKey(public(alice.key)), wire.FormatKey(public(mallory.key)))
			r.Key, c.Genesis = public(mallory.key), sign(t, text, noteKey(MemberKeyName(alice.id), mallory.key))
		})},
		{"the genesis of another member", "another member", with(func(c *pb.MemberChain, r *MemberRecord) { c.Genesis = bob.genesis })},
		{"a device that the member did not certify", "signature", with(func(c *pb.MemberChain, r *MemberRecord) {
			r.Devices[1] = DeviceEntry{spy.Device, spy.Hash}
			c.Devices[1] = spy.Note
		})},
		{"one device more", "signature", with(func(c *pb.MemberChain, r *MemberRecord) {
			r.Devices = append(r.Devices, DeviceEntry{spy.Device, spy.Hash})
			c.Devices = append(c.Devices, spy.Note)
		})},
		{"a device of another member", "signature", with(func(c *pb.MemberChain, r *MemberRecord) {
			r.Devices[1] = DeviceEntry{bob.devices[0].Device, bob.devices[0].Hash}
			c.Devices[1] = bob.devices[0].Note
		})},
		{"a certificate that the record does not name", "does not name", with(func(c *pb.MemberChain, r *MemberRecord) { r.Devices[1].Certificate[0] ^= 1 })},
		{"a device under another certificate", "does not name", with(func(c *pb.MemberChain, r *MemberRecord) { r.Devices[1].Device = spy.Device })},
		{"certificates exchanged", "does not name", with(func(c *pb.MemberChain, r *MemberRecord) { c.Devices[0], c.Devices[1] = c.Devices[1], c.Devices[0] })},
		{"fewer certificates than devices", "1 device certificates", with(func(c *pb.MemberChain, r *MemberRecord) { c.Devices = c.Devices[:1] })},
		{"more certificates than devices", "2 device certificates", with(func(c *pb.MemberChain, r *MemberRecord) { r.Devices = r.Devices[:1] })},
		{"a record of the future", "future", with(func(c *pb.MemberChain, r *MemberRecord) { r.Issued = now.Add(25 * time.Hour) })},
		{"a record of another organization", "another organization", with(func(c *pb.MemberChain, r *MemberRecord) { r.Organization = globex.ID })},
		{"no manifests", "0 manifests", with(func(c *pb.MemberChain, r *MemberRecord) { c.Manifests = nil })},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := VerifyChain(c.chain, acme.ID, now)
			refused(t, err, c.because)
			if m != nil {
				t.Error("a refused chain leaves a member")
			}
		})
	}
}

// The genesis is checked against the organization it was made for: a directory
// cannot take a member of another organization in as its own.
func TestMemberOfAnotherOrganizationIsRefused(t *testing.T) {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	alice := globex.member(t, "alice", "laptop")
	stolen := *alice
	stolen.house = acme
	_, err := VerifyChain(stolen.chain(t, stolen.record("alice")), acme.ID, now)
	refused(t, err, "another member")
}

// A device certificate names its organization too, so that a member who is in two
// organizations with one key stays in the one that the device was meant for.
func TestCertificateForAnotherOrganizationIsRefused(t *testing.T) {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	alice := acme.member(t, "alice")
	elsewhere, err := SignDeviceCertificate(globex.ID, alice.id, deviceID("laptop"), alice.key, now)
	must(t, err)
	alice.devices = append(alice.devices, elsewhere)
	_, err = VerifyChain(alice.chain(t, alice.record("alice")), acme.ID, now)
	refused(t, err, "does not name")
}

// What a lying directory can still do today without being caught by the chain
// alone: give an old record, leave a device out, and bring back a device that it had
// listed as revoked. Each is detected by whoever has seen a newer record
// (Supersedes), and by everybody once currency proofs are there
// (docs/threat-model.md).
func TestOldRecordsAreCaughtByWhoeverKnowsNewerOnes(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice", "laptop", "phone")
	verify := func(r MemberRecord, devices ...*DeviceCertificate) *Member {
		p := *alice
		p.devices = devices
		m, err := VerifyChain(p.chain(t, r), acme.ID, now)
		must(t, err)
		return m
	}
	first := alice.record("alice")
	old := verify(first, alice.devices...)
	second := first
	second.Version, second.Previous = 2, old.Record
	second.Devices, second.Revoked = first.Devices[:1], []wire.DeviceID{first.Devices[1].Device}
	current := verify(second, alice.devices[0])
	must(t, current.Supersedes(old))
	must(t, current.Supersedes(current))
	refused(t, old.Supersedes(current), "version 1 of a member's record after version 2")

	fork := second
	fork.Revoked = nil
	refused(t, verify(fork, alice.devices[0]).Supersedes(current), "two records of version 2")

	broken := second
	broken.Version, broken.Previous = 3, old.Record
	refused(t, verify(broken, alice.devices[0]).Supersedes(current), "does not follow")
	other := acme.member(t, "bob")
	bob, err := VerifyChain(other.chain(t, other.record("bob")), acme.ID, now)
	must(t, err)
	refused(t, bob.Supersedes(current), "another member")
}

func TestCredentialIsCheckedAgainstItsChain(t *testing.T) {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	alice, bob := acme.member(t, "alice", "laptop"), acme.member(t, "bob", "bob's")
	m, err := VerifyChain(alice.chain(t, alice.record("alice")), acme.ID, now)
	must(t, err)
	r := alice.record("alice")
	r.Disabled = true
	disabled, err := VerifyChain(alice.chain(t, r), acme.ID, now)
	must(t, err)
	r = alice.record("alice")
	r.Devices, r.Revoked = nil, []wire.DeviceID{alice.devices[0].Device}
	removed := *alice
	removed.devices = nil
	without, err := VerifyChain(removed.chain(t, r), acme.ID, now)
	must(t, err)

	d := alice.devices[0]
	good := wire.Credential{Organization: acme.ID, Member: alice.id, Device: d.Device, Certificate: d.Hash}
	must(t, CheckCredential(good, d.Device[:], m, now))
	for _, c := range []struct {
		name, because string
		change        func(*wire.Credential)
		key           []byte
		member        *Member
		at            time.Time
	}{
		{"another organization", "another member", func(c *wire.Credential) { c.Organization = globex.ID }, d.Device[:], m, now},
		{"another member", "another member", func(c *wire.Credential) { c.Member = bob.id }, d.Device[:], m, now},
		{"another device", "not, or no longer", func(c *wire.Credential) { c.Device = bob.devices[0].Device }, bob.devices[0].Device[:], m, now},
		{"another certificate", "another certificate", func(c *wire.Credential) { c.Certificate[3] ^= 1 }, d.Device[:], m, now},
		{"another signature key", "not its device key", func(*wire.Credential) {}, flipped(d.Device[:], 31), m, now},
		{"no signature key", "not its device key", func(*wire.Credential) {}, nil, m, now},
		{"a disabled member", "disabled", func(*wire.Credential) {}, d.Device[:], disabled, now},
		{"a revoked device", "no longer", func(*wire.Credential) {}, d.Device[:], without, now},
		{"a certificate that is over", "in force", func(*wire.Credential) {}, d.Device[:], m, d.Expires},
		{"a certificate of the future", "in force", func(*wire.Credential) {}, d.Device[:], m, d.Issued.Add(-25 * time.Hour)},
	} {
		t.Run(c.name, func(t *testing.T) {
			cred := good
			c.change(&cred)
			refused(t, CheckCredential(cred, c.key, c.member, c.at), c.because)
		})
	}
}

// Any single changed byte anywhere in a chain is refused. The one exception is the
// last base64 character of a signature, whose two lowest bits say nothing and which
// the C2SP code does not check; notes are named by their text, without it.
func TestEveryByteOfAChainCounts(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice", "laptop")
	good := alice.chain(t, alice.record("alice"))
	for _, part := range []func(*pb.MemberChain) *string{
		func(c *pb.MemberChain) *string { return &c.Manifests[0] },
		func(c *pb.MemberChain) *string { return &c.Genesis },
		func(c *pb.MemberChain) *string { return &c.Record },
		func(c *pb.MemberChain) *string { return &c.Devices[0] },
	} {
		for i := 0; i < len(*part(good))-len("x=\n"); i += 3 {
			bad := proto.CloneOf(good)
			s := part(bad)
			*s = string(flipped([]byte(*s), i))
			if _, err := VerifyChain(bad, acme.ID, now); err == nil {
				t.Fatalf("byte %d changed in %q stands", i, *s)
			}
		}
	}
}
