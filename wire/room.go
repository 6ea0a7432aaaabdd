package wire

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Room is the entente_room GroupContext extension: what every member and the hub
// agree on about a room (docs/protocol.md 1.6). Deterministic CBOR (RFC 8949
// §4.2.1), preceded by a version byte.
type Room struct {
	ID              []byte       `cbor:"1,keyasint"` // 32 bytes
	Generation      uint32       `cbor:"2,keyasint"`
	Hub             []byte       `cbor:"3,keyasint"` // organization ID
	HubNode         []byte       `cbor:"4,keyasint"` // the hub node's Ed25519 key
	MinVersion      uint32       `cbor:"5,keyasint"`
	SuiteFloor      uint32       `cbor:"6,keyasint"`
	DeadlineMin     int64        `cbor:"7,keyasint"` // seconds
	DeadlineMax     int64        `cbor:"8,keyasint"`
	DeadlineDefault int64        `cbor:"9,keyasint"`
	Retention       int64        `cbor:"10,keyasint"` // seconds, ceiling
	Organizations   []RoomMember `cbor:"11,keyasint"` // sorted by ID
	Transit         string       `cbor:"12,keyasint"` // none, named, any
	Roles           []byte       `cbor:"13,keyasint"` // SHA-256 of the roles, empty before roles exist
	Resync          uint32       `cbor:"14,keyasint"` // 1: external Commit, own leaf only
	Franking        []byte       `cbor:"15,keyasint"` // reserved for a hub's key that receivers verify franks by; always empty (docs/design.md)
	Ended           bool         `cbor:"16,keyasint,omitempty"`
}

// RoomMember is an organization of a room. Agreement is reserved for the agreement that lets
// it in: devices leave it empty, and verify agreements themselves (docs/design.md).
type RoomMember struct {
	Organization []byte `cbor:"1,keyasint"`
	Agreement    []byte `cbor:"2,keyasint"` // SHA-256 of an agreement's text; always empty
}

const (
	roomVersion = 1
	maxRoomExt  = 256 << 10
	maxRoomOrgs = 1_000
)

// ResyncOwnLeaf is the resync rule of rooms of version 1.
const ResyncOwnLeaf = 1

var (
	roomEncoder = must(cbor.CoreDetEncOptions().EncMode())
	roomDecoder = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4, MaxArrayElements: maxRoomOrgs + 16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Encode returns the extension's bytes.
func (r Room) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	b, err := roomEncoder.Marshal(r)
	return append([]byte{roomVersion}, b...), err
}

// ParseRoom is the inverse of Encode and accepts nothing else.
func ParseRoom(b []byte) (Room, error) {
	var r Room
	if len(b) < 2 || len(b) > maxRoomExt || b[0] != roomVersion {
		return r, malformed("a room extension of %d bytes or another version", len(b))
	}
	if err := roomDecoder.Unmarshal(b[1:], &r); err != nil {
		return r, malformed("a room extension that is not the CBOR expected")
	}
	again, err := r.Encode()
	if err != nil {
		return r, err
	}
	if !bytes.Equal(again, b) {
		return r, malformed("a room extension that is not deterministic CBOR")
	}
	return r, nil
}

func (r Room) check() error {
	switch {
	case len(r.ID) != 32 || len(r.Hub) != 32 || len(r.HubNode) != 32:
		return malformed("a room extension with an ID that is not 32 bytes")
	case r.MinVersion == 0 || r.MinVersion > ProtocolVersion:
		return malformed("a room of protocol version %d", r.MinVersion)
	case r.DeadlineMin < 1 || r.DeadlineMin > r.DeadlineDefault || r.DeadlineDefault > r.DeadlineMax || r.DeadlineMax > int64(RetentionCeiling.Seconds()):
		return malformed("a room with deadlines %d, %d, %d", r.DeadlineMin, r.DeadlineDefault, r.DeadlineMax)
	case r.Retention < 0 || r.Retention > int64(RetentionCeiling.Seconds()):
		return malformed("a room with a retention of %d s", r.Retention)
	case r.Transit != "none" && r.Transit != "named" && r.Transit != "any":
		return malformed("a room with transit %.20q", r.Transit)
	case r.Resync != ResyncOwnLeaf || !hashOrEmpty(r.Roles) || !hashOrEmpty(r.Franking):
		return malformed("a room with resync rule %d or a digest that is none", r.Resync)
	case len(r.Organizations) == 0 || len(r.Organizations) > maxRoomOrgs:
		return malformed("a room of %d organizations", len(r.Organizations))
	}
	return r.checkOrganizations()
}

func (r Room) checkOrganizations() error {
	hub := false
	for i, o := range r.Organizations {
		if len(o.Organization) != 32 || !hashOrEmpty(o.Agreement) {
			return malformed("organization %d of a room", i)
		}
		if i > 0 && bytes.Compare(r.Organizations[i-1].Organization, o.Organization) >= 0 {
			return malformed("organizations of a room out of order")
		}
		hub = hub || bytes.Equal(o.Organization, r.Hub)
	}
	if !hub {
		return fmt.Errorf("%w: a room whose hub is not among its organizations", ErrMalformed)
	}
	return nil
}

func hashOrEmpty(b []byte) bool { return len(b) == 0 || len(b) == 32 }
