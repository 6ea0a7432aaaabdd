package node

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/entente-im/entente/wire"
)

// handles makes and resolves return handles (docs/protocol.md 3.3): one AES
// block of values that never repeat, so no table is kept and nobody else can
// read it.
type handles struct{ block cipher.Block }

func newHandles(key [16]byte) (handles, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return handles{}, fmt.Errorf("node: return handles: %w", err)
	}
	return handles{block}, nil
}

// seal makes the handle of a device's submission. The device is named by a
// number that the node gave it once.
func (h handles) seal(device uint32, counter uint64) []byte {
	b := make([]byte, 0, wire.ReturnHandleLen)
	b = binary.BigEndian.AppendUint32(b, device)
	b = binary.BigEndian.AppendUint64(b, counter)
	b = append(b, 0, 0, 0, 0)
	h.block.Encrypt(b, b)
	return b
}

// open resolves a handle of ours; ok is false for all others.
func (h handles) open(handle []byte) (device uint32, counter uint64, ok bool) {
	if len(handle) != wire.ReturnHandleLen {
		return 0, 0, false
	}
	var b [wire.ReturnHandleLen]byte
	h.block.Decrypt(b[:], handle)
	if subtle.ConstantTimeCompare(b[12:], make([]byte, 4)) != 1 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(b[:4]), binary.BigEndian.Uint64(b[4:12]), true
}
