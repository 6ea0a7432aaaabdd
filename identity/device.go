package identity

import (
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
)

const (
	deviceType     = "entente.im/device/v1"
	revocationType = "entente.im/revocation/v1"
)

// DeviceCertificate is a member's word that a device is the member's.
type DeviceCertificate struct {
	Organization    wire.OrganizationID
	Member          wire.MemberID
	Device          wire.DeviceID
	Issued, Expires time.Time
	Hash            [32]byte // of the note's text; what credentials and records name
	Note            string
}

// SignDeviceCertificate certifies a device with the member key.
func SignDeviceCertificate(org wire.OrganizationID, member wire.MemberID, device wire.DeviceID, key ed25519.PrivateKey, now time.Time) (*DeviceCertificate, error) {
	r := wire.Record{Type: deviceType}
	r.Add("organization", "%s", org)
	r.Add("member", "%s", member)
	r.Add("device", "%s", device)
	r.Add("issued", "%s", wire.FormatTime(now))
	r.Add("expires", "%s", wire.FormatTime(now.Add(wire.DeviceCertLifetime)))
	note, err := wire.SignNote(r, noteKey(MemberKeyName(member), key))
	if err != nil {
		return nil, err
	}
	return VerifyDeviceCertificate(note, member, public(key))
}

// VerifyDeviceCertificate checks a certificate's form and the member's signature,
// not whether it is in force.
func VerifyDeviceCertificate(note string, member wire.MemberID, key ed25519.PublicKey) (*DeviceCertificate, error) {
	text, err := wire.OpenNote(note, wire.NoteKey{Owner: MemberKeyName(member), Public: key})
	if err != nil {
		return nil, refuse("device certificate: %v", err)
	}
	f := wire.Read(text, deviceType)
	c := &DeviceCertificate{Organization: f.Hash("organization"), Member: f.Hash("member")}
	c.Device = readDevice(f, "device")
	c.Issued, c.Expires = f.Time("issued"), f.Time("expires")
	c.Hash, c.Note = wire.TextHash(text), note
	if err := f.Done(); err != nil {
		return nil, refuse("device certificate: %v", err)
	}
	if c.Member != member || !c.Expires.After(c.Issued) {
		return nil, refuse("a device certificate of another member, or without a lifetime")
	}
	return c, nil
}

// InForce reports whether the certificate is valid at a time, with a day of slack
// for clocks at its beginning.
func (c *DeviceCertificate) InForce(now time.Time) bool {
	return !now.Before(c.Issued.Add(-wire.NotBeforeSlack)) && now.Before(c.Expires)
}

// Revocation ends a device, by the word of its member or of the organization.
type Revocation struct {
	Organization wire.OrganizationID
	Member       wire.MemberID
	Device       wire.DeviceID
	Issued       time.Time
	By           string // member or organization
}

// SignRevocation signs a revocation. By decides what key it is: "member" the member
// key, "organization" the directory key.
func SignRevocation(r Revocation, orgName string, key ed25519.PrivateKey) (string, error) {
	rec := wire.Record{Type: revocationType}
	rec.Add("organization", "%s", r.Organization)
	rec.Add("member", "%s", r.Member)
	rec.Add("device", "%s", r.Device)
	rec.Add("issued", "%s", wire.FormatTime(r.Issued))
	rec.Add("by", "%s", r.By)
	owner := orgName + "/directory"
	if r.By == "member" {
		owner = MemberKeyName(r.Member)
	}
	return wire.SignNote(rec, noteKey(owner, key))
}

// ReadRevocation reads a revocation's form only, to learn whose record to check it
// with: nothing of it may be believed before VerifyRevocation.
func ReadRevocation(note string) (*Revocation, error) {
	r, _, err := readRevocation(note)
	return r, err
}

func readRevocation(note string) (*Revocation, string, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, "", refuse("revocation: %v", err)
	}
	f := wire.Read(text, revocationType)
	r := &Revocation{Organization: f.Hash("organization"), Member: f.Hash("member")}
	r.Device = readDevice(f, "device")
	r.Issued = f.Time("issued")
	r.By = f.One("by")
	if err := f.Done(); err != nil {
		return nil, "", refuse("revocation: %v", err)
	}
	return r, text, nil
}

// VerifyRevocation checks a revocation: signed by the organization's directory
// key, or, when member is given, by that member's key. A revocation may arrive after a
// rotation that it came before. So an older key of the member counts for the devices that its
// rotations name, and an older directory key, when member is given, for those that the
// member's record names as revoked: who has stolen an old key revokes nobody with it.
func VerifyRevocation(note string, o *Organization, member *Member) (*Revocation, error) {
	r, text, err := readRevocation(note)
	if err != nil {
		return nil, err
	}
	if r.Organization != o.ID {
		return nil, refuse("a revocation of another organization")
	}
	var key wire.NoteKey
	switch {
	case r.By == "organization":
		key = o.revocationKey(note, text, r, member)
	case r.By == "member" && member != nil && member.ID == r.Member:
		key = member.revocationKey(note, text, r.Device)
	default:
		return nil, refuse("a revocation by %.20q that cannot be checked", r.By)
	}
	if err := signed(note, text, key); err != nil {
		return nil, refuse("revocation: %v", err)
	}
	return r, nil
}

// revocationKey is which of the organization's directory keys a revocation has to be signed
// by: that of now, or an older one when the member's record, which the one of now has signed,
// names the device as revoked.
func (o *Organization) revocationKey(note, text string, r *Revocation, member *Member) wire.NoteKey {
	if member == nil || member.ID != r.Member || !slices.Contains(member.Revoked, r.Device) {
		return o.DirectoryKey()
	}
	for _, k := range o.directoryKeys() {
		if signed(note, text, k) == nil {
			return k
		}
	}
	return o.DirectoryKey()
}
