package store

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Bounds of a group: what one fdatasync carries, unless one batch is larger.
const (
	groupBytes   = 2 << 20
	groupRefs    = 2_048
	groupBatches = 1_024
	smallBatch   = 256 << 10 // what a batch with acknowledgements may use of the reserve
)

// request is a batch on its way through the committer, or a step of the maintenance
// that must not meet one.
type request struct {
	recs  []*record
	sync  bool
	run   func() // instead of records
	bytes int
	refs  int
	lsns  []LSN
	done  chan error
}

// Commit writes a batch. When it returns nil the batch is on stable storage (one of
// acknowledgements alone: written, synced within a second) and every read sees it.
// ErrFull, ErrTooLarge, ErrInvalid and ErrDeadline mean that nothing was written;
// after any other error the batch may or may not be there. ctx ends only the wait for
// a place in the line: what is being written is waited for.
func (s *Store) Commit(ctx context.Context, b *Batch) (Committed, error) {
	if b == nil || len(b.ops) == 0 {
		return Committed{}, ctx.Err()
	}
	if err := s.failed(); err != nil {
		return Committed{}, err
	}
	if err := b.check(s.clock.agreed()); err != nil {
		return Committed{}, err
	}
	recs, err := s.encode(b)
	if err != nil {
		return Committed{}, err
	}
	r := &request{recs: recs, sync: !b.ackOnly(), done: make(chan error, 1)}
	for _, rec := range recs {
		r.bytes += len(rec.buf)
		r.refs += len(rec.queues) + len(rec.acks)/8
	}
	if b.grow && s.full.Load() > 0 && !(b.acks && s.full.Load() == 1 && r.bytes <= smallBatch) {
		s.metrics.refused.Inc()
		return Committed{}, ErrFull
	}
	if err := s.submit(ctx, r); err != nil {
		return Committed{}, err
	}
	return Committed{LSNs: r.lsns}, nil
}

// submit hands a request to the committer and waits until it is done.
func (s *Store) submit(ctx context.Context, r *request) error {
	s.gate.RLock()
	if s.closing {
		s.gate.RUnlock()
		return ErrClosed
	}
	select {
	case s.requests <- r:
		s.gate.RUnlock()
	case <-ctx.Done():
		s.gate.RUnlock()
		return ctx.Err()
	}
	return <-r.done
}

// commitLoop is the committer: the only writer of the log.
func (s *Store) commitLoop() {
	var held *request
	group := make([]*request, 0, groupBatches)
	for {
		r := held
		held = nil
		if r == nil {
			var ok bool
			if r, ok = <-s.requests; !ok {
				return
			}
		}
		if r.run != nil {
			r.run()
			r.done <- nil
			continue
		}
		group = append(group[:0], r)
		held = s.gather(&group)
		err := s.writeGroup(group)
		for _, r := range group {
			r.done <- err
		}
	}
}

// gather adds what waits, up to the bounds, and returns what did not fit.
func (s *Store) gather(group *[]*request) *request {
	bytes, refs := (*group)[0].bytes, (*group)[0].refs
	for len(*group) < groupBatches {
		select {
		case r, ok := <-s.requests:
			if !ok {
				return nil
			}
			if r.run != nil || bytes+r.bytes > groupBytes || refs+r.refs > groupRefs {
				return r
			}
			bytes, refs = bytes+r.bytes, refs+r.refs
			*group = append(*group, r)
		default:
			return nil
		}
	}
	return nil
}

// writeGroup writes batches with one fdatasync and enters them into the index. When
// it returns nil each of them is done as promised; else none was promised.
func (s *Store) writeGroup(group []*request) error {
	if err := s.failed(); err != nil {
		return err
	}
	bytes, slots, sync := int64(0), uint32(0), false
	for _, r := range group {
		bytes += int64(r.bytes)
		sync = sync || r.sync
		for _, rec := range r.recs {
			if rec.hasSlot {
				slots++
			}
		}
	}
	if err := s.room(bytes, slots); err != nil {
		return err
	}
	g := s.active
	places := s.lay(g, group)
	if wait := s.o.hooks.answerBeforeWrite; wait != nil {
		for _, r := range group {
			if r.done != nil { // nobody waits for what reclaim moves
				r.done <- nil
			}
		}
		wait()
	}
	if err := s.writeLaid(g, bytes, slots, sync); err != nil {
		return s.fail(err)
	}
	s.applyGroup(group, places)
	return nil
}

// room makes sure that the active segment takes a group.
func (s *Store) room(bytes int64, slots uint32) error {
	if g := s.active; g != nil {
		if g.end+bytes <= g.size && g.nextSlot+slots <= g.slots {
			return nil
		}
		if err := s.syncLog(); err != nil {
			return err
		}
	}
	return s.roll(bytes, slots)
}

// lay gives each record its number and place and copies it into the group's buffer.
func (s *Store) lay(g *segment, group []*request) []location {
	s.groupNo++
	s.buf, s.slotBuf = s.buf[:0], s.slotBuf[:0]
	var places []location
	slot := g.nextSlot
	for _, r := range group {
		for i, rec := range r.recs {
			at := location{seg: g, off: uint32(g.end) + uint32(len(s.buf)), headLen: uint32(rec.headLen), bodyLen: uint32(rec.bodyLen), slot: noSlot}
			if rec.hasSlot {
				at.slot = slot
				slot++
				s.slotBuf = append(s.slotBuf, rec.slot[:]...)
			}
			flags := byte(0)
			if i == len(r.recs)-1 {
				flags |= flagEnd
			}
			if rec.commit != nil {
				flags |= flagMoved
			} else if rec.typ == typeDeposit {
				rec.lsn = LSN(s.nextSeq)
				r.lsns = append(r.lsns, rec.lsn)
			}
			rec.place(g.id, s.nextSeq, s.groupNo, at.slot, flags)
			s.nextSeq++
			s.buf = append(s.buf, rec.buf...)
			places = append(places, at)
		}
	}
	return places
}

// writeLaid writes the group's slots and records, and syncs both with one call.
func (s *Store) writeLaid(g *segment, bytes int64, slots uint32, sync bool) error {
	if len(s.slotBuf) > 0 {
		if _, err := g.f.WriteAt(s.slotBuf, segHeader+int64(g.nextSlot)*slotBytes); err != nil {
			return fmt.Errorf("store: writing slots: %w", err)
		}
	}
	if _, err := g.f.WriteAt(s.buf, g.end); err != nil {
		return fmt.Errorf("store: writing the log: %w", err)
	}
	g.end += bytes
	g.nextSlot += slots
	s.written.Store(s.nextSeq - 1)
	s.metrics.groups.Inc()
	s.metrics.bytes.Add(float64(bytes))
	if cap(s.buf) > 2*groupBytes { // one large batch must not stay in memory
		s.buf = nil
	}
	if !sync || s.o.hooks.answerBeforeSync {
		return nil
	}
	return s.syncLog()
}

// syncLog makes all that was written durable. The committer alone calls it.
func (s *Store) syncLog() error {
	seq := s.written.Load()
	if s.synced.Load() >= seq || s.o.hooks.answerBeforeSync {
		return nil
	}
	err := datasync(s.active.f)
	if err == nil && s.o.hooks.syncError != nil {
		err = s.o.hooks.syncError()
	}
	if err != nil {
		return s.fail(fmt.Errorf("store: syncing the log: %w", err))
	}
	s.synced.Store(seq)
	return nil
}

func (s *Store) applyGroup(group []*request, places []location) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range group {
		for _, rec := range r.recs {
			s.apply(rec, places[n])
			n++
			if rec.typ == typeDeposit && rec.commit == nil {
				s.metrics.deposits.Inc()
			}
		}
	}
}

// fail records that a write or sync failed: from now on nothing is promised.
func (s *Store) fail(err error) error {
	if errors.Is(err, ErrFull) || errors.Is(err, ErrClosed) {
		return err
	}
	if s.broken.CompareAndSwap(nil, &err) {
		s.log.Error("store: a write failed; nothing is promised until a restart", "error", err.Error(), "full", errors.Is(err, syscall.ENOSPC))
	}
	return fmt.Errorf("%w (%v)", ErrBroken, err)
}

func (s *Store) failed() error {
	if err := s.broken.Load(); err != nil {
		return fmt.Errorf("%w (%v)", ErrBroken, *err)
	}
	return nil
}
