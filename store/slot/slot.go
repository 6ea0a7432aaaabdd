// Package slot keeps 32-byte keys in a file that is overwritten in place, so that a
// key that is replaced or erased is gone from the disk when the call returns.
//
// Its promise: Put and Erase return nil only after the new state is synced and no
// copy of the old key is left in the file; a crash in between leaves the old or the
// new state, never neither. The file is never renamed while it holds a key: a rename
// leaves the old blocks, and the old key, on the disk. Copy-on-write filesystems,
// snapshots and the cells of an SSD are out of its reach.
//
// It leaves to others what the keys open, and who may open the file. It needs no
// index and no system calls of its own, so it builds for js/wasm.
//
// On disk (version 1): slot i is two sectors of 512 bytes at i*1024. A sector:
//
//	magic "ENTSLOT1" | state u8 | 7 zeros | sequence u64 | label u64 | key 32 | SHA-256 32 | zeros
//
// integers big endian; the SHA-256 covers the slot's number and all before it. The
// valid sector with the higher sequence counts; the other one is scrubbed. A sector
// of zeros is damage, not an empty slot.
package slot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// MaxSlots bounds a file to 64 MiB.
const MaxSlots = 65_536

// Size is what a slot takes in its file, in bytes.
const Size = slotSize

// Errors a caller acts on.
var (
	ErrEmpty   = errors.New("slot: empty")
	ErrDamaged = errors.New("slot: damaged")
)

// File is what slots are written to: an os.File, or what stands for one in a browser.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// Slots is an open slot file. Its methods may be called at once from many goroutines.
type Slots struct {
	mu     sync.Mutex
	f      File
	slots  []position
	broken error // a failed write or sync: what is on the disk is unknown until reopened
}

// position says where a slot's valid sector is.
type position struct {
	sector int // 0 or 1; -1: damaged
	seq    uint64
	state  byte
}

// Open opens the slot file at path with at least n slots, and creates or grows it
// when needed. Half-written changes are finished or undone: afterwards each slot has
// one value at most. A damaged slot is reported when it is read.
func Open(path string, n int) (*Slots, error) {
	if n < 1 || n > MaxSlots {
		return nil, fmt.Errorf("slot: %d slots: want 1 to %d", n, MaxSlots)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := create(path, n); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("slot: opening: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("slot: opening: %w", err)
	}
	have := int(min(info.Size()/slotSize, MaxSlots))
	if have < n {
		if err := fill(f, have, n); err != nil {
			f.Close()
			return nil, err
		}
	}
	s, err := New(f, max(n, have))
	if err != nil {
		f.Close()
	}
	return s, err
}

// create makes a file of empty slots. It holds no key yet, so it may be renamed.
func create(path string, n int) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("slot: creating: %w", err)
	}
	if err := errors.Join(fill(f, 0, n), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("slot: creating: %w", err)
	}
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		defer d.Close()
		_ = d.Sync() // not every system can sync a folder
	}
	return nil
}

// fill writes empty slots from one number up to another and syncs them.
func fill(f File, from, to int) error {
	b := make([]byte, 0, (to-from)*slotSize)
	for i := from; i < to; i++ {
		b = append(b, encode(i, sector{state: stateEmpty, seq: 1})...)
		b = append(b, encode(i, sector{state: stateScrubbed})...)
	}
	if _, err := f.WriteAt(b, int64(from)*slotSize); err != nil {
		return fmt.Errorf("slot: filling: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("slot: filling: %w", err)
	}
	return nil
}

// New reads n slots of a file and scrubs what an interrupted change left behind.
// The file belongs to the Slots from now on.
func New(f File, n int) (*Slots, error) {
	if n < 1 || n > MaxSlots {
		return nil, fmt.Errorf("slot: %d slots: want 1 to %d", n, MaxSlots)
	}
	s := &Slots{f: f, slots: make([]position, n)}
	dirty := false
	var buf [slotSize]byte
	for i := range s.slots {
		if _, err := f.ReadAt(buf[:], int64(i)*slotSize); err != nil {
			return nil, fmt.Errorf("slot: reading slot %d: %w", i, err)
		}
		p, leftover := choose(i, &buf)
		s.slots[i] = p
		if p.sector < 0 || !leftover {
			continue
		}
		dirty = true
		if err := s.write(i, 1-p.sector, sector{state: stateScrubbed}); err != nil {
			return nil, err
		}
	}
	clear(buf[:])
	if dirty {
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("slot: scrubbing: %w", err)
		}
	}
	return s, nil
}

// choose picks the valid sector of a slot and says whether the other one has to be
// scrubbed.
func choose(i int, buf *[slotSize]byte) (position, bool) {
	a, okA := decode(i, buf[:sectorSize])
	b, okB := decode(i, buf[sectorSize:])
	okA, okB = okA && a.state != stateScrubbed, okB && b.state != stateScrubbed
	scrubbed, isScrubbed := decode(i, buf[sectorSize:])
	p := position{sector: -1}
	switch {
	case okA && (!okB || a.seq > b.seq):
		p = position{0, a.seq, a.state}
	case okB:
		p = position{1, b.seq, b.state}
		scrubbed, isScrubbed = decode(i, buf[:sectorSize])
	}
	return p, !isScrubbed || scrubbed.state != stateScrubbed
}

// Len returns the number of slots.
func (s *Slots) Len() int { return len(s.slots) }

// Get returns the key in slot i: ErrEmpty when there is none, ErrDamaged when the
// slot cannot be trusted.
func (s *Slots) Get(i int) ([32]byte, error) {
	key, _, err := s.GetLabelled(i)
	return key, err
}

// GetLabelled returns the key and the label that PutLabelled stored with it.
func (s *Slots) GetLabelled(i int) (key [32]byte, label uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i < 0 || i >= len(s.slots) {
		return key, 0, fmt.Errorf("slot: no slot %d", i)
	}
	p := s.slots[i]
	if p.sector < 0 {
		return key, 0, ErrDamaged
	}
	if p.state == stateEmpty {
		return key, 0, ErrEmpty
	}
	var buf [sectorSize]byte
	defer clear(buf[:])
	if _, err := s.f.ReadAt(buf[:], offset(i, p.sector)); err != nil {
		return key, 0, fmt.Errorf("slot: reading slot %d: %w", i, err)
	}
	v, ok := decode(i, buf[:])
	if !ok || v.seq != p.seq || v.state != stateKey {
		return key, 0, ErrDamaged
	}
	return v.key, v.label, nil
}

// Put stores a key in slot i. When it returns nil the key is on stable storage and
// the key before it is gone.
func (s *Slots) Put(i int, key [32]byte) error { return s.PutLabelled(i, 0, key) }

// PutLabelled stores a key with a number of the caller's, both or neither.
func (s *Slots) PutLabelled(i int, label uint64, key [32]byte) error {
	return s.replace(i, sector{state: stateKey, label: label, key: key})
}

// Erase empties slot i. When it returns nil the key is gone from the file. A
// damaged slot is emptied as well.
func (s *Slots) Erase(i int) error { return s.replace(i, sector{state: stateEmpty}) }

// replace writes the new sector beside the old one, syncs, overwrites the old one
// and syncs again: there is always one valid sector, and at the end only the new.
func (s *Slots) replace(i int, v sector) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if i < 0 || i >= len(s.slots) {
		return fmt.Errorf("slot: no slot %d", i)
	}
	old := s.slots[i]
	v.seq = old.seq + 1
	at := 0
	if old.sector == 0 {
		at = 1
	}
	err := s.write(i, at, v)
	if err == nil {
		err = s.f.Sync()
	}
	if err == nil {
		s.slots[i] = position{at, v.seq, v.state}
		err = s.write(i, 1-at, sector{state: stateScrubbed})
	}
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		s.broken = fmt.Errorf("slot: writing slot %d: %w", i, err)
	}
	return s.broken
}

func (s *Slots) write(i, at int, v sector) error {
	b := encode(i, v)
	defer clear(b)
	_, err := s.f.WriteAt(b, offset(i, at))
	return err
}

// Close closes the file.
func (s *Slots) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = errors.New("slot: closed")
	}
	return s.f.Close()
}
