// Package blob keeps the ciphertext of files for an organization's members, apart from
// the store's log, which is made for what fits into memory.
//
// Its promises: what Finish returned nil for is on stable storage (P1) under its ID, the
// SHA-256 of the ciphertext; a chunk that is handed out is the one that was put in, or an
// error; when Drop or a sweep after the deadline has returned, no key for the blob is in
// the files (P5), whoever has kept a copy of the rest and knows the passphrase. Chunks
// pass one at a time, so memory does not grow with files.
//
// It leaves to others who may put and get (node), and what the ciphertext means (device).
//
// # On disk, format version 1
//
// A blob is three files in the folder, named by its upload ID (16 random bytes, hex):
//
//	.key    store/slot, one slot: 32 random bytes, overwritten in place when the blob ends
//	.data   chunks: nonce 24 ‖ XChaCha20-Poly1305 of at most 1 MiB; chunk i at i × (1 MiB + 40)
//	.meta   nonce 24 ‖ XChaCha20-Poly1305 of JSON: member, size, deadline, ID once finished
//
// Chunks are sealed under HKDF-SHA256(slot ‖ seal key, "entente.im/blob/v1 data"), bound to
// upload ID and index; metadata under HKDF-SHA256(seal key, "entente.im/blob/v1 meta"), bound
// to the upload ID. The seal key lies under the node's passphrase. A version that changes
// this takes the next number and reads both.
//
// # Life of a blob
//
//  1. Start writes .key, then .meta, which makes the upload exist. Crash before: a key
//     without metadata is erased at the next Open.
//  2. Put appends chunks in order. Crash: what opens of them, from the first on, counts.
//  3. Finish syncs .data, then replaces .meta. Crash before: still an upload.
//  4. Drop, the deadline, or a day without a chunk: the slot is overwritten, then the
//     files go, .meta last. Crash: finished at the next Open.
package blob

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/crypto/chacha20poly1305"
)

// UploadID names an upload, and its files.
type UploadID [16]byte

// ID is the SHA-256 of a blob's ciphertext.
type ID [32]byte

// MaxPerMember bounds the number of a member's blobs.
const MaxPerMember = 10_000

// Options of Open. Dir, Seal and Now are required.
type Options struct {
	Dir    string // made when it is not there
	Seal   [32]byte
	Now    func() time.Time
	Held   func() bool  // the clock is not to be trusted: nothing expires; nil: never
	Logger *slog.Logger // nil: none

	// Ceiling bounds what all members' blobs take together, in bytes; 0: the disk does.
	Ceiling uint64
	// Spare says how many bytes blobs may still take of the disk, so that they leave the
	// room that mail needs; nil: not bounded. A chunk that finds none is refused as full,
	// and its upload goes on when there is room again.
	Spare func() int64
}

// Store is an open folder of blobs. Its methods may be called at once. Refusals are
// *wire.StatusError: notFound, full, tooLarge, malformed, deadlinePassed, damaged.
type Store struct {
	dir  string
	seal [32]byte
	meta cipher.AEAD
	now  func() time.Time
	held func() bool
	log  *slog.Logger
	o    Options

	mu      sync.Mutex // after an entry's
	uploads map[UploadID]*entry
	blobs   map[ID][]*entry // finished; two members may have put the same
	used    map[wire.MemberID]usage
}

type usage struct {
	bytes      uint64
	count      int
	unfinished int
}

// entry is one blob or upload.
type entry struct {
	id     UploadID
	record record // changed under both locks

	mu      sync.Mutex // one change at a time; before Store.mu
	gone    bool
	damaged bool // and the log says so
	data    cipher.AEAD
	have    uint32 // chunks, once counted
	counted bool
	sum     hash.Hash // of the chunks counted
	touched time.Time // Store.mu
}

// record is what .meta holds.
type record struct {
	Version  int           `json:"version"`
	Member   wire.MemberID `json:"member"`
	Size     uint64        `json:"size"`
	Deadline int64         `json:"deadline"`
	Started  int64         `json:"started"`
	Blob     []byte        `json:"blob,omitempty"` // finished
}

func (e *entry) chunks() uint32 { return Chunks(e.record.Size) }

// Chunks is how many chunks a ciphertext has.
func Chunks(size uint64) uint32 { return uint32((size + wire.FileChunk - 1) / wire.FileChunk) }

// chunkLen is the length of chunk i of a ciphertext.
func chunkLen(size uint64, i uint32) int {
	return int(min(size-uint64(i)*wire.FileChunk, wire.FileChunk))
}

var errNotFound = wire.Refuse(pb.Code_CODE_NOT_FOUND, "no such file here, or not any more")

// Open reads the folder, finishes what a crash interrupted, and drops what has ended.
func Open(o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: making the folder: %w", err)
	}
	s := &Store{o: o, dir: o.Dir, seal: o.Seal, now: o.Now, held: o.Held, log: o.Logger,
		uploads: make(map[UploadID]*entry), blobs: make(map[ID][]*entry), used: make(map[wire.MemberID]usage)}
	if s.held == nil {
		s.held = func() bool { return false }
	}
	if s.log == nil {
		s.log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	var err error
	if s.meta, err = derive(s.seal[:], "entente.im/blob/v1 meta"); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, s.Sweep()
}

func derive(secret []byte, use string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, use, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("blob: deriving a key: %w", err)
	}
	defer clear(key)
	return chacha20poly1305.NewX(key)
}

// Used is what a member's blobs take of the quota, unfinished ones included.
func (s *Store) Used(member wire.MemberID) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[member].bytes
}

// Total is what all blobs take, and how many they are.
func (s *Store) Total() (bytes uint64, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totalLocked()
}

func (s *Store) totalLocked() (bytes uint64, count int) {
	for _, e := range s.uploads {
		bytes += e.record.Size
	}
	return bytes, len(s.uploads)
}

// spare refuses what the disk has no room for beside mail.
func (s *Store) spare(size uint64) error {
	if s.o.Spare == nil {
		return nil
	}
	if left := s.o.Spare(); left < 0 || uint64(left) < size {
		return wire.Refuse(pb.Code_CODE_FULL, "the node's disk has room for %d bytes of files", max(left, 0))
	}
	return nil
}

// add and remove keep the tables; Store.mu is held.
func (s *Store) add(e *entry) {
	s.uploads[e.id] = e
	s.count(e, 1)
	if e.record.Blob != nil {
		id := ID(e.record.Blob)
		s.blobs[id] = append(s.blobs[id], e)
	}
}

func (s *Store) remove(e *entry) {
	if s.uploads[e.id] != e {
		return
	}
	delete(s.uploads, e.id)
	s.count(e, -1)
	if e.record.Blob == nil {
		return
	}
	id := ID(e.record.Blob)
	var rest []*entry
	for _, x := range s.blobs[id] {
		if x != e {
			rest = append(rest, x)
		}
	}
	if s.blobs[id] = rest; len(rest) == 0 {
		delete(s.blobs, id)
	}
}

func (s *Store) count(e *entry, sign int) {
	u := s.used[e.record.Member]
	u.bytes += uint64(sign) * e.record.Size
	u.count += sign
	if e.record.Blob == nil {
		u.unfinished += sign
	}
	if s.used[e.record.Member] = u; u.count == 0 {
		delete(s.used, e.record.Member)
	}
}

// find returns an upload of a member's; another's does not exist.
func (s *Store) find(member wire.MemberID, id UploadID) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.uploads[id]
	if e == nil || e.record.Member != member {
		return nil, errNotFound
	}
	if s.ended(e) {
		return nil, errNotFound
	}
	return e, nil
}

// ended reports whether a blob's time is over; Store.mu is held.
func (s *Store) ended(e *entry) bool {
	now := s.now()
	return now.Unix() >= e.record.Deadline || e.record.Blob == nil && now.Sub(e.touched) >= wire.UploadPatience
}

// disk turns an error of the file system into a status that a client can act on.
func disk(what string, err error) error {
	var refused *wire.StatusError
	if err == nil || errors.As(err, &refused) {
		return err
	}
	if isFull(err) {
		return wire.Refuse(pb.Code_CODE_FULL, "the node's disk is full")
	}
	return fmt.Errorf("blob: %s: %w", what, err)
}
