package device

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/entente-im/entente/wire"
	"golang.org/x/crypto/chacha20poly1305"
)

// A file is encrypted in chunks (docs/protocol.md 7.9): the STREAM construction of
// "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (Hoang,
// Reyhanitabar, Rogaway, Vizár 2015) over ChaCha20-Poly1305 (RFC 8439), with the chunk's
// number and a last flag as nonce. A chunk that is left out, moved, added or of another
// file opens nowhere. The key is random and for one content: nonces may be counted.
const plainChunk = wire.FileChunk - chacha20poly1305.Overhead

var errChunk = errors.New("device: a part of the file is not what was sent")

// padded is the length that a content of n bytes is filled up to with zeros, at least
// 4 KiB: Padmé ("Reducing Metadata Leakage from Encrypted Files and Communication with
// PURBs", 2019, §4), so that a length says O(log log n) bits and costs 12 % at most.
func padded(n uint64) uint64 {
	const least = 4 << 10
	if n <= least {
		return least
	}
	e := bits.Len64(n) - 1
	s := bits.Len(uint(e))
	mask := uint64(1)<<(e-s) - 1
	return (n + mask) &^ mask
}

// fileChunks is how many chunks a content of n bytes has.
func fileChunks(n uint64) uint32 { return uint32((padded(n) + plainChunk - 1) / plainChunk) }

// sealedSize is the length of its ciphertext.
func sealedSize(n uint64) uint64 {
	return padded(n) + uint64(fileChunks(n))*chacha20poly1305.Overhead
}

// chunker seals and opens the chunks of one file.
type chunker struct {
	aead cipher.AEAD
	size uint64
}

func newChunker(key [32]byte, size uint64) (*chunker, error) {
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		return nil, fmt.Errorf("device: a file's key: %w", err)
	}
	return &chunker{a, size}, nil
}

// nonce of chunk i: 7 zeros ‖ i uint32 ‖ 1 for the last, else 0.
func (c *chunker) nonce(i uint32) []byte {
	n := make([]byte, chacha20poly1305.NonceSize)
	binary.BigEndian.PutUint32(n[7:], i)
	if i == fileChunks(c.size)-1 {
		n[11] = 1
	}
	return n
}

// plainLen is the length of chunk i with its padding.
func (c *chunker) plainLen(i uint32) int {
	return int(min(padded(c.size)-uint64(i)*plainChunk, plainChunk))
}

// contentLen is how much of chunk i is content.
func (c *chunker) contentLen(i uint32) int {
	at := uint64(i) * plainChunk
	if at >= c.size {
		return 0
	}
	return int(min(c.size-at, plainChunk))
}

// seal reads the content of chunk i and seals it in buf, which is plainChunk long at
// least and as long as a sealed chunk in capacity.
func (c *chunker) seal(i uint32, content io.Reader, buf []byte) (plain int, sealed []byte, err error) {
	plain = c.contentLen(i)
	b := buf[:c.plainLen(i)]
	if _, err := io.ReadFull(content, b[:plain]); err != nil {
		return 0, nil, err
	}
	clear(b[plain:])
	return plain, c.aead.Seal(b[:0], c.nonce(i), b, nil), nil
}

// open opens chunk i in place and returns its content.
func (c *chunker) open(i uint32, sealed []byte) ([]byte, error) {
	if i >= fileChunks(c.size) || len(sealed) != c.plainLen(i)+chacha20poly1305.Overhead {
		return nil, errChunk
	}
	b, err := c.aead.Open(sealed[:0], c.nonce(i), sealed, nil)
	if err != nil {
		return nil, errChunk
	}
	for _, x := range b[c.contentLen(i):] {
		if x != 0 {
			return nil, errChunk // one content has one ciphertext
		}
	}
	return b[:c.contentLen(i)], nil
}
