package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// segment is one file of the log (docs/disk.md 2): a header of 4 KiB, a table of
// slots for wrapped body keys, records.
type segment struct {
	id      uint32
	f       *os.File
	slots   uint32
	dataOff int64
	size    int64 // of the file
	first   uint64
	prev    uint64 // last sequence before it when it was begun

	// of the committer
	end      int64
	nextSlot uint32

	// guarded by Store.mu
	live      int   // bodies and lasting records
	liveBytes int64 // of these
	tombs     int   // tombstones that are not synced yet

	io     sync.RWMutex // held shared while reading, exclusively while closing
	closed bool
}

const (
	segHeader  = 4_096
	segMagic   = "ENTSEG01"
	segVersion = 1
	maxFile    = 1 << 31
	zeroChunk  = 1 << 20
)

var errGone = errors.New("store: segment removed")

func (s *Store) logDir() string { return filepath.Join(s.o.Dir, "log") }

func (s *Store) segPath(id uint32) string {
	return filepath.Join(s.logDir(), fmt.Sprintf("%08d.seg", id))
}

// layout says where records begin in a segment with so many slots.
func layout(slots uint32) int64 {
	n := segHeader + int64(slots)*slotBytes
	return (n + 4095) &^ 4095
}

func encodeSegHeader(g *segment) []byte {
	b := make([]byte, segHeader)
	copy(b, segMagic)
	binary.LittleEndian.PutUint32(b[8:], segVersion)
	binary.LittleEndian.PutUint32(b[12:], g.id)
	binary.LittleEndian.PutUint32(b[16:], g.slots)
	binary.LittleEndian.PutUint64(b[24:], g.first)
	binary.LittleEndian.PutUint64(b[32:], g.prev)
	binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
	return b
}

// decodeSegHeader fills in what a header says; size is that of the file.
func decodeSegHeader(b []byte, id uint32, size int64) (*segment, error) {
	if len(b) < segHeader || string(b[:8]) != segMagic || binary.LittleEndian.Uint32(b[40:]) != crc32.Checksum(b[:40], castagnoli) {
		return nil, ErrDamaged
	}
	if binary.LittleEndian.Uint32(b[8:]) != segVersion {
		return nil, ErrVersion
	}
	g := &segment{id: id, size: size, slots: binary.LittleEndian.Uint32(b[16:]),
		first: binary.LittleEndian.Uint64(b[24:]), prev: binary.LittleEndian.Uint64(b[32:])}
	g.dataOff = layout(g.slots)
	if binary.LittleEndian.Uint32(b[12:]) != id || g.first == 0 || g.prev >= g.first || g.dataOff > size {
		return nil, ErrDamaged
	}
	g.end = g.dataOff
	return g, nil
}

// prepared is a file filled with zeros, or why there is none.
type prepared struct {
	f   *os.File
	err error
}

// prepareSpares keeps one spare segment ahead until done.
func (s *Store) prepareSpares() {
	defer s.wg.Done()
	for n := 0; ; n++ {
		f, err := s.zeroFile(filepath.Join(s.logDir(), fmt.Sprintf("spare-%d", n)), s.o.SegmentSize)
		select {
		case s.spares <- prepared{f, err}:
		case <-s.done:
			if f != nil {
				f.Close()
				os.Remove(f.Name())
			}
			return
		}
	}
}

// zeroFile writes zeros: blocks that are written once are overwritten later without
// touching the filesystem's journal.
func (s *Store) zeroFile(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, min(size, zeroChunk))
	for at := int64(0); at < size && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

// roll begins a new segment with room for so many bytes and slots. When it returns
// nil the file has its name on stable storage; the header goes with the first group.
func (s *Store) roll(need int64, slots uint32) error {
	table := max(uint32(s.o.SegmentSize/1024), slots)
	size := max(s.o.SegmentSize, (layout(table)+need+4095)&^4095)
	f, err := s.spare(size)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return ErrFull
		}
		return fmt.Errorf("store: a new segment: %w", err)
	}
	s.mu.RLock()
	id := s.nextSegment
	s.mu.RUnlock()
	g := &segment{id: id, f: f, slots: table, dataOff: layout(table), size: size, first: s.nextSeq, prev: s.nextSeq - 1}
	g.end = g.dataOff
	if _, err = f.WriteAt(encodeSegHeader(g), 0); err == nil {
		err = datasync(f)
	}
	if err == nil {
		err = os.Rename(f.Name(), s.segPath(id))
	}
	if err == nil {
		err = syncDir(s.logDir())
	}
	if err != nil {
		f.Close()
		return s.fail(fmt.Errorf("store: a new segment: %w", err))
	}
	s.mu.Lock()
	s.segments = append(s.segments, g)
	s.nextSegment++
	s.active = g
	s.mu.Unlock()
	return nil
}

// spare takes the prepared file, or makes a larger one for a batch that needs it. A
// failure that lies back is tried once more.
func (s *Store) spare(size int64) (*os.File, error) {
	if size > s.o.SegmentSize {
		return s.zeroFile(filepath.Join(s.logDir(), "spare-large"), size)
	}
	p := <-s.spares
	if p.err != nil {
		p = <-s.spares
	}
	return p.f, p.err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// readAt reads from a segment; errGone when it was removed meanwhile.
func (g *segment) readAt(b []byte, off int64) error {
	g.io.RLock()
	defer g.io.RUnlock()
	if g.closed {
		return errGone
	}
	_, err := g.f.ReadAt(b, off)
	return err
}

func (g *segment) readSlot(slot uint32) (b [slotBytes]byte, err error) {
	if slot >= g.slots {
		return b, ErrDamaged
	}
	err = g.readAt(b[:], segHeader+int64(slot)*slotBytes)
	return b, err
}

func (g *segment) close() error {
	g.io.Lock()
	defer g.io.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return g.f.Close()
}
