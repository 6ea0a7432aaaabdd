package store

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sealing. Lasting records and metadata: XChaCha20-Poly1305 under one key, random
// 24-byte nonces (draft-irtf-cfrg-xchacha §3: safe to draw at random). Bodies:
// ChaCha20-Poly1305 under a random key of their own, used once, nonce zero. A body's
// key lies wrapped in its segment's slot table, 64 bytes that straddle no sector:
//
//	"EKEY" | nonce 12 | ChaCha20-Poly1305(bucket key, body key) 48
//	"ETMB" | 28 zeros | HMAC-SHA256(tombstone key, segment u32, slot u32, lsn u64)
//
// Random 12-byte nonces under a bucket key: 2^28 deposits in one bucket collide with
// probability 2^-40.
const (
	slotBytes    = 64
	sealOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	bodyOverhead = chacha20poly1305.Overhead
	slotKey      = "EKEY"
	slotTomb     = "ETMB"
)

// lasting holds the keys derived from Options.SealKey.
type lasting struct {
	aead cipher.AEAD
	tomb []byte
	mark []byte
}

func newLasting(seal [32]byte) (*lasting, error) {
	derive := func(use string) []byte {
		k, err := hkdf.Key(sha256.New, seal[:], nil, "entente store v1 "+use, 32)
		if err != nil {
			panic(err) // only for lengths that SHA-256 cannot give
		}
		return k
	}
	k := derive("records")
	defer clear(k)
	aead, err := chacha20poly1305.NewX(k)
	return &lasting{aead: aead, tomb: derive("tombstones"), mark: derive("marks")}, err
}

// seal appends nonce and ciphertext to dst.
func (l *lasting) seal(dst, plain, ad []byte) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, chacha20poly1305.NonceSizeX)...)
	rand.Read(dst[n:])
	return l.aead.Seal(dst, dst[n:n+chacha20poly1305.NonceSizeX], plain, ad)
}

func (l *lasting) open(sealed, ad []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, ErrDamaged
	}
	out, err := l.aead.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], ad)
	if err != nil {
		return nil, ErrDamaged
	}
	return out, nil
}

// What is sealed is bound to its use.
var (
	adMeta = []byte("meta")
	adKey  = []byte("key")
)

func adValue(key []byte) []byte { return append([]byte("value "), key...) }

// bodyAD binds a body to its bucket.
func bodyAD(bucket uint32) []byte {
	return binary.LittleEndian.AppendUint32([]byte("entente store v1 body"), bucket)
}

// sealDeposit seals a deposit. The caller's slices are not kept.
func (s *Store) sealDeposit(d *Deposit) (*record, error) {
	bucket := s.bucketOf(d.Deadline)
	wrap, err := s.ratchet.key(bucket)
	for errors.Is(err, errExpired) { // it ended this moment: a whole bucket ahead is the least
		bucket = s.bucketOf(d.Deadline)
		wrap, err = s.ratchet.key(bucket)
	}
	if err != nil {
		return nil, err
	}
	var meta []byte
	if len(d.Meta) > 0 {
		meta = s.lasting.seal(make([]byte, 0, len(d.Meta)+sealOverhead), d.Meta, adMeta)
	}
	r := newRecord(typeDeposit, depositFixed+len(meta)+4*len(d.Queues), len(d.Body)+bodyOverhead)
	r.bucket, r.queues, r.hasSlot = bucket, d.Queues, true
	encodeDepositHead(r.head(), bucket, meta, d.Queues)
	var key [32]byte
	defer clear(key[:])
	rand.Read(key[:])
	body, err := chacha20poly1305.New(key[:])
	if err != nil {
		return nil, fmt.Errorf("store: sealing: %w", err)
	}
	var nonce [chacha20poly1305.NonceSize]byte
	body.Seal(r.body()[:0], nonce[:], d.Body, bodyAD(bucket))
	copy(r.slot[:], slotKey)
	rand.Read(r.slot[4:16])
	wrap.Seal(r.slot[16:16], r.slot[4:16], key[:], bodyAD(bucket))
	r.sum()
	return r, nil
}

// openBody unwraps the key in a slot and opens a body with it.
func (s *Store) openBody(slot *[slotBytes]byte, sealed []byte, bucket uint32) ([]byte, error) {
	wrap, err := s.ratchet.key(bucket)
	if err != nil {
		return nil, err
	}
	if string(slot[:4]) != slotKey {
		return nil, fmt.Errorf("%w: no key in its slot", ErrDamaged)
	}
	key, err := wrap.Open(nil, slot[4:16], slot[16:], bodyAD(bucket))
	if err != nil {
		return nil, fmt.Errorf("%w: the key in its slot does not open", ErrDamaged)
	}
	defer clear(key)
	body, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("%w: key", ErrDamaged)
	}
	var nonce [chacha20poly1305.NonceSize]byte
	out, err := body.Open(make([]byte, 0, max(len(sealed)-bodyOverhead, 0)), nonce[:], sealed, bodyAD(bucket))
	if err != nil {
		return nil, fmt.Errorf("%w: the body does not open", ErrDamaged)
	}
	return out, nil
}

// sealPut seals a lasting record or its deletion.
func (s *Store) sealPut(typ byte, key, value []byte) *record {
	bodyLen := 0
	if typ == typePut {
		bodyLen = len(value) + sealOverhead
	}
	r := newRecord(typ, len(key)+sealOverhead, bodyLen)
	r.key = string(key)
	s.lasting.seal(r.head()[:0], key, adKey)
	if typ == typePut {
		s.lasting.seal(r.body()[:0], value, adValue(key))
	}
	r.sum()
	return r
}

// tombstone is what a slot holds after its body's last reference went.
func (l *lasting) tombstone(segment, slot uint32, lsn LSN) (t [slotBytes]byte) {
	copy(t[:], slotTomb)
	var in [16]byte
	binary.LittleEndian.PutUint32(in[0:], segment)
	binary.LittleEndian.PutUint32(in[4:], slot)
	binary.LittleEndian.PutUint64(in[8:], uint64(lsn))
	m := hmac.New(sha256.New, l.tomb)
	m.Write(in[:])
	m.Sum(t[32:32])
	return t
}

// isTombstone checks a slot in constant time: damage is no tombstone.
func (l *lasting) isTombstone(b []byte, segment, slot uint32, lsn LSN) bool {
	want := l.tombstone(segment, slot, lsn)
	return subtle.ConstantTimeCompare(want[:], b) == 1
}
