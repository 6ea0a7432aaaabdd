package identity

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
)

const rotationType = "entente.im/member-key/v1"

// MaxRotations bounds the keys that a member has had: every chain carries them all.
const MaxRotations = 64

// Rotation replaces a member's key, because a device that knew the old one is out. The old
// key signs, so that the member is the same one, and the new one, so that somebody has it.
type Rotation struct {
	Organization  wire.OrganizationID
	Member        wire.MemberID
	Number        uint64 // from 1
	Previous, Key ed25519.PublicKey
	Issued        time.Time
	// Without names the devices that are out: what the old keys say of others from then on
	// counts no more.
	Without []wire.DeviceID
	// Devices are those that stay, whose certificates stand though an old key has signed
	// them.
	Devices []DeviceEntry
	// Reset: the organization has put the new key in the old one's place (reset.go).
	Reset bool
	Note  string
}

// SignRotation signs a rotation from an old to a new member key.
func SignRotation(r Rotation, old, next ed25519.PrivateKey) (string, error) {
	r.Previous, r.Key = public(old), public(next)
	owner := MemberKeyName(r.Member)
	return wire.SignNote(r.record(rotationType), noteKey(owner, old), noteKey(owner, next))
}

func (r *Rotation) record(typ string) wire.Record {
	rec := wire.Record{Type: typ}
	rec.Add("organization", "%s", r.Organization)
	rec.Add("member", "%s", r.Member)
	rec.Add("number", "%d", r.Number)
	rec.Add("previous", "%s", wire.FormatKey(r.Previous))
	rec.Add("key", "%s", wire.FormatKey(r.Key))
	rec.Add("issued", "%s", wire.FormatTime(r.Issued))
	for _, d := range r.Without {
		rec.Add("without", "%s", d)
	}
	for _, d := range r.Devices {
		rec.Add("device", "%s %s", d.Device, wire.FormatHash(d.Certificate))
	}
	return rec
}

// verifyRotation checks the rotation that follows key, the number-th of a member.
func verifyRotation(note string, org *Organization, member wire.MemberID, key ed25519.PublicKey, number uint64) (*Rotation, error) {
	r, text, err := readRotation(note, org.ID, member, key, number)
	if err != nil {
		return nil, err
	}
	if r.Reset {
		return r, org.signedReset(r, text)
	}
	for _, k := range []ed25519.PublicKey{r.Previous, r.Key} {
		if err := signed(note, text, wire.NoteKey{Owner: MemberKeyName(member), Public: k}); err != nil {
			return nil, refuse("member key: %v", err)
		}
	}
	return r, nil
}

// readRotation reads a rotation that follows key; whose signatures it has is not checked yet.
func readRotation(note string, org wire.OrganizationID, member wire.MemberID, key ed25519.PublicKey, number uint64) (*Rotation, string, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, "", refuse("member key: %v", err)
	}
	typ, _, _ := strings.Cut(text, "\n")
	r := &Rotation{Note: note, Reset: typ == resetType}
	if !r.Reset {
		typ = rotationType
	}
	f := wire.Read(text, typ)
	r.Organization, r.Member, r.Number = f.Hash("organization"), f.Hash("member"), f.Uint("number")
	r.Previous, r.Key = f.Key("previous"), f.Key("key")
	r.Issued = f.Time("issued")
	seen := make(map[wire.DeviceID]bool)
	for _, v := range f.All("without", wire.MaxDevicesPerMember) {
		id, err := wire.ParseDeviceID(v)
		if err != nil || seen[id] {
			f.Fail("without %.80q", v)
		}
		seen[id] = true
		r.Without = append(r.Without, id)
	}
	for _, v := range f.All("device", wire.MaxDevicesPerMember) {
		d := parseDeviceEntry(f, v)
		if seen[d.Device] {
			f.Fail("a device twice, or one that is out")
		}
		seen[d.Device] = true
		r.Devices = append(r.Devices, d)
	}
	if err := f.Done(); err != nil {
		return nil, "", refuse("member key: %v", err)
	}
	if r.Organization != org || r.Member != member || r.Number != number || !r.Previous.Equal(key) || r.Key.Equal(key) {
		return nil, "", refuse("a member key that does not follow the one before")
	}
	if r.Reset && len(r.Devices) > 0 {
		return nil, "", refuse("a reset that takes devices over")
	}
	return r, text, nil
}

// Rotated verifies a rotation that is to follow the member's key of now.
func (m *Member) Rotated(note string) (*Rotation, error) {
	return verifyRotation(note, m.Organization, m.ID, m.Key, uint64(len(m.Rotations))+1)
}

// verifyRotations walks a member's keys from the one of its genesis record.
func verifyRotations(notes []string, o *Organization, g *Genesis, id wire.MemberID) ([]*Rotation, error) {
	if len(notes) > MaxRotations {
		return nil, refuse("%d member keys: at most %d", len(notes), MaxRotations)
	}
	var out []*Rotation
	key := g.Key
	for i, n := range notes {
		r, err := verifyRotation(n, o, id, key, uint64(i)+1)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(x *Rotation) bool { return x.Previous.Equal(r.Key) }) {
			return nil, refuse("a member key that was one before")
		}
		out, key = append(out, r), r.Key
	}
	return out, nil
}

// verifyCertificate checks a device certificate against a member's keys: by the key of now,
// or by an older one when every rotation since has taken it over.
func (m *Member) verifyCertificate(note string, e DeviceEntry) (*DeviceCertificate, error) {
	key := m.Key
	for i := len(m.Rotations); ; i-- {
		c, err := VerifyDeviceCertificate(note, m.ID, key)
		if err == nil {
			return c, nil
		}
		if i == 0 || !slices.Contains(m.Rotations[i-1].Devices, e) {
			return nil, err
		}
		key = m.Rotations[i-1].Previous
	}
}

// Without reports whether one of the member's rotations says that a device is out.
func (m *Member) Without(d wire.DeviceID) bool {
	return slices.ContainsFunc(m.Rotations, func(r *Rotation) bool { return slices.Contains(r.Without, d) })
}

// Uncovered lists the revoked devices that still know the member's key, which has to be
// rotated: the last ones, as many as one rotation names.
func (m *Member) Uncovered() (out []wire.DeviceID) {
	for _, d := range m.Revoked {
		if !m.Without(d) {
			out = append(out, d)
		}
	}
	return out[max(0, len(out)-wire.MaxDevicesPerMember):]
}

// follows reports whether a member's keys continue those of an older state.
func (m *Member) follows(known *Member) bool {
	if len(m.Rotations) < len(known.Rotations) {
		return false
	}
	for i, r := range known.Rotations {
		if !m.Rotations[i].Key.Equal(r.Key) {
			return false
		}
	}
	return true
}

// revocationKey is which of the member's keys a revocation has to be signed by.
func (m *Member) revocationKey(note, text string, device wire.DeviceID) wire.NoteKey {
	now := wire.NoteKey{Owner: MemberKeyName(m.ID), Public: m.Key}
	if !m.Without(device) || signed(note, text, now) == nil {
		return now
	}
	for _, r := range m.Rotations {
		k := wire.NoteKey{Owner: now.Owner, Public: r.Previous}
		if signed(note, text, k) == nil {
			return k
		}
	}
	return now
}
