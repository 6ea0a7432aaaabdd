package identity

import (
	"crypto/ed25519"
	"time"

	"github.com/entente-im/entente/wire"
)

const complaintType = "entente.im/complaint/v1"

// Reason is why a device cannot go on from a Commit that its room's hub has taken.
type Reason string

// The reasons that a complaint may give (docs/protocol.md 7.10). What a hub can see it
// has refused; these are what only members see (RFC 9420 §16.12).
const (
	ReasonCommit   Reason = "commit"       // a tag or a path secret does not fit
	ReasonExternal Reason = "external-pub" // the GroupInfo names another external key than the group's
	ReasonPolicy   Reason = "policy"       // the room's rules do not let the committer do this
)

// Complaint is a device's signed word that it cannot apply a Commit.
type Complaint struct {
	Room         wire.RoomID
	Generation   uint32
	Epoch        uint64   // that the Commit ends
	Commit       [32]byte // SHA-256 of the Commit, an MLSMessage
	Accused      Author   // who made the Commit, or signed the GroupInfo
	Reason       Reason
	Organization wire.OrganizationID // who complains
	Member       wire.MemberID
	Device       wire.DeviceID
	Issued       time.Time
}

// Author is a device of a member in a room.
type Author struct {
	Organization wire.OrganizationID
	Member       wire.MemberID
	Device       wire.DeviceID
}

// By is who complains.
func (c *Complaint) By() Author { return Author{c.Organization, c.Member, c.Device} }

// DeviceKeyName is the name of a device's key in notes.
func DeviceKeyName(d wire.DeviceID) string { return d.String() + "/device" }

// SignComplaint signs a complaint with the key of the device that complains.
func SignComplaint(c Complaint, key ed25519.PrivateKey) (string, error) {
	r := wire.Record{Type: complaintType}
	r.Add("room", "%s", c.Room)
	r.Add("generation", "%d", c.Generation)
	r.Add("epoch", "%d", c.Epoch)
	r.Add("commit", "%s", wire.FormatHash(c.Commit))
	r.Add("accused-organization", "%s", c.Accused.Organization)
	r.Add("accused-member", "%s", c.Accused.Member)
	r.Add("accused-device", "%s", c.Accused.Device)
	r.Add("reason", "%s", c.Reason)
	r.Add("organization", "%s", c.Organization)
	r.Add("member", "%s", c.Member)
	r.Add("device", "%s", c.Device)
	r.Add("issued", "%s", wire.FormatTime(c.Issued))
	return wire.SignNote(r, noteKey(DeviceKeyName(c.Device), key))
}

// VerifyComplaint checks form and signature of a complaint. The device ID is the key, so
// no certificate is needed for that; whether the device is the member's, and in the room,
// says the room's leaf, which the caller compares.
func VerifyComplaint(note string) (*Complaint, error) {
	if len(note) > wire.MaxComplaint {
		return nil, refuse("a complaint of %d bytes", len(note))
	}
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, refuse("complaint: %v", err)
	}
	c, err := parseComplaint(text)
	if err != nil {
		return nil, err
	}
	key := wire.NoteKey{Owner: DeviceKeyName(c.Device), Public: c.Device[:]}
	if err := signed(note, text, key); err != nil {
		return nil, refuse("complaint: %v", err)
	}
	return c, nil
}

func parseComplaint(text string) (*Complaint, error) {
	f := wire.Read(text, complaintType)
	c := &Complaint{Room: f.Hash("room")}
	generation := f.Uint("generation")
	c.Generation, c.Epoch, c.Commit = uint32(generation), f.Uint("epoch"), f.Hash("commit")
	c.Accused = Author{f.Hash("accused-organization"), f.Hash("accused-member"), readDevice(f, "accused-device")}
	c.Reason = Reason(f.One("reason"))
	c.Organization, c.Member, c.Device = f.Hash("organization"), f.Hash("member"), readDevice(f, "device")
	c.Issued = f.Time("issued")
	if uint64(c.Generation) != generation {
		f.Fail("a generation of more than 32 bits")
	}
	if c.Reason != ReasonCommit && c.Reason != ReasonExternal && c.Reason != ReasonPolicy {
		f.Fail("a reason that is none: %.20q", string(c.Reason))
	}
	if err := f.Done(); err != nil {
		return nil, refuse("complaint: %v", err)
	}
	if c.Accused.Organization == c.Organization && c.Accused.Member == c.Member {
		return nil, refuse("a complaint about the member's own device")
	}
	return c, nil
}
