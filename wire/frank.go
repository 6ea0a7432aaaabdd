package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// FrankTagVersion is the first byte of a message's authenticated data (docs/protocol.md
// 7.17); a tag is that and 32 bytes.
const (
	FrankTagVersion = 1
	FrankTagLen     = 1 + sha256.Size
)

// FrankTag returns the tag among a message's authenticated data; nil when there is none.
func FrankTag(aad []byte) []byte {
	if len(aad) == FrankTagLen && aad[0] == FrankTagVersion {
		return aad
	}
	return nil
}

// Franked is what a hub vouches for: that what a tag is of went through a room, where and
// when.
type Franked struct {
	Room       RoomID
	Generation uint32
	Epoch      uint64
	Seq        uint64
	AcceptedMs int64 // Unix, ms
	// From and Device are who has handed it in, as far as the hub can tell: a partner's
	// devices it does not tell apart, and Device is zero. A tag is in clear, and another
	// member could send it once more for a frank of another time.
	From   OrganizationID
	Device DeviceID
	Tag    []byte
}

// Frank is the hub's HMAC-SHA-256 of it, 32 bytes, under a key that nobody else has: only the hub can
// say later whether it is its own (draft-ietf-mimi-protocol, franking).
func (f Franked) Frank(key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("entente.im/frank/v1\n"))
	b := append(make([]byte, 0, 128+FrankTagLen), f.Room[:]...)
	b = binary.BigEndian.AppendUint32(b, f.Generation)
	b = binary.BigEndian.AppendUint64(b, f.Epoch)
	b = binary.BigEndian.AppendUint64(b, f.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(f.AcceptedMs))
	b = append(append(b, f.From[:]...), f.Device[:]...)
	h.Write(append(b, f.Tag...))
	return h.Sum(nil)
}
