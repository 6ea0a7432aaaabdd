package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// recovery rebuilds the index from the log. It holds the last group back until a
// later one shows that it was promised: what is damaged before that is corruption
// and is named; what is damaged at the very end, above what the marks say was
// synced, is a torn tail that nobody was promised, and is cut off.
type recovery struct {
	s       *Store
	gaps    [][2]uint32 // first and last of segments that are missing, before one that stands
	promise uint64      // records up to here were synced

	pending []pendingEntry // of the last group, in order
	group   uint64

	seg    *segment
	bodies map[LSN]*recovered
}

// recovered is a deposit with the queues that it is left in.
type recovered struct {
	body
	queues []QueueID
}

// pendingEntry is a record or a damage.
type pendingEntry struct {
	seg *segment
	entry
	damage *Finding
}

// listSegments returns the numbers of the files in the log, in order, and removes
// spares when told to.
func listSegments(dir string, clean bool) ([]uint32, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("store: reading the log: %w", err)
	}
	var ids []uint32
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".seg")
		if !ok {
			if clean && strings.HasPrefix(f.Name(), "spare") {
				if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
					return nil, fmt.Errorf("store: removing a spare: %w", err)
				}
			}
			continue
		}
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("store: %s is no segment's name", f.Name())
		}
		ids = append(ids, uint32(id))
	}
	slices.Sort(ids)
	return ids, nil
}

// recover reads the log. With readOnly nothing is changed (Fsck).
func (s *Store) recover(ctx context.Context, ids []uint32, readOnly bool) error {
	r := &recovery{s: s, promise: s.marks.state.seq, bodies: make(map[LSN]*recovered)}
	oldest := s.marks.state.oldest
	var bufs [2][]byte
	next := uint64(0)
	s.nextSegment = oldest
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if id < oldest { // dead already: the crash came between mark and unlink
			if readOnly {
				continue
			}
			if err := os.Remove(s.segPath(id)); err != nil {
				return fmt.Errorf("store: removing a dead segment: %w", err)
			}
			continue
		}
		if s.nextSegment < id {
			r.gaps = append(r.gaps, [2]uint32{s.nextSegment, id - 1})
		}
		for ; s.nextSegment < id; s.nextSegment++ {
			r.name(Finding{Segment: s.nextSegment, Seq: next, What: "segment missing"})
		}
		s.nextSegment = id + 1
		var err error
		if next, err = r.segment(id, &bufs[i%2], next); err != nil {
			return err
		}
	}
	cut, err := r.finish(readOnly)
	if err != nil {
		return err
	}
	if cut > 0 {
		next = cut
	}
	s.groupNo = r.group
	s.nextSeq = max(next, 1)
	if last := s.nextSeq - 1; last < r.promise {
		lost := r.promise - last
		s.nextSeq = r.promise + 1
		r.name(Finding{Segment: s.nextSegment - 1, Seq: last + 1, Records: lost, What: "records lost at the end"})
		s.marks.update(func(m *markState) { m.lost += lost })
	}
	s.written.Store(s.nextSeq - 1)
	return r.build(readOnly)
}

func (r *recovery) name(f Finding) {
	s := r.s
	s.damagedCount += max(f.Records, 1)
	if len(s.findings) < maxFindings {
		s.findings = append(s.findings, f)
	}
	s.log.Error("store: damage", "segment", f.Segment, "offset", f.Offset, "sequence", f.Seq, "records", f.Records, "what", f.What)
}

// segment opens and scans one file.
func (r *recovery) segment(id uint32, buf *[]byte, next uint64) (uint64, error) {
	s := r.s
	f, err := os.OpenFile(s.segPath(id), os.O_RDWR, 0)
	if err != nil {
		return next, fmt.Errorf("store: opening a segment: %w", err)
	}
	g, data, err := readSegment(f, id, buf)
	if err != nil {
		f.Close()
		if errors.Is(err, ErrDamaged) {
			r.name(Finding{Segment: id, Seq: next, What: "a segment's header"})
			r.gaps = append(r.gaps, [2]uint32{id, id})
			return next, nil
		}
		return next, err
	}
	g.f = f
	s.segments = append(s.segments, g)
	r.countGaps(g, next)
	if next == 0 {
		next = g.first
	}
	if g.prev >= next { // the one before ended earlier than it did when this was begun
		r.name(Finding{Segment: id, Seq: next, Records: g.prev - next + 1, What: "records missing at the end of the segment before"})
	}
	next = max(next, g.first)
	r.promise = max(r.promise, g.prev) // the log was synced before this one was begun
	r.seg = g
	g.end, next = scanSegment(g, data, next, r)
	return next, nil
}

// readSegment reads a whole file; its length is bounded.
func readSegment(f *os.File, id uint32, buf *[]byte) (*segment, []byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("store: reading a segment: %w", err)
	}
	size := info.Size()
	if size < segHeader || size > maxFile {
		return nil, nil, ErrDamaged
	}
	head := make([]byte, segHeader)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, nil, fmt.Errorf("store: reading a segment: %w", err)
	}
	g, err := decodeSegHeader(head, id, size)
	if err != nil {
		return nil, nil, err
	}
	n := int(size - g.dataOff)
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	data := (*buf)[:n]
	if _, err := f.ReadAt(data, g.dataOff); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("store: reading a segment: %w", err)
	}
	return g, data, nil
}

// record takes the next record; a new group settles the one before.
func (r *recovery) record(e entry) {
	if e.group > r.group {
		r.settle(false)
		r.group = e.group
	}
	e.head = slices.Clone(e.head)
	r.pending = append(r.pending, pendingEntry{seg: r.seg, entry: e})
}

func (r *recovery) bad(f Finding) {
	r.pending = append(r.pending, pendingEntry{seg: r.seg, damage: &f})
}

// settle applies what is pending. In the last group a batch that is not complete did
// not happen; in an earlier one its other records did, because it was promised.
func (r *recovery) settle(last bool) {
	trailing := 0
	if last {
		for i := len(r.pending) - 1; i >= 0; i-- {
			p := &r.pending[i]
			if p.damage != nil || p.flags&flagEnd != 0 || p.seq <= r.promise {
				break
			}
			trailing++
		}
	}
	for _, p := range r.pending[:len(r.pending)-trailing] {
		if p.damage != nil {
			r.name(*p.damage)
			continue
		}
		if p.bodyBad {
			r.name(Finding{Segment: p.seg.id, Offset: p.off, Seq: p.seq, Records: 1, What: "a record's body"})
		}
		r.apply(&p)
	}
	if last && trailing > 0 {
		r.pending = r.pending[len(r.pending)-trailing:]
		return
	}
	r.pending = r.pending[:0]
}

// finish decides about the end of the log. It returns the sequence to go on with
// when something was cut off.
func (r *recovery) finish(readOnly bool) (uint64, error) {
	torn := -1
	for i := range r.pending {
		p := &r.pending[i]
		if p.damage != nil && p.damage.Seq > r.promise || p.damage == nil && p.bodyBad && p.seq > r.promise {
			torn = i
			break
		}
	}
	rest := r.pending
	if torn >= 0 {
		r.pending = r.pending[:torn]
	}
	r.settle(true)
	cutAt := r.pending // incomplete batch, if any
	if len(cutAt) == 0 && torn >= 0 {
		cutAt = rest[torn:]
	}
	if len(cutAt) == 0 {
		return 0, nil
	}
	first := cutAt[0]
	off, seq := first.off, first.seq
	if first.damage != nil {
		off, seq = first.damage.Offset, first.damage.Seq
	}
	r.s.log.Info("store: a torn tail was cut off; nobody was promised it", "segment", first.seg.id, "offset", off)
	return seq, r.s.cut(first.seg, off, readOnly)
}

// cut removes what lies behind off in the last segment.
func (s *Store) cut(g *segment, off int64, readOnly bool) error {
	g.end = off
	if readOnly {
		return nil
	}
	if err := g.f.Truncate(off); err != nil {
		return fmt.Errorf("store: cutting a torn tail: %w", err)
	}
	if err := g.f.Sync(); err != nil {
		return fmt.Errorf("store: cutting a torn tail: %w", err)
	}
	g.size = off
	return nil
}

// apply replays one record.
func (r *recovery) apply(p *pendingEntry) {
	at := location{seg: p.seg, off: uint32(p.off), headLen: uint32(p.headLen), bodyLen: uint32(p.bodyLen), slot: p.slot}
	switch p.typ {
	case typeDeposit:
		h, _ := decodeDepositHead(p.head)
		if have := r.bodies[p.lsn]; have != nil {
			have.location = at
			return
		}
		size := uint32(max(p.bodyLen-bodyOverhead, 0))
		r.bodies[p.lsn] = &recovered{body{location: at, lsn: p.lsn, size: size, bucket: h.bucket, metaLen: uint16(len(h.meta))}, h.queues}
	case typeAck:
		acks, _ := decodeAcks(p.head)
		for _, a := range acks {
			if b := r.bodies[a.lsn]; b != nil {
				if b.queues = slices.DeleteFunc(b.queues, func(q QueueID) bool { return q == a.queue }); len(b.queues) == 0 {
					delete(r.bodies, a.lsn)
				}
			}
		}
	default:
		key, err := r.s.lasting.open(p.head, adKey)
		if err != nil {
			r.name(Finding{Segment: p.seg.id, Offset: p.off, Seq: p.seq, Records: 1, What: "a lasting record's key does not open"})
			return
		}
		var old *location
		if p.typ == typePut {
			r.s.enter(&at)
			old = r.s.rows.set(string(key), at)
		} else {
			old = r.s.rows.remove(string(key))
		}
		if old != nil {
			r.s.leave(old)
		}
	}
}

// build makes the index from what is left, and overwrites each slot that no living
// body refers to.
func (r *recovery) build(readOnly bool) error {
	s := r.s
	lsns := make([]LSN, 0, len(r.bodies))
	for l := range r.bodies {
		lsns = append(lsns, l)
	}
	slices.Sort(lsns)
	tables := make(map[*segment][]byte)
	living := make(map[*segment][]bool)
	for _, g := range s.segments {
		t := make([]byte, int64(g.slots)*slotBytes)
		if err := g.readAt(t, segHeader); err != nil {
			return fmt.Errorf("store: reading slots: %w", err)
		}
		tables[g], living[g] = t, make([]bool, g.slots)
	}
	for _, l := range lsns {
		b := r.bodies[l]
		if g := b.seg; b.slot < g.slots {
			at := int(b.slot) * slotBytes
			slot := tables[g][at : at+slotBytes]
			if string(slot[:4]) == slotTomb && s.lasting.isTombstone(slot, g.id, b.slot, l) {
				continue // acknowledged: the tombstone is younger than the log's last sync
			}
			living[g][b.slot] = true
		}
		kept := b.body
		s.addBody(&kept, b.queues)
	}
	if readOnly {
		return nil
	}
	for _, g := range s.segments {
		for i := range living[g] {
			if slot := tables[g][i*slotBytes : (i+1)*slotBytes]; !living[g][i] && string(slot[:4]) != slotTomb && !allZero(slot) {
				g.tombs++
				s.tombs = append(s.tombs, tomb{g, uint32(i), 0})
			}
		}
	}
	return nil
}
