package identity

import (
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
)

const partnerRevocationType = "entente.im/partner-revocation/v1"

// PartnerReasons are why an organization takes a partner's devices out of its rooms.
var PartnerReasons = []string{"suspended", "ended", "expired"}

// PartnerRevocation is an organization's word that the devices of a partner are to leave a
// room that it orders: docs/protocol.md 2.8. It is about one room in one epoch, so that it is
// no good any more once the room has moved on: who resumes an agreement has nothing to
// take back. Signed by "<name>/node" of the organization.
type PartnerRevocation struct {
	Organization wire.OrganizationID // that orders the room
	Partner      wire.OrganizationID // whose devices are to go
	Agreement    [32]byte            // of the two: SHA-256 of its text
	Room         wire.RoomID
	Generation   uint32
	Epoch        uint64
	Reason       string // one of PartnerReasons
	Issued       time.Time
}

func (r PartnerRevocation) record() wire.Record {
	rec := wire.Record{Type: partnerRevocationType}
	rec.Add("organization", "%s", r.Organization)
	rec.Add("partner", "%s", r.Partner)
	rec.Add("agreement", "%s", wire.FormatHash(r.Agreement))
	rec.Add("room", "%s", r.Room)
	rec.Add("generation", "%d", r.Generation)
	rec.Add("epoch", "%d", r.Epoch)
	rec.Add("reason", "%s", r.Reason)
	rec.Add("issued", "%s", wire.FormatTime(r.Issued))
	return rec
}

// Sign signs the revocation with the organization's node key. One that would not stand is
// not signed.
func (r PartnerRevocation) Sign(key wire.NoteKey) (string, error) {
	rec := r.record()
	text, err := rec.Text()
	if err == nil {
		_, err = parsePartnerRevocation(text)
	}
	if err != nil {
		return "", err
	}
	return wire.SignNote(rec, key)
}

// VerifyPartnerRevocation checks form and signature of a partner's revocation by the
// organization that orders a room. Whether it is about the room, epoch and leaf at hand the
// caller compares (Covers).
func VerifyPartnerRevocation(note string, hub *Organization) (*PartnerRevocation, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, refuse("partner revocation: %v", err)
	}
	r, err := parsePartnerRevocation(text)
	if err != nil {
		return nil, err
	}
	if r.Organization != hub.ID {
		return nil, refuse("partner revocation: by another organization than the one that orders the room")
	}
	if err := signed(note, text, hub.NodeKey()); err != nil {
		return nil, refuse("partner revocation: %v", err)
	}
	return r, nil
}

// ReadPartnerRevocation reads a revocation's form only, to show what was verified when it
// came.
func ReadPartnerRevocation(note string) (*PartnerRevocation, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, refuse("partner revocation: %v", err)
	}
	return parsePartnerRevocation(text)
}

// Covers reports whether the revocation is about devices of an organization in a room, its
// generation and its epoch.
func (r *PartnerRevocation) Covers(of wire.OrganizationID, room wire.RoomID, generation uint32, epoch uint64) bool {
	return r.Partner == of && r.Room == room && r.Generation == generation && r.Epoch == epoch
}

func parsePartnerRevocation(text string) (*PartnerRevocation, error) {
	f := wire.Read(text, partnerRevocationType)
	r := &PartnerRevocation{Organization: f.Hash("organization"), Partner: f.Hash("partner"), Agreement: f.Hash("agreement"), Room: f.Hash("room")}
	generation := f.Uint("generation")
	if r.Generation = uint32(generation); uint64(r.Generation) != generation {
		f.Fail("a generation of more than 32 bits")
	}
	r.Epoch = f.Uint("epoch")
	if r.Reason = f.One("reason"); !slices.Contains(PartnerReasons, r.Reason) {
		f.Fail("a reason that is none")
	}
	r.Issued = f.Time("issued")
	if r.Organization == r.Partner {
		f.Fail("about its own organization")
	}
	if err := f.Done(); err != nil {
		return nil, refuse("partner revocation: %v", err)
	}
	return r, nil
}
