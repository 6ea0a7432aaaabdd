package store

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/entente-im/entente/store/slot"
	"golang.org/x/crypto/chacha20poly1305"
)

// ratchet gives each deadline bucket its key. One 32-byte secret, that of the first
// bucket that has not ended, lies in a slot that is overwritten in place:
//
//	secret(b+1) = HMAC-SHA256(secret(b), "next")    key(b) = HMAC-SHA256(secret(b), "key" ‖ b)
//
// so that after a step no file says anything about an ended bucket's key. Bucket b
// ends at b × its length in Unix time.
type ratchet struct {
	mu     sync.Mutex
	slots  *slot.Slots
	first  uint32
	secret [32]byte
	points map[uint32][32]byte    // secrets of later buckets, each pointEvery
	keys   map[uint32]cipher.AEAD // of buckets in use
	lost   bool
	err    error
}

const (
	pointEvery  = 1_024
	maxKeys     = 1_024
	maxBuckets  = uint32(MaxAhead/time.Second) + 2 // in steps of the shortest bucket
	errExpired  = ratchetError("store: the bucket has ended")
	ratchetFile = "keys"
)

type ratchetError string

func (e ratchetError) Error() string { return string(e) }

// openRatchet reads the secret. When there is none it draws one: for a new store, or
// for one whose secret is lost, with all bodies (r.lost; the caller names it).
func openRatchet(dir string, isNew, readOnly bool, first uint32) (*ratchet, error) {
	slots, err := slot.Open(filepath.Join(dir, ratchetFile), 1)
	if err != nil {
		return nil, fmt.Errorf("store: opening the ratchet: %w", err)
	}
	r := &ratchet{slots: slots, points: make(map[uint32][32]byte), keys: make(map[uint32]cipher.AEAD)}
	key, label, err := slots.GetLabelled(0)
	switch {
	case err == nil && label < 1<<32:
		r.first, r.secret = uint32(label), key
	case err == nil || errors.Is(err, slot.ErrEmpty) || errors.Is(err, slot.ErrDamaged):
		r.lost = !isNew
		rand.Read(r.secret[:])
		r.first = first
		if err = nil; !readOnly {
			err = slots.PutLabelled(0, uint64(first), r.secret)
		}
	}
	if err != nil {
		slots.Close()
		return nil, fmt.Errorf("store: the ratchet's secret: %w", err)
	}
	return r, nil
}

func next(secret [32]byte) (out [32]byte) {
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte("next"))
	m.Sum(out[:0])
	return out
}

// key returns the AEAD of a bucket that has not ended.
func (r *ratchet) key(bucket uint32) (cipher.AEAD, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.keys[bucket]; ok {
		return a, nil
	}
	if bucket < r.first {
		return nil, errExpired
	}
	if bucket-r.first > maxBuckets {
		return nil, ErrDeadline
	}
	secret := r.at(bucket)
	defer clear(secret[:])
	m := hmac.New(sha256.New, secret[:])
	m.Write(binary.LittleEndian.AppendUint32([]byte("key"), bucket))
	k := m.Sum(nil)
	defer clear(k)
	a, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, fmt.Errorf("store: bucket key: %w", err)
	}
	if len(r.keys) >= maxKeys {
		clear(r.keys)
	}
	r.keys[bucket] = a
	return a, nil
}

// at walks to a bucket's secret from the nearest one that is known.
func (r *ratchet) at(bucket uint32) [32]byte {
	at, secret := r.first, r.secret
	for p := bucket / pointEvery * pointEvery; p > r.first; p -= pointEvery {
		if s, ok := r.points[p]; ok {
			at, secret = p, s
			break
		}
	}
	for ; at < bucket; at++ {
		if at%pointEvery == 0 && at > r.first {
			r.points[at] = secret
		}
		secret = next(secret)
	}
	return secret
}

// step makes first the first living bucket. When it returns nil no file holds a key
// of an earlier one, and memory neither.
func (r *ratchet) step(first uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || first <= r.first {
		return r.err
	}
	secret := r.at(first)
	if err := r.slots.PutLabelled(0, uint64(first), secret); err != nil {
		r.err = fmt.Errorf("store: stepping the ratchet: %w", err)
		return r.err
	}
	clear(r.secret[:])
	r.secret, r.first = secret, first
	for b := range r.keys {
		if b < first {
			delete(r.keys, b)
		}
	}
	for b := range r.points {
		if b <= first {
			delete(r.points, b)
		}
	}
	return nil
}

// living returns the first bucket that has not ended.
func (r *ratchet) living() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first
}

func (r *ratchet) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.secret[:])
	clear(r.keys)
	clear(r.points)
	r.err = ErrClosed
	return r.slots.Close()
}

// bucketOf returns the bucket of a deadline: its end rounded up, a whole bucket
// ahead at least.
func (s *Store) bucketOf(deadline time.Time) uint32 {
	earliest := s.clock.agreed().Add(s.o.Bucket)
	if deadline.Before(earliest) {
		deadline = earliest
	}
	n := deadline.UnixNano() / int64(s.o.Bucket)
	if deadline.UnixNano()%int64(s.o.Bucket) != 0 {
		n++
	}
	return max(uint32(n), s.ratchet.living())
}

// bucketEnd returns when a bucket ends.
func (s *Store) bucketEnd(bucket uint32) time.Time {
	return time.Unix(int64(bucket)*int64(s.o.Bucket/time.Second), 0)
}

// livingAt returns the first bucket that has not ended at a time.
func livingAt(t time.Time, length time.Duration) uint32 {
	return uint32(t.UnixNano()/int64(length)) + 1
}

// stepRatchet destroys the keys of the buckets that have ended by the agreed clock.
func (s *Store) stepRatchet() error {
	return s.ratchet.step(livingAt(s.clock.agreed(), s.o.Bucket))
}
