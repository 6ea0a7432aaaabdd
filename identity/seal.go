package identity

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// ErrPassphrase says that something sealed does not open: the passphrase is
// wrong, or the bytes were changed. The two cannot be told apart.
var ErrPassphrase = errors.New("identity: wrong passphrase, or the file was changed")

// Layout of what is sealed: "entente-sealed-v1\n" ‖ passes uint32 ‖ memory KiB
// uint32 ‖ threads byte ‖ salt 16 ‖ nonce 24 ‖ XChaCha20-Poly1305 of the plaintext.
// The header and the label are authenticated.
const (
	sealMagic  = "entente-sealed-v1\n"
	sealHeader = len(sealMagic) + 4 + 4 + 1 + 16 + chacha20poly1305.NonceSizeX
	// MaxSealed bounds what is read.
	MaxSealed = 1 << 20
)

// Cost of Argon2id beside sealPasses and sealMemory (sealcost.go).
const (
	sealThreads   = 4
	maxSealPasses = 16
	maxSealMemory = 256 << 10 // 256 MiB
	maxSealLanes  = 16
)

// Seal encrypts plaintext under a passphrase: Argon2id and XChaCha20-Poly1305. The
// label says what it is and has to be the same when it is opened.
func Seal(passphrase, plaintext []byte, label string) ([]byte, error) {
	if len(plaintext) > MaxSealed-sealHeader-chacha20poly1305.Overhead {
		return nil, fmt.Errorf("identity: %d bytes are too many to seal", len(plaintext))
	}
	b := make([]byte, 0, sealHeader+len(plaintext)+chacha20poly1305.Overhead)
	b = append(b, sealMagic...)
	b = binary.BigEndian.AppendUint32(b, sealPasses)
	b = binary.BigEndian.AppendUint32(b, sealMemory)
	b = append(b, sealThreads)
	b = b[:sealHeader]
	if _, err := rand.Read(b[sealHeader-40:]); err != nil {
		return nil, fmt.Errorf("identity: randomness: %w", err)
	}
	key := argon2.IDKey(passphrase, b[sealHeader-40:sealHeader-24], sealPasses, sealMemory, sealThreads, chacha20poly1305.KeySize)
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(b, b[sealHeader-24:sealHeader], plaintext, associated(b[:sealHeader], label)), nil
}

// Unseal is the inverse of Seal. It answers ErrPassphrase for every reason that
// lies in passphrase or content; costs are bounded before they are paid.
func Unseal(passphrase, sealed []byte, label string) ([]byte, error) {
	passes, memory, threads, err := parseSealed(sealed)
	if err != nil {
		return nil, err
	}
	header := sealed[:sealHeader]
	key := argon2.IDKey(passphrase, header[sealHeader-40:sealHeader-24], passes, memory, threads, chacha20poly1305.KeySize)
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, header[sealHeader-24:], sealed[sealHeader:], associated(header, label))
	if err != nil {
		return nil, ErrPassphrase
	}
	return plain, nil
}

// parseSealed reads the costs; it refuses those that nobody should pay.
func parseSealed(sealed []byte) (passes, memory uint32, threads uint8, err error) {
	if len(sealed) < sealHeader+chacha20poly1305.Overhead || len(sealed) > MaxSealed || string(sealed[:len(sealMagic)]) != sealMagic {
		return 0, 0, 0, errors.New("identity: this is not a sealed file of version 1")
	}
	passes = binary.BigEndian.Uint32(sealed[len(sealMagic):])
	memory = binary.BigEndian.Uint32(sealed[len(sealMagic)+4:])
	threads = sealed[len(sealMagic)+8]
	// RFC 9106 §3.1: at least 8 KiB a lane.
	if passes == 0 || passes > maxSealPasses || threads == 0 || threads > maxSealLanes ||
		memory < 8*uint32(threads) || memory > maxSealMemory {
		return 0, 0, 0, ErrPassphrase
	}
	return passes, memory, threads, nil
}

func associated(header []byte, label string) []byte {
	return append(append([]byte(nil), header...), label...)
}
