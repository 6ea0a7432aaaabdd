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

// ratchet gives each deadline bucket its key, so that after a step no file says
// anything about an ended bucket's key. Bucket b ends at b × its length in Unix time.
//
// A single chain would have to be walked from the first living bucket to a deadline: 2.6
// million hashes for 30 days of 1 s buckets. So three chains stand on each other, each
// link of one the start of 256 links of the chain below (docs/disk.md 1):
//
//	level 2: a secret for 65,536 buckets    next = HMAC(secret, "next"), for the following ones
//	level 1: a secret for 256 buckets       its first in each block = HMAC(level 2, "down")
//	level 0: a secret for a bucket          its first in each block = HMAC(level 1, "down")
//	key(b) = HMAC(level 0 secret of b, "key" ‖ b)
//
// Three slots hold the level 0 secret of the first living bucket, and of the levels
// above the first secret that covers no bucket below the ones of the slot before. A
// chain is used until the one above begins, and every hash is one-way: what the slots
// hold leads to no bucket before the first.
type ratchet struct {
	mu    sync.Mutex
	slots *slot.Slots
	level [levels]link
	keys  map[uint32]cipher.AEAD // of buckets in use
	lost  bool
	err   error

	hashes uint64 // made, for the test of the bound
}

// link is one secret of a chain: of the block of buckets with this number at its level.
type link struct {
	held   bool // false: the chain above begins at once; never at level 0 and the top
	block  uint32
	secret [32]byte
}

const (
	levels      = 3
	levelBits   = 8 // of a bucket's number, for each level
	maxKeys     = 1_024
	maxBuckets  = uint32(MaxAhead/time.Second) + 2 // in steps of the shortest bucket
	errExpired  = ratchetError("store: the bucket has ended")
	ratchetFile = "keys"
)

type ratchetError string

func (e ratchetError) Error() string { return string(e) }

// blockOf returns the number of the block that a bucket is in, at a level.
func blockOf(bucket uint32, level int) uint32 { return bucket >> (levelBits * level) }

// begin returns the first bucket that a level's link, or the first above it, covers.
func (r *ratchet) begin(level int) uint64 {
	for ; level < levels; level++ {
		if l := &r.level[level]; l.held {
			return uint64(l.block) << (levelBits * level)
		}
	}
	return 1 << 32
}

// openRatchet reads the secrets. When there are none it draws them: for a new store, or
// for one whose secrets are lost, with all bodies (r.lost; the caller names it). A
// step that a crash has interrupted is finished.
func openRatchet(dir string, isNew, readOnly bool, first uint32) (*ratchet, error) {
	slots, err := slot.Open(filepath.Join(dir, ratchetFile), levels)
	if err != nil {
		return nil, fmt.Errorf("store: opening the ratchet: %w", err)
	}
	r := &ratchet{slots: slots, keys: make(map[uint32]cipher.AEAD)}
	if err := r.open(isNew, readOnly, first); err != nil {
		slots.Close()
		return nil, fmt.Errorf("store: the ratchet's secrets: %w", err)
	}
	return r, nil
}

func (r *ratchet) open(isNew, readOnly bool, first uint32) error {
	err := r.read()
	if errors.Is(err, slot.ErrEmpty) || errors.Is(err, slot.ErrDamaged) {
		r.lost = !isNew
		r.draw(first)
		if readOnly {
			return nil
		}
		return r.write(levels-1, -1)
	}
	if err != nil {
		return err
	}
	if top := &r.level[levels-1]; !top.held { // of the first builds: one chain
		*top = link{held: true, block: blockOf(r.first()+maxBuckets, levels-1) + 1}
		rand.Read(top.secret[:])
		if !readOnly {
			if err := r.write(levels-1, levels-2); err != nil {
				return err
			}
		}
	}
	if uint64(r.first()) < r.begin(1) && r.begin(1) <= r.begin(2) {
		return nil
	}
	return r.move(r.first(), readOnly)
}

// read fills the levels from the slots. The lowest has to be there, the top one may be
// missing in a file of the first builds, which had one chain.
func (r *ratchet) read() error {
	for i := range r.level {
		secret, label, err := r.slots.GetLabelled(i)
		if errors.Is(err, slot.ErrEmpty) && i > 0 {
			continue
		}
		if err == nil && label >= 1<<32 {
			err = slot.ErrDamaged
		}
		if err != nil {
			return err
		}
		r.level[i] = link{held: true, block: uint32(label), secret: secret}
	}
	return nil
}

// draw makes new secrets from a first bucket on.
func (r *ratchet) draw(first uint32) {
	for i := range r.level {
		l := link{held: true, block: blockOf(first, i)}
		if i > 0 {
			l.block++
		}
		rand.Read(l.secret[:])
		if i == 1 && blockOf(l.block<<levelBits, 2) != blockOf(first, 2) {
			l = link{} // the last block of its kind: the top begins at once
		}
		r.level[i] = l
	}
}

// write puts levels into their slots, from one down or up to another exclusively. When
// it returns nil they are on stable storage and what they held before is gone.
func (r *ratchet) write(from, to int) error {
	step := 1
	if from > to {
		step = -1
	}
	for i := from; i != to; i += step {
		var err error
		if l := &r.level[i]; l.held {
			err = r.slots.PutLabelled(i, uint64(l.block), l.secret)
		} else {
			err = r.slots.Erase(i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *ratchet) hash(secret [32]byte, use []byte) (out [32]byte) {
	r.hashes++
	m := hmac.New(sha256.New, secret[:])
	m.Write(use)
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
	if bucket < r.first() {
		return nil, errExpired
	}
	if bucket-r.first() > maxBuckets {
		return nil, ErrDeadline
	}
	path := r.walk(bucket)
	defer clear(path[:])
	k := r.hash(path[0].secret, binary.LittleEndian.AppendUint32([]byte("key"), bucket))
	defer clear(k[:])
	a, err := chacha20poly1305.New(k[:])
	if err != nil {
		return nil, fmt.Errorf("store: bucket key: %w", err)
	}
	if len(r.keys) >= maxKeys {
		clear(r.keys)
	}
	r.keys[bucket] = a
	return a, nil
}

// walk returns the links that cover a living bucket, from the level that it is reached
// from downwards; those above are not held.
func (r *ratchet) walk(bucket uint32) (path [levels]link) {
	from := levels - 1
	for from > 0 && uint64(bucket) < r.begin(from) {
		from--
	}
	at := r.level[from]
	for i := from; ; i-- {
		for want := blockOf(bucket, i); at.block < want; at.block++ {
			at.secret = r.hash(at.secret, []byte("next"))
		}
		path[i] = at
		if i == 0 {
			return path
		}
		at = link{held: true, block: at.block << levelBits, secret: r.hash(at.secret, []byte("down"))}
	}
}

// step makes first the first living bucket. When it returns nil no file holds a key
// of an earlier one, and memory neither.
func (r *ratchet) step(first uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || first <= r.first() {
		return r.err
	}
	if err := r.move(first, false); err != nil {
		r.err = fmt.Errorf("store: stepping the ratchet: %w", err)
		return r.err
	}
	for b := range r.keys {
		if b < first {
			delete(r.keys, b)
		}
	}
	return nil
}

// move goes to a bucket and writes what changes, the lowest level first: a crash leaves
// the secrets above, from which open makes the same again.
func (r *ratchet) move(first uint32, readOnly bool) error {
	path := r.walk(first)
	defer clear(path[:])
	to := 0
	for i, l := range path {
		if !l.held {
			break
		}
		to = i + 1
		if i > 0 { // a link that covers first must go: the next one stands for what is left
			l.block, l.secret = l.block+1, r.hash(l.secret, []byte("next"))
			l.held = i == levels-1 || blockOf(l.block, 1) == blockOf(l.block-1, 1)
		}
		if !l.held {
			l = link{}
		}
		r.level[i] = l
	}
	if readOnly {
		return nil
	}
	return r.write(0, to)
}

// first is the first bucket that has not ended.
func (r *ratchet) first() uint32 { return r.level[0].block }

// living returns the first bucket that has not ended.
func (r *ratchet) living() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first()
}

func (r *ratchet) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.level[:])
	clear(r.keys)
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
