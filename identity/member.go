package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
)

const (
	genesisType = "entente.im/member-genesis/v1"
	recordType  = "entente.im/member/v1"

	// MaxRevoked bounds the revoked devices that a record lists.
	MaxRevoked = 1_000
)

// Genesis is how a member begins: its ID is the hash of this record's text.
type Genesis struct {
	Organization wire.OrganizationID
	Name         string
	Key          ed25519.PublicKey
	Created      time.Time
	Nonce        [32]byte
}

// MemberKeyName is the note key name of a member's key.
func MemberKeyName(id wire.MemberID) string { return id.String() + "/member" }

// NewGenesis makes and signs a member's genesis record with the member key.
func NewGenesis(org wire.OrganizationID, name string, key ed25519.PrivateKey, now time.Time) (note string, id wire.MemberID, err error) {
	if err := wire.CheckMemberName(name); err != nil {
		return "", id, err
	}
	g := Genesis{Organization: org, Name: name, Key: public(key), Created: now}
	if _, err := rand.Read(g.Nonce[:]); err != nil {
		return "", id, fmt.Errorf("identity: randomness: %w", err)
	}
	r := wire.Record{Type: genesisType}
	r.Add("organization", "%s", g.Organization)
	r.Add("name", "%s", g.Name)
	r.Add("key", "%s", wire.FormatKey(g.Key))
	r.Add("created", "%s", wire.FormatTime(g.Created))
	r.Add("nonce", "%s", wire.FormatHash(g.Nonce))
	text, err := r.Text()
	if err != nil {
		return "", id, err
	}
	id = wire.TextHash(text)
	note, err = wire.SignNote(r, noteKey(MemberKeyName(id), key))
	return note, id, err
}

// VerifyGenesis checks a genesis record: signed by the key that it names.
func VerifyGenesis(note string) (*Genesis, wire.MemberID, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, wire.MemberID{}, refuse("member genesis: %v", err)
	}
	f := wire.Read(text, genesisType)
	g := &Genesis{Organization: f.Hash("organization"), Name: f.One("name")}
	if err := wire.CheckMemberName(g.Name); err != nil {
		f.Fail("name: %v", err)
	}
	g.Key = f.Key("key")
	g.Created = f.Time("created")
	g.Nonce = f.Hash("nonce")
	if err := f.Done(); err != nil {
		return nil, wire.MemberID{}, refuse("member genesis: %v", err)
	}
	id := wire.MemberID(wire.TextHash(text))
	if err := signed(note, text, wire.NoteKey{Owner: MemberKeyName(id), Public: g.Key}); err != nil {
		return nil, wire.MemberID{}, refuse("member genesis: %v", err)
	}
	return g, id, nil
}

// DeviceEntry is a device of a member with the hash of its certificate's text.
type DeviceEntry struct {
	Device      wire.DeviceID
	Certificate [32]byte
}

// MemberRecord is the directory's whole statement about a member.
type MemberRecord struct {
	Organization wire.OrganizationID
	Member       wire.MemberID
	Name         string
	Version      uint64
	Previous     [32]byte // hash of the text of the version before; zeros for the first
	Key          ed25519.PublicKey
	Disabled     bool
	Issued       time.Time
	Devices      []DeviceEntry
	Revoked      []wire.DeviceID
	Hash         [32]byte // of the text; what the next record names as previous
}

// Sign signs the record with the organization's directory key.
func (m MemberRecord) Sign(org string, directory ed25519.PrivateKey) (string, error) {
	r := wire.Record{Type: recordType}
	r.Add("organization", "%s", m.Organization)
	r.Add("member", "%s", m.Member)
	r.Add("name", "%s", m.Name)
	r.Add("version", "%d", m.Version)
	r.Add("previous", "%s", wire.FormatHash(m.Previous))
	r.Add("key", "%s", wire.FormatKey(m.Key))
	r.Add("disabled", "%t", m.Disabled)
	r.Add("issued", "%s", wire.FormatTime(m.Issued))
	for _, d := range m.Devices {
		r.Add("device", "%s %s", d.Device, wire.FormatHash(d.Certificate))
	}
	for _, d := range m.Revoked {
		r.Add("revoked", "%s", d)
	}
	return wire.SignNote(r, noteKey(org+"/directory", directory))
}

// VerifyRecord checks a member record against its organization.
func VerifyRecord(note string, o *Organization) (*MemberRecord, error) {
	text, err := wire.OpenNote(note, o.DirectoryKey())
	if err != nil {
		return nil, refuse("member record: %v", err)
	}
	f := wire.Read(text, recordType)
	m := &MemberRecord{Hash: wire.TextHash(text), Organization: f.Hash("organization"), Member: f.Hash("member"), Name: f.One("name")}
	m.Version = f.Uint("version")
	m.Previous = f.Hash("previous")
	m.Key = f.Key("key")
	m.Disabled = f.Bool("disabled")
	m.Issued = f.Time("issued")
	for _, v := range f.All("device", wire.MaxDevicesPerMember) {
		m.Devices = append(m.Devices, parseDeviceEntry(f, v))
	}
	seen := make(map[wire.DeviceID]bool)
	for _, d := range m.Devices {
		if seen[d.Device] {
			f.Fail("a device twice")
		}
		seen[d.Device] = true
	}
	for _, v := range f.All("revoked", MaxRevoked) {
		id, err := wire.ParseDeviceID(v)
		if err != nil || seen[id] {
			f.Fail("revoked %.80q", v)
		}
		seen[id] = true
		m.Revoked = append(m.Revoked, id)
	}
	if err := f.Done(); err != nil {
		return nil, refuse("member record: %v", err)
	}
	if m.Organization != o.ID || m.Version == 0 || wire.CheckMemberName(m.Name) != nil {
		return nil, refuse("a member record of another organization, version 0 or without a name")
	}
	if (m.Version == 1) != (m.Previous == [32]byte{}) {
		return nil, refuse("a member record of version %d whose previous hash is not its version's", m.Version)
	}
	return m, nil
}

func parseDeviceEntry(f *wire.Fields, v string) (d DeviceEntry) {
	id, hash, _ := strings.Cut(v, " ")
	device, err := wire.ParseDeviceID(id)
	h, err2 := wire.ParseRoomID(hash) // the same form: 32 bytes in base32
	if err != nil || err2 != nil {
		f.Fail("device %.120q", v)
	}
	return DeviceEntry{device, h}
}
