package identity

import (
	"bytes"
	"crypto/ed25519"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Member is a member whose whole chain was verified.
type Member struct {
	Organization *Organization
	ID           wire.MemberID
	Name         string
	Version      uint64
	Record       [32]byte // hash of the record's text
	Previous     [32]byte // of the record before
	Key          ed25519.PublicKey
	Rotations    []*Rotation // how the key came about, from that of the genesis record
	Disabled     bool
	Devices      map[wire.DeviceID]*DeviceCertificate
	Revoked      []wire.DeviceID
}

// Address is how people write to the member.
func (m *Member) Address() wire.Address {
	return wire.Address{Name: m.Name, Organization: m.Organization.Manifest.Name}
}

// VerifyChain verifies everything that a member's devices stand on, from the pinned
// organization ID downwards: manifests, member genesis, current record, device
// certificates. The genesis record's hash has to be the member ID, and its key the
// record's key or one that rotations lead to, each signed by the key before: an
// organization cannot put another key in, nor a device that the member has not certified.
func VerifyChain(chain *pb.MemberChain, org wire.OrganizationID, now time.Time) (*Member, error) {
	if chain == nil {
		return nil, refuse("no chain")
	}
	if n := sizeOf(chain.Genesis, chain.Record) + sizeOf(chain.Devices...) + sizeOf(chain.Keys...); n > maxMember {
		return nil, refuse("a member's chain of %d bytes: at most %d are taken", n, maxMember)
	}
	o, err := VerifyManifests(chain.Manifests, org)
	if err != nil {
		return nil, err
	}
	record, err := VerifyRecord(chain.Record, o)
	if err != nil {
		return nil, err
	}
	genesis, id, err := VerifyGenesis(chain.Genesis)
	if err != nil {
		return nil, err
	}
	switch {
	case id != record.Member || genesis.Organization != o.ID:
		return nil, refuse("a genesis record of another member")
	case record.Issued.After(now.Add(wire.NotBeforeSlack)):
		return nil, refuse("a member record of the future: is the clock right?")
	case len(chain.Devices) != len(record.Devices):
		return nil, refuse("%d device certificates where the record names %d", len(chain.Devices), len(record.Devices))
	}
	rotations, err := verifyRotations(chain.Keys, o, genesis, id)
	if err != nil {
		return nil, err
	}
	key := genesis.Key
	if n := len(rotations); n > 0 {
		key = rotations[n-1].Key
	}
	if !key.Equal(record.Key) {
		return nil, refuse("a member key to which the genesis record and rotations do not lead")
	}
	m := &Member{Organization: o, ID: id, Name: record.Name, Version: record.Version, Record: record.Hash, Previous: record.Previous,
		Key: record.Key, Rotations: rotations, Disabled: record.Disabled,
		Devices: make(map[wire.DeviceID]*DeviceCertificate, len(record.Devices)), Revoked: record.Revoked}
	for i, entry := range record.Devices {
		c, err := m.verifyCertificate(chain.Devices[i], entry)
		if err != nil {
			return nil, err
		}
		if c.Organization != o.ID || c.Device != entry.Device || c.Hash != entry.Certificate {
			return nil, refuse("a device certificate that the record does not name")
		}
		m.Devices[c.Device] = c
	}
	return m, nil
}

// Lasting is what is needed to compare the member with later states and with leaves, without
// the notes that it was verified by: for whoever keeps many.
func (m *Member) Lasting() *Member {
	out := *m
	out.Organization = &Organization{ID: m.Organization.ID, Manifest: m.Organization.Manifest}
	out.Rotations, out.Devices = nil, make(map[wire.DeviceID]*DeviceCertificate, len(m.Devices))
	for _, r := range m.Rotations {
		bare := *r
		bare.Note = ""
		out.Rotations = append(out.Rotations, &bare)
	}
	for id, c := range m.Devices {
		bare := *c
		bare.Note = ""
		out.Devices[id] = &bare
	}
	return &out
}

// Supersedes checks what a newly fetched member may be when an older state of the
// same member is known: not an older version, not another record of the same version,
// and, one version on, a record that names the known one. An error is a lie of the
// member's directory, provable by the two records.
func (m *Member) Supersedes(known *Member) error {
	switch {
	case m.ID != known.ID || m.Organization.ID != known.Organization.ID:
		return refuse("the record of another member")
	case m.Version < known.Version:
		return refuse("version %d of a member's record after version %d", m.Version, known.Version)
	case !m.follows(known):
		return refuse("a member key that does not follow the known one")
	case m.Version == known.Version && m.Record != known.Record:
		return refuse("two records of version %d", m.Version)
	case m.Version == known.Version+1 && m.Previous != known.Record:
		return refuse("version %d of a member's record does not follow the known one", m.Version)
	}
	return nil
}

// CheckCredential compares a leaf with its member's verified chain: organization,
// member, device, certificate, its time, and the signature key, which is the device
// key itself (docs/protocol.md 1.5).
func CheckCredential(c wire.Credential, signatureKey []byte, m *Member, now time.Time) error {
	if c.Organization != m.Organization.ID || c.Member != m.ID {
		return refuse("a credential of another member")
	}
	if m.Disabled {
		return refuse("the member is disabled")
	}
	d, ok := m.Devices[c.Device]
	if !ok {
		return refuse("device %s is not, or no longer, one of the member's", c.Device)
	}
	if d.Hash != c.Certificate {
		return refuse("a credential with another certificate than the directory's")
	}
	if !d.InForce(now) {
		return refuse("the certificate of device %s is not in force", c.Device)
	}
	if !bytes.Equal(signatureKey, c.Device[:]) {
		return refuse("a leaf whose signature key is not its device key")
	}
	return nil
}
