package device

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

const (
	roomCodeLabel = "entente.im/room-code/v1"
	// roomCodeBytes make six groups of five digits.
	roomCodeBytes = 30
)

// RoomCode is what the people in a room compare: equal for all in one epoch.
type RoomCode struct {
	Digits     string `json:"digits"` // 30 in groups of five
	Generation uint32 `json:"generation"`
	Epoch      uint64 `json:"epoch"`
}

// RoomCode computes a room's code from the epoch authenticator (RFC 9420 §8.7), which all
// who have the same keys and the same transcript of the room share; the digits do not give
// it away (docs/protocol.md 7.16).
func (d *Device) RoomCode(id wire.RoomID) (RoomCode, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil {
		return RoomCode{}, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	}
	c := RoomCode{Generation: r.Generation, Epoch: r.state.Epoch()}
	info := append([]byte(roomCodeLabel+"\n"), r.ID[:]...)
	info = binary.BigEndian.AppendUint32(info, c.Generation)
	info = binary.BigEndian.AppendUint64(info, c.Epoch)
	b, err := hkdf.Key(sha256.New, r.state.EpochAuthenticator(), nil, string(info), roomCodeBytes)
	if err != nil {
		return RoomCode{}, fmt.Errorf("device: a room's code: %w", err)
	}
	c.Digits = identity.GroupDigits(identity.FiveDigits(b))
	return c, nil
}
