package store

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// marks is a small file that is overwritten in place: what must not be forgotten
// when the log's end is lost. Two sectors of 4 KiB are written in turn (docs/disk.md 5):
//
//	magic "ENTMARK1" | counter u64 | sequence u64 | oldest segment u32 | bucket seconds u32 |
//	agreed clock i64 (ns) | lost u64 | names u32 | names × (length u8, name, value u64) |
//	HMAC-SHA256(marks key, all before) | zeros
type marks struct {
	mu      sync.Mutex
	f       *os.File
	key     []byte
	counter uint64
	state   markState
	saved   markState
}

// markState is what the file holds.
type markState struct {
	seq    uint64 // records up to here are synced
	oldest uint32 // segments below this one were removed
	bucket uint32 // seconds
	clock  int64
	lost   uint64 // records that were missing at an Open and are not yet accepted as lost
	named  map[string]uint64
}

const (
	marksFile   = "marks"
	marksSector = 4_096
	marksMagic  = "ENTMARK1"
	maxMarkName = 32
	maxMarks    = 90
	marksFixed  = 56
)

var errMarks = errors.New("store: marks damaged")

// openMarks reads the marks; found is false when there are none yet.
func openMarks(dir string, key []byte) (m *marks, found bool, err error) {
	f, err := os.OpenFile(filepath.Join(dir, marksFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("store: opening the marks: %w", err)
	}
	m = &marks{f: f, key: key, state: markState{oldest: 1, named: map[string]uint64{}}}
	var b [2 * marksSector]byte
	n, _ := f.ReadAt(b[:], 0)
	if n < len(b) {
		// Both sectors get their place now: a full disk must not refuse the second.
		if _, err := f.WriteAt(b[n:], int64(n)); err != nil {
			f.Close()
			return nil, false, fmt.Errorf("store: making room for the marks: %w", err)
		}
	}
	magic := 0
	for i := range 2 {
		part := b[i*marksSector : (i+1)*marksSector]
		if bytes.HasPrefix(part, []byte(marksMagic)) {
			magic++
		}
		st, counter, err := decodeMarks(part, key)
		if err == nil && counter > m.counter {
			m.counter, m.state, found = counter, st, true
		}
	}
	if n > 0 && !found && magic == 2 {
		f.Close()
		return nil, false, ErrKey
	}
	m.saved = m.state.clone()
	return m, found, nil
}

func (s markState) clone() markState {
	s.named = maps.Clone(s.named)
	return s
}

func (s markState) equal(o markState) bool {
	return s.seq == o.seq && s.oldest == o.oldest && s.bucket == o.bucket && s.lost == o.lost &&
		s.clock-o.clock < int64(30e9) && maps.Equal(s.named, o.named)
}

func encodeMarks(s markState, counter uint64, key []byte) []byte {
	b := make([]byte, 0, marksSector)
	b = append(b, marksMagic...)
	b = binary.LittleEndian.AppendUint64(b, counter)
	b = binary.LittleEndian.AppendUint64(b, s.seq)
	b = binary.LittleEndian.AppendUint32(b, s.oldest)
	b = binary.LittleEndian.AppendUint32(b, s.bucket)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.clock))
	b = binary.LittleEndian.AppendUint64(b, s.lost)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.named)))
	b = append(b, 0, 0, 0, 0)
	for _, name := range slices.Sorted(maps.Keys(s.named)) {
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = binary.LittleEndian.AppendUint64(b, s.named[name])
	}
	m := hmac.New(sha256.New, key)
	m.Write(b)
	b = m.Sum(b)
	return b[:marksSector:marksSector]
}

// decodeMarks is strict: what decodes encodes to the same bytes.
func decodeMarks(b, key []byte) (s markState, counter uint64, err error) {
	if len(b) != marksSector || string(b[:8]) != marksMagic {
		return s, 0, errMarks
	}
	counter = binary.LittleEndian.Uint64(b[8:])
	s.seq = binary.LittleEndian.Uint64(b[16:])
	s.oldest = binary.LittleEndian.Uint32(b[24:])
	s.bucket = binary.LittleEndian.Uint32(b[28:])
	s.clock = int64(binary.LittleEndian.Uint64(b[32:]))
	s.lost = binary.LittleEndian.Uint64(b[40:])
	n := binary.LittleEndian.Uint32(b[48:])
	if n > maxMarks {
		return s, 0, errMarks
	}
	s.named = make(map[string]uint64, n)
	at := marksFixed
	for range n {
		size := int(b[at])
		if size == 0 || size > maxMarkName || at+1+size+8 > marksSector-sha256.Size {
			return s, 0, errMarks
		}
		s.named[string(b[at+1:at+1+size])] = binary.LittleEndian.Uint64(b[at+1+size:])
		at += 1 + size + 8
	}
	if !hmac.Equal(encodeMarks(s, counter, key), b) { // the MAC and the form in one
		return s, 0, errMarks
	}
	return s, counter, nil
}

// update changes the state in memory; save writes it.
func (m *marks) update(change func(*markState)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.state)
}

// save writes and syncs the marks when they changed. When it returns nil they are on
// stable storage.
func (m *marks) save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counter > 0 && m.state.equal(m.saved) {
		return nil
	}
	m.counter++
	b := encodeMarks(m.state, m.counter, m.key)
	if _, err := m.f.WriteAt(b, int64(m.counter%2)*marksSector); err != nil {
		return fmt.Errorf("store: writing the marks: %w", err)
	}
	if err := datasync(m.f); err != nil {
		return fmt.Errorf("store: syncing the marks: %w", err)
	}
	m.saved = m.state.clone()
	return nil
}

// SetMark raises a named mark; a lower value changes nothing. It is on stable
// storage within a second and after Close. Names have 1 to 32 bytes; there are at
// most 90 of them.
func (s *Store) SetMark(name string, value uint64) error {
	m := s.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.state.named[name]
	if len(name) == 0 || len(name) > maxMarkName || !ok && len(m.state.named) >= maxMarks {
		return fmt.Errorf("%w: mark name", ErrInvalid)
	}
	if !ok || value > old {
		m.state.named[name] = value
	}
	return nil
}

// Mark returns a named mark, 0 when it was never set.
func (s *Store) Mark(name string) uint64 {
	s.marks.mu.Lock()
	defer s.marks.mu.Unlock()
	return s.marks.state.named[name]
}

// SyncMarks writes the marks now. When it returns nil they are on stable storage.
func (s *Store) SyncMarks() error {
	if err := s.marks.save(); err != nil {
		return s.fail(err)
	}
	return nil
}

// AcceptLoss says that the owner has dealt with the records in Status.Lost.
func (s *Store) AcceptLoss() error {
	s.marks.update(func(m *markState) { m.lost = 0 })
	return s.SyncMarks()
}
