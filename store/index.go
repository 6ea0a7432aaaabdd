package store

import (
	"cmp"
	"slices"
)

// location says where a record lies. It is replaced as a whole, under Store.mu.
type location struct {
	seg     *segment
	off     uint32
	headLen uint32
	bodyLen uint32
	slot    uint32
}

func (l *location) bytes() int64 { return int64(pad8(headerSize + int(l.headLen) + int(l.bodyLen))) }

// body is a deposit that has references left.
type body struct {
	location
	lsn     LSN
	size    uint32 // of the opened body
	bucket  uint32
	refs    uint32
	metaLen uint16
}

// ref is a reference in a queue; b is nil once it was acknowledged.
type ref struct {
	lsn LSN
	b   *body
}

// queue holds its references in rising order. All under Store.mu.
type queue struct {
	refs  []ref
	live  int
	bytes int64
	subs  []chan struct{}
}

// find returns the place of a number in a queue, -1 when it is not there.
func (q *queue) find(lsn LSN) int {
	if q == nil {
		return -1
	}
	i, ok := slices.BinarySearchFunc(q.refs, lsn, func(r ref, l LSN) int { return cmp.Compare(r.lsn, l) })
	if !ok || q.refs[i].b == nil {
		return -1
	}
	return i
}

// after returns the place of the first reference above a number.
func (q *queue) after(lsn LSN) int {
	i, _ := slices.BinarySearchFunc(q.refs, lsn, func(r ref, l LSN) int {
		if r.lsn <= l {
			return -1
		}
		return 1
	})
	return i
}

// squeeze drops acknowledged references when they are the greater part.
func (q *queue) squeeze() {
	if len(q.refs) < 32 || q.live > len(q.refs)/2 {
		if q.live > 0 || len(q.refs) == 0 {
			return
		}
	}
	kept := make([]ref, 0, q.live+q.live/4)
	for _, r := range q.refs {
		if r.b != nil {
			kept = append(kept, r)
		}
	}
	q.refs = kept
}

func (q *queue) wake() {
	for _, c := range q.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (s *Store) queue(id QueueID) *queue {
	q := s.queues[id]
	if q == nil {
		q = &queue{}
		s.queues[id] = q
	}
	return q
}

// addBody enters a deposit and its references, which are above all others.
func (s *Store) addBody(b *body, queues []QueueID) {
	b.refs = uint32(len(queues))
	b.seg.live++
	b.seg.liveBytes += b.bytes()
	s.liveBytes += b.bytes()
	s.refs += len(queues)
	s.byBucket[b.bucket] += len(queues)
	for _, id := range queues {
		q := s.queue(id)
		q.refs = append(q.refs, ref{b.lsn, b})
		q.live++
		q.bytes += int64(b.size)
		q.wake()
	}
}

// ack drops one reference, and with the last one the body.
func (s *Store) ack(a ackRef) {
	q := s.queues[a.queue]
	i := q.find(a.lsn)
	if i < 0 {
		return
	}
	b := q.refs[i].b
	q.refs[i].b = nil
	q.live--
	q.bytes -= int64(b.size)
	if q.squeeze(); q.live == 0 && len(q.subs) == 0 {
		delete(s.queues, a.queue)
	}
	s.refs--
	if s.byBucket[b.bucket]--; s.byBucket[b.bucket] == 0 {
		delete(s.byBucket, b.bucket)
	}
	if b.refs--; b.refs == 0 {
		s.leave(&b.location)
		s.bury(&b.location, b.lsn)
	}
}

// leave takes a record out of its segment's account.
func (s *Store) leave(l *location) {
	l.seg.live--
	l.seg.liveBytes -= l.bytes()
	s.liveBytes -= l.bytes()
}

// enter puts a record into its segment's account.
func (s *Store) enter(l *location) {
	l.seg.live++
	l.seg.liveBytes += l.bytes()
	s.liveBytes += l.bytes()
}

// tomb is a slot that waits for its tombstone.
type tomb struct {
	seg  *segment
	slot uint32
	lsn  LSN
}

// bury has the maintenance overwrite a slot.
func (s *Store) bury(l *location, lsn LSN) {
	if l.slot == noSlot {
		return
	}
	l.seg.tombs++
	s.tombs = append(s.tombs, tomb{l.seg, l.slot, lsn})
}

// apply enters a written record into the index.
func (s *Store) apply(r *record, at location) {
	switch r.typ {
	case typeDeposit:
		if r.commit != nil {
			r.commit(&at)
			return
		}
		meta := r.headLen - depositFixed - 4*len(r.queues)
		s.addBody(&body{location: at, lsn: r.lsn, size: uint32(r.bodyLen - bodyOverhead), bucket: r.bucket, metaLen: uint16(meta)}, r.queues)
	case typeAck:
		for _, a := range r.acks {
			s.ack(a)
		}
	case typePut:
		if r.commit != nil {
			r.commit(&at)
			return
		}
		s.enter(&at)
		if old := s.rows.set(r.key, at); old != nil {
			s.leave(old)
		}
	case typeDelete:
		if old := s.rows.remove(r.key); old != nil {
			s.leave(old)
		}
	}
}
