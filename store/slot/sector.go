package slot

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

const (
	sectorSize = 512 // what a disk writes whole
	slotSize   = 2 * sectorSize
	covered    = 64 // bytes before the checksum
	magic      = "ENTSLOT1"
)

const (
	stateKey      = 1
	stateEmpty    = 2
	stateScrubbed = 3 // overwritten; the other sector counts
)

// sector is one copy of a slot.
type sector struct {
	state byte
	seq   uint64
	label uint64
	key   [32]byte
}

func offset(i, at int) int64 { return int64(i)*slotSize + int64(at)*sectorSize }

func encode(i int, v sector) []byte {
	b := make([]byte, sectorSize)
	copy(b, magic)
	b[8] = v.state
	binary.BigEndian.PutUint64(b[16:], v.seq)
	binary.BigEndian.PutUint64(b[24:], v.label)
	copy(b[32:], v.key[:])
	sum := checksum(i, b)
	copy(b[covered:], sum[:])
	return b
}

func checksum(i int, b []byte) [32]byte {
	var in [8 + covered]byte
	binary.BigEndian.PutUint64(in[:], uint64(i))
	copy(in[8:], b[:covered])
	defer clear(in[:])
	return sha256.Sum256(in[:])
}

// decode reads a sector; it is strict: whatever decodes encodes to the same bytes.
func decode(i int, b []byte) (sector, bool) {
	if len(b) != sectorSize || string(b[:8]) != magic {
		return sector{}, false
	}
	sum := checksum(i, b)
	if subtle.ConstantTimeCompare(sum[:], b[covered:covered+32]) != 1 {
		return sector{}, false
	}
	v := sector{state: b[8], seq: binary.BigEndian.Uint64(b[16:]), label: binary.BigEndian.Uint64(b[24:])}
	copy(v.key[:], b[32:])
	if v.state < stateKey || v.state > stateScrubbed || v.state != stateKey && (v.key != [32]byte{} || v.label != 0) {
		return sector{}, false
	}
	again := encode(i, v)
	defer clear(again)
	return v, subtle.ConstantTimeCompare(again, b) == 1
}
