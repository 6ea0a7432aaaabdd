package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/mr-tron/base58"
)

// ErrMalformed is wrapped by every parse error of this package.
var ErrMalformed = errors.New("wire: malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// base32 in lower case without padding: what identifiers look like in text
// (docs/protocol.md 1.1).
var text32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// OrganizationID is the SHA-256 of the text of an organization's genesis manifest.
type OrganizationID [32]byte

// MemberID is the SHA-256 of the text of a member's genesis record. It survives
// key resets and renames.
type MemberID [32]byte

// RoomID is 32 random bytes.
type RoomID [32]byte

// EnvelopeID is the hash of an envelope's immutable part (docs/protocol.md 3.2).
type EnvelopeID [32]byte

// DeviceID is the raw Ed25519 public key of a device; its text is the libp2p
// peer ID of that key.
type DeviceID [32]byte

func (id OrganizationID) String() string { return text32.EncodeToString(id[:]) }
func (id MemberID) String() string       { return text32.EncodeToString(id[:]) }
func (id RoomID) String() string         { return text32.EncodeToString(id[:]) }
func (id EnvelopeID) String() string     { return hex.EncodeToString(id[:]) }

// String returns the libp2p peer ID: base58btc of the identity multihash of the
// protobuf-encoded key (libp2p peer-ids specification).
func (id DeviceID) String() string {
	return base58.Encode(append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, id[:]...))
}

// PublicKey returns the key that the ID is.
func (id DeviceID) PublicKey() ed25519.PublicKey { return ed25519.PublicKey(id[:]) }

// IsZero reports whether the ID is unset.
func (id OrganizationID) IsZero() bool { return id == OrganizationID{} }

// IsZero reports whether the ID is unset.
func (id MemberID) IsZero() bool { return id == MemberID{} }

// IsZero reports whether the ID is unset.
func (id DeviceID) IsZero() bool { return id == DeviceID{} }

// IsZero reports whether the ID is unset.
func (id RoomID) IsZero() bool { return id == RoomID{} }

// ParseOrganizationID reads the text form: 52 lower-case base32 characters.
func ParseOrganizationID(s string) (OrganizationID, error) { b, err := parse32(s); return b, err }

// ParseMemberID reads the text form: 52 lower-case base32 characters.
func ParseMemberID(s string) (MemberID, error) { b, err := parse32(s); return b, err }

// ParseRoomID reads the text form: 52 lower-case base32 characters.
func ParseRoomID(s string) (RoomID, error) { b, err := parse32(s); return b, err }

func parse32(s string) (out [32]byte, err error) {
	if len(s) != 52 {
		return out, malformed("an identifier of %d characters, not 52", len(s))
	}
	b, err := text32.DecodeString(s)
	if err != nil || len(b) != 32 || text32.EncodeToString(b) != s {
		return out, malformed("an identifier that is not canonical base32")
	}
	return [32]byte(b), nil
}

// ParseDeviceID reads the peer ID of an Ed25519 key; other key types are refused.
func ParseDeviceID(s string) (id DeviceID, err error) {
	if len(s) > 64 {
		return id, malformed("a device ID of %d characters", len(s))
	}
	b, err := base58.Decode(s)
	if err != nil || len(b) != 38 || string(b[:6]) != "\x00\x24\x08\x01\x12\x20" {
		return id, malformed("a device ID that is not the peer ID of an Ed25519 key")
	}
	copy(id[:], b[6:])
	if id.String() != s {
		return id, malformed("a device ID that is not canonical base58")
	}
	return id, nil
}

// Bytes32 copies b into an array, or fails when its length is another.
func Bytes32(b []byte) (out [32]byte, err error) {
	if len(b) != 32 {
		return out, malformed("%d bytes where 32 are due", len(b))
	}
	return [32]byte(b), nil
}

// GroupID returns the MLS group_id of a room's generation: room ID ‖ uint32.
func GroupID(room RoomID, generation uint32) []byte {
	return binary.BigEndian.AppendUint32(room[:], generation)
}

// ParseGroupID is the inverse of GroupID.
func ParseGroupID(b []byte) (room RoomID, generation uint32, err error) {
	if len(b) != 36 {
		return room, 0, malformed("a group ID of %d bytes, not 36", len(b))
	}
	return RoomID(b[:32]), binary.BigEndian.Uint32(b[32:]), nil
}

// TextHash is the hash by which a note's text is named (docs/protocol.md 2.1).
func TextHash(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// MemberURI is how content names a member: mimi://<organization>/u/<member>.
func MemberURI(o OrganizationID, m MemberID) string {
	return "mimi://" + o.String() + "/u/" + m.String()
}

// RoomURI is how content names a room: mimi://<organization of the hub>/r/<room>.
func RoomURI(o OrganizationID, r RoomID) string { return "mimi://" + o.String() + "/r/" + r.String() }

// ParseMemberURI is the inverse of MemberURI.
func ParseMemberURI(s string) (o OrganizationID, m MemberID, err error) {
	rest, ok := strings.CutPrefix(s, "mimi://")
	host, id, found := strings.Cut(rest, "/u/")
	if !ok || !found {
		return o, m, malformed("a member URI that is not mimi://<organization>/u/<member>")
	}
	if o, err = ParseOrganizationID(host); err != nil {
		return o, m, err
	}
	m, err = ParseMemberID(id)
	return o, m, err
}
