package identity

import (
	"crypto/ed25519"
	"slices"

	"github.com/entente-im/entente/wire"
)

// A member who has lost all devices has lost the member key with them. The organization puts
// a new key in its place, which nobody's old key has signed: a reset. Everybody who deals with
// the member is told who has done that, and who had verified the member has to do so again
// (docs/protocol.md 7.14).

const resetType = "entente.im/member-reset/v1"

// SignReset is the half of a reset that the member's new device signs, with the new key, for
// the member as the directory has it now: nobody can put in a key that somebody else has.
func SignReset(m *Member, next ed25519.PrivateKey, r Rotation) (string, error) {
	r.Organization, r.Member, r.Number, r.Previous, r.Key = m.Organization.ID, m.ID, uint64(len(m.Rotations))+1, m.Key, public(next)
	r.Without, r.Devices = m.Uncovered(), nil
	return wire.SignNote(r.record(resetType), noteKey(MemberKeyName(m.ID), next))
}

// CountersignReset is the organization's half. It is refused unless the first half stands, is
// for the member as it is now, and the member has no device that could speak for itself.
func CountersignReset(note string, m *Member, directory ed25519.PrivateKey) (string, error) {
	r, text, err := readRotation(note, m.Organization.ID, m.ID, m.Key, uint64(len(m.Rotations))+1)
	if err != nil {
		return "", err
	}
	byNew := wire.NoteKey{Owner: MemberKeyName(m.ID), Public: r.Key}
	switch {
	case !r.Reset:
		return "", refuse("a member key that is no reset")
	case len(m.Devices) > 0:
		return "", refuse("a reset of a member who has devices: they sign a new key")
	case slices.ContainsFunc(r.Without, func(d wire.DeviceID) bool { return !slices.Contains(m.Revoked, d) }):
		return "", refuse("a reset without a device that is not revoked")
	}
	if err := signed(note, text, byNew); err != nil {
		return "", refuse("reset: %v", err)
	}
	key := m.Organization.DirectoryKey()
	key.Private = directory
	return wire.AddSignature(note, key, byNew)
}

// signedReset checks the signatures of a reset: the new key's, and that of a directory key of
// the organization, of now or before.
func (o *Organization) signedReset(r *Rotation, text string) error {
	if err := signed(r.Note, text, wire.NoteKey{Owner: MemberKeyName(r.Member), Public: r.Key}); err != nil {
		return refuse("reset: %v", err)
	}
	for _, k := range o.directoryKeys() {
		if signed(r.Note, text, k) == nil {
			return nil
		}
	}
	return refuse("a reset that the organization has not signed")
}

// ResetSince reports whether the organization has put a key in the place of the member's since
// it was this one, and so whether nothing says that the member is the same person.
func (m *Member) ResetSince(key ed25519.PublicKey) bool {
	i := slices.IndexFunc(m.Rotations, func(r *Rotation) bool { return r.Previous.Equal(key) })
	return i >= 0 && slices.ContainsFunc(m.Rotations[i:], func(r *Rotation) bool { return r.Reset })
}
