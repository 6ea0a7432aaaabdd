package store

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"time"
)

// moveStep bounds what one step of reclaim copies while the committer waits.
const moveStep = 512 << 10

// maintain does what is due until the store closes: it steps the ratchet, overwrites
// slots, syncs what acknowledgements left unsynced, writes marks, watches the free
// space and gives back segments.
func (s *Store) maintain() {
	defer s.wg.Done()
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-t.C:
			if s.failed() == nil {
				s.tick()
			}
		}
	}
}

func (s *Store) tick() {
	held := s.clock.isHeld()
	if held != s.wasHeld {
		s.log.Warn("store: the clock is off", "held", held)
		s.wasHeld = held
	}
	if err := s.stepRatchet(); err != nil {
		s.fail(err)
		return
	}
	s.watchSpace()
	if err := s.settle(); err != nil {
		return
	}
	s.reclaim()
}

// settle makes durable what was answered before: acknowledgements, tombstones,
// marks. When it returns nil no body that was dead at the call has a key on disk.
func (s *Store) settle() error {
	if s.written.Load() > s.synced.Load() {
		if err := s.inCommitter(s.syncLog); err != nil {
			return err
		}
	}
	if err := s.writeTombs(); err != nil {
		return s.fail(err)
	}
	synced, clock := s.synced.Load(), s.clock.agreed().UnixNano()
	s.marks.update(func(m *markState) { m.seq, m.clock = max(m.seq, synced), clock })
	return s.SyncMarks()
}

// inCommitter runs do between two groups.
func (s *Store) inCommitter(do func() error) error {
	var err error
	r := &request{run: func() { err = do() }, done: make(chan error, 1)}
	if sent := s.submit(context.Background(), r); sent != nil {
		return sent
	}
	return err
}

// writeTombs overwrites the slots of dead bodies, neighbours with one write, and
// syncs each segment once.
func (s *Store) writeTombs() error {
	s.mu.Lock()
	tombs := s.tombs
	s.tombs = nil
	s.mu.Unlock()
	bySeg := make(map[*segment][]tomb)
	for _, t := range tombs {
		bySeg[t.seg] = append(bySeg[t.seg], t)
	}
	for g, ts := range bySeg {
		slices.SortFunc(ts, func(a, b tomb) int { return int(a.slot) - int(b.slot) })
		for len(ts) > 0 {
			n := 1
			for n < len(ts) && ts[n].slot == ts[n-1].slot+1 {
				n++
			}
			b := make([]byte, 0, n*slotBytes)
			for _, t := range ts[:n] {
				v := s.lasting.tombstone(g.id, t.slot, t.lsn)
				b = append(b, v[:]...)
			}
			if _, err := g.f.WriteAt(b, segHeader+int64(ts[0].slot)*slotBytes); err != nil {
				return fmt.Errorf("store: writing tombstones: %w", err)
			}
			ts = ts[n:]
		}
		if err := datasync(g.f); err != nil {
			return fmt.Errorf("store: syncing tombstones: %w", err)
		}
	}
	s.mu.Lock()
	for _, t := range tombs {
		t.seg.tombs--
	}
	s.mu.Unlock()
	return nil
}

// watchSpace sets the watermark: 1 when the free space is below the reserve, 2 when
// only acknowledgements may go on.
func (s *Store) watchSpace() {
	if s.o.Reserve < 0 {
		return
	}
	free, err := freeBytes(s.o.Dir)
	if err != nil {
		return
	}
	level := int32(0)
	if free < s.o.Reserve {
		level = 1
	}
	if free < s.o.Reserve/4 {
		level = 2
	}
	s.free.Store(free)
	if old := s.full.Swap(level); (old == 0) != (level == 0) {
		s.log.Warn("store: free space", "bytes", free, "reserve", s.o.Reserve, "full", level > 0)
	}
}

// reclaim removes the oldest segments that hold nothing living; when the garbage is
// more than what is live and the slack it moves the oldest one's survivors to the
// head first. Oldest first: then no acknowledgement is needed once its segment went.
func (s *Store) reclaim() {
	for s.failed() == nil {
		s.mu.RLock()
		var g *segment
		if len(s.segments) > 1 && s.segments[0] != s.active {
			g = s.segments[0]
		}
		total := int64(0)
		for _, x := range s.segments {
			total += x.size
		}
		live, tombs, much := 0, 0, total > 2*s.liveBytes+s.o.Slack
		if g != nil {
			live, tombs = g.live, g.tombs
		}
		s.mu.RUnlock()
		if g == nil || g == s.stuck || live > 0 && (!much || s.full.Load() > 1) {
			return
		}
		if live > 0 {
			if err := s.evacuate(g); err != nil {
				return
			}
		}
		if live > 0 || tombs > 0 {
			if err := s.settle(); err != nil {
				return
			}
		}
		if !s.removeOldest(g) {
			return
		}
	}
}

// removeOldest unlinks a segment that nothing refers to. The mark comes first, so
// that a missing segment is told from a removed one.
func (s *Store) removeOldest(g *segment) bool {
	s.mu.Lock()
	if s.segments[0] != g || g.live > 0 || g.tombs > 0 {
		s.mu.Unlock()
		return false
	}
	s.segments = s.segments[1:]
	s.mu.Unlock()
	s.marks.update(func(m *markState) { m.oldest = g.id + 1 })
	if err := s.SyncMarks(); err != nil {
		return false
	}
	if err := os.Remove(s.segPath(g.id)); err != nil {
		s.fail(fmt.Errorf("store: removing a segment: %w", err))
		return false
	}
	g.close()
	s.metrics.reclaimed.Inc()
	return true
}

// evacuate copies a segment's survivors to the head, step by step.
func (s *Store) evacuate(g *segment) error {
	var buf []byte
	_, data, err := readSegment(g.f, g.id, &buf)
	if err != nil {
		return s.fail(err)
	}
	c := &survivors{}
	scanSegment(g, data, g.first, c)
	for rest := c.entries; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && (n == 0 || size+rest[n].size() <= moveStep) && n < groupRefs {
			size += rest[n].size()
			n++
		}
		step := rest[:n]
		rest = rest[n:]
		if err := s.inCommitter(func() error { return s.move(g, data, step) }); err != nil {
			return err
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if g.live > 0 { // damaged since it was indexed: the next Open names it and gives it up
		s.stuck = g
		s.log.Error("store: records of a segment cannot be moved", "segment", g.id, "records", g.live)
		return ErrDamaged
	}
	return nil
}

// survivors collects the records that may be alive.
type survivors struct{ entries []entry }

func (c *survivors) bad(Finding) {}
func (c *survivors) record(e entry) {
	if e.typ == typeDeposit || e.typ == typePut {
		c.entries = append(c.entries, e)
	}
}

// move writes the living ones among some records anew, ciphertexts as they are, and
// syncs them; then their old slots get tombstones. It runs in the committer.
func (s *Store) move(g *segment, data []byte, step []entry) error {
	r := &request{sync: true}
	for i := range step {
		rec := s.moved(g, data, &step[i])
		if rec == nil {
			continue
		}
		r.recs = append(r.recs, rec)
		r.bytes += len(rec.buf)
	}
	if len(r.recs) == 0 {
		return nil
	}
	return s.writeGroup([]*request{r})
}

// moved makes the copy of one record, nil when it is not alive here.
func (s *Store) moved(g *segment, data []byte, e *entry) *record {
	start := int(e.off - g.dataOff)
	bodyBytes := data[start+headerSize+e.headLen : start+headerSize+e.headLen+e.bodyLen]
	if e.typ == typePut {
		key, err := s.lasting.open(e.head, adKey)
		if err != nil {
			return nil
		}
		s.mu.RLock()
		at := s.rows.get(string(key))
		s.mu.RUnlock()
		if at == nil || at.seg != g || int64(at.off) != e.off {
			return nil
		}
		rec := copyRecord(e, e.head, bodyBytes)
		rec.key = string(key)
		rec.commit = func(to *location) { s.leave(at); s.enter(to); *at = *to }
		return rec
	}
	s.mu.RLock()
	var b *body
	var queues []QueueID
	for _, id := range headQueues(e.head) {
		q := s.queues[id]
		if i := q.find(e.lsn); i >= 0 {
			b = q.refs[i].b
			queues = append(queues, id)
		}
	}
	s.mu.RUnlock()
	if b == nil || b.seg != g || int64(b.off) != e.off {
		return nil
	}
	return s.movedDeposit(b, e, queues, bodyBytes)
}

func (s *Store) movedDeposit(b *body, e *entry, queues []QueueID, sealed []byte) *record {
	d, err := decodeDepositHead(e.head)
	if err != nil {
		return nil
	}
	slot, err := b.seg.readSlot(b.slot)
	expired := b.bucket < s.ratchet.living() || b.slot == noSlot
	if expired || err != nil {
		sealed = nil // its key is gone: what is left is the metadata for the notice
	}
	head := make([]byte, depositFixed+len(d.meta)+4*len(queues))
	encodeDepositHead(head, d.bucket, d.meta, queues)
	rec := copyRecord(e, head, sealed)
	rec.bucket, rec.queues, rec.lsn = d.bucket, queues, e.lsn
	rec.hasSlot, rec.slot = !expired && err == nil, slot
	rec.commit = func(to *location) {
		old := b.location
		s.leave(&old)
		s.bury(&old, b.lsn)
		s.enter(to)
		b.location = *to
	}
	return rec
}

// copyRecord keeps the body's checksum, so that damage stays named.
func copyRecord(e *entry, head, sealed []byte) *record {
	rec := newRecord(e.typ, len(head), len(sealed))
	copy(rec.head(), head)
	copy(rec.body(), sealed)
	rec.sum()
	if e.bodyBad && len(sealed) > 0 {
		copy(rec.buf[52:], []byte{0, 0, 0, 0})
		if crc32.Checksum(sealed, castagnoli) == 0 {
			rec.buf[52] = 1
		}
	}
	return rec
}
