package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Item is a reference as a queue hands it out.
type Item struct {
	LSN      LSN
	Meta     []byte
	Body     []byte    // nil from Peek
	Deadline time.Time // end of its bucket
	Err      error     // this record is damaged; what of it could be read is there
}

// KV is a lasting record.
type KV struct{ Key, Value []byte }

// ExpiredRef is a reference whose bucket has ended and that was not acknowledged.
type ExpiredRef struct {
	Queue    QueueID
	LSN      LSN
	Meta     []byte // nil when damaged
	Deadline time.Time
}

// tries bounds how often a read follows a record that reclaim moves.
const tries = 8

// Get returns a lasting record: ErrNotFound, or ErrDamaged when it cannot be read.
func (s *Store) Get(key []byte) ([]byte, error) {
	for range tries {
		s.mu.RLock()
		at := s.rows.get(string(key))
		var l location
		if at != nil {
			l = *at
		}
		s.mu.RUnlock()
		if at == nil {
			return nil, ErrNotFound
		}
		v, err := s.readValue(&l, key)
		if !errors.Is(err, errGone) {
			return v, err
		}
	}
	return nil, ErrClosed
}

func (s *Store) readValue(l *location, key []byte) ([]byte, error) {
	b := make([]byte, l.bodyLen)
	if err := l.seg.readAt(b, int64(l.off)+headerSize+int64(l.headLen)); err != nil {
		if errors.Is(err, errGone) {
			return nil, err
		}
		return nil, fmt.Errorf("store: reading a record in segment %d: %w", l.seg.id, err)
	}
	v, err := s.lasting.open(b, adValue(key))
	if err != nil {
		return nil, fmt.Errorf("%w: a lasting record in segment %d at %d", ErrDamaged, l.seg.id, l.off)
	}
	return v, nil
}

// Scan returns up to limit lasting records whose keys have the prefix and are above
// after, in order of their keys. A record that is damaged or deleted meanwhile ends it
// with an error or is left out.
func (s *Store) Scan(prefix, after []byte, limit int) ([]KV, error) {
	var keys []string
	s.mu.RLock()
	if limit > 0 {
		s.rows.scan(string(prefix), string(after), func(r row) bool {
			keys = append(keys, r.key)
			return len(keys) < limit
		})
	}
	s.mu.RUnlock()
	out := make([]KV, 0, len(keys))
	for _, k := range keys {
		v, err := s.Get([]byte(k))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return out, err
		}
		out = append(out, KV{[]byte(k), v})
	}
	if len(out) < len(keys) && len(keys) == limit { // a full page says that there may be more
		rest, err := s.Scan(prefix, []byte(keys[len(keys)-1]), limit-len(out))
		return append(out, rest...), err
	}
	return out, nil
}

// found is a reference looked up in the index.
type found struct {
	body
	at *body
}

// page copies what the index says about up to limit references above a number;
// expired says whether those whose bucket has ended are wanted too.
func (s *Store) page(q QueueID, after LSN, limit, bytes int, expired bool) []found {
	living := max(s.ratchet.living(), livingAt(s.clock.agreed(), s.o.Bucket))
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.queues[q]
	if u == nil || limit <= 0 {
		return nil
	}
	var out []found
	for _, r := range u.refs[u.after(after):] {
		if r.b == nil || !expired && r.b.bucket < living {
			continue
		}
		if bytes -= int(r.b.size); bytes < 0 && len(out) > 0 {
			break
		}
		if out = append(out, found{*r.b, r.b}); len(out) == limit {
			break
		}
	}
	return out
}

// these copies what the index says about some living references.
func (s *Store) these(q QueueID, lsns []LSN) []found {
	living := max(s.ratchet.living(), livingAt(s.clock.agreed(), s.o.Bucket))
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.queues[q]
	if u == nil {
		return nil
	}
	out := make([]found, 0, min(len(lsns), len(u.refs)))
	for _, lsn := range lsns {
		if i := u.find(lsn); i >= 0 && u.refs[i].b.bucket >= living {
			out = append(out, found{*u.refs[i].b, u.refs[i].b})
		}
	}
	return out
}

// Fetch returns references of a queue above a number, in order, opened: up to limitN
// of them and about limitBytes of bodies, one at least. Expired ones are left out. A
// damaged record is named in its own Item.Err and the others are served.
func (s *Store) Fetch(q QueueID, after LSN, limitN, limitBytes int) ([]Item, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	return s.opened(s.page(q, after, limitN, limitBytes, false)), nil
}

// FetchThese returns the named references of a queue, opened, in the order asked for.
// Those that went and those that have expired are left out; damage is named as by Fetch.
func (s *Store) FetchThese(q QueueID, lsns []LSN) ([]Item, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	return s.opened(s.these(q, lsns)), nil
}

func (s *Store) opened(page []found) []Item {
	out := make([]Item, 0, len(page))
	for i := range page {
		if it, ok := s.read(&page[i], s.readItem); ok {
			out = append(out, it)
		}
	}
	return out
}

// Peek returns references with their metadata only, expired ones included.
func (s *Store) Peek(q QueueID, after LSN, limit int) ([]Item, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	page := s.page(q, after, limit, 1<<62, true)
	out := make([]Item, 0, len(page))
	for i := range page {
		it, ok := s.read(&page[i], s.readMeta)
		if ok {
			out = append(out, it)
		}
	}
	return out, nil
}

// read reads one reference, and again when reclaim moved it meanwhile. It is false
// when the reference went.
func (s *Store) read(f *found, do func(*body) Item) (Item, bool) {
	for range tries {
		it := do(&f.body)
		if it.Err == nil {
			return it, true
		}
		s.mu.RLock()
		now := *f.at
		s.mu.RUnlock()
		if now.refs == 0 || errors.Is(it.Err, errExpired) {
			return Item{}, false
		}
		if now.location == f.location {
			s.metrics.damaged.Inc()
			return it, true
		}
		f.body = now
	}
	return Item{}, false
}

// readMeta reads a record's start: header, fixed part, metadata.
func (s *Store) readMeta(b *body) Item {
	it := Item{LSN: b.lsn, Deadline: s.bucketEnd(b.bucket)}
	buf := make([]byte, headerSize+depositFixed+int(b.metaLen))
	if err := b.seg.readAt(buf, int64(b.off)); err != nil {
		it.Err = s.damage(b, err.Error())
		return it
	}
	it.Meta, it.Err = s.openMeta(b, buf[headerSize+depositFixed:])
	return it
}

func (s *Store) openMeta(b *body, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	meta, err := s.lasting.open(sealed, adMeta)
	if err != nil {
		return nil, s.damage(b, "metadata")
	}
	return meta, nil
}

// readItem reads and opens a whole deposit.
func (s *Store) readItem(b *body) Item {
	it := Item{LSN: b.lsn, Deadline: s.bucketEnd(b.bucket)}
	head := headerSize + int(b.headLen)
	buf := make([]byte, head+int(b.bodyLen))
	if err := b.seg.readAt(buf, int64(b.off)); err != nil {
		it.Err = s.damage(b, err.Error())
		return it
	}
	it.Meta, it.Err = s.openMeta(b, buf[headerSize+depositFixed:headerSize+depositFixed+int(b.metaLen)])
	h, err := decodeHeader(b.seg.id, buf)
	switch {
	case err != nil || h.lsn != b.lsn || h.headLen != int(b.headLen) || h.bodyLen != int(b.bodyLen):
		it.Err = s.damage(b, "header")
	case crc32.Checksum(buf[headerSize:head], castagnoli) != h.headCRC:
		it.Err = s.damage(b, "head")
	}
	if it.Err != nil {
		return it
	}
	if b.slot == noSlot { // moved after its bucket had ended
		it.Err = errExpired
		return it
	}
	slot, err := b.seg.readSlot(b.slot)
	if err != nil {
		it.Err = s.damage(b, "slot: "+err.Error())
		return it
	}
	if it.Body, err = s.openBody(&slot, buf[head:], b.bucket); errors.Is(err, errExpired) {
		it.Err = err
	} else if err != nil {
		it.Err = fmt.Errorf("%w: deposit %d in segment %d at %d", err, b.lsn, b.seg.id, b.off)
	}
	return it
}

func (s *Store) damage(b *body, what string) error {
	return fmt.Errorf("%w: deposit %d in segment %d at %d: %s", ErrDamaged, b.lsn, b.seg.id, b.off, what)
}

// Count returns how many references a queue holds and the bytes of their bodies,
// expired ones included until they are acknowledged.
func (s *Store) Count(q QueueID) (n int, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if u := s.queues[q]; u != nil {
		return u.live, u.bytes
	}
	return 0, 0
}

// Oldest returns the earliest deadline in a queue, zero when it is empty.
func (s *Store) Oldest(q QueueID) time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.queues[q]
	if u == nil || u.live == 0 {
		return time.Time{}
	}
	first := ^uint32(0)
	for _, r := range u.refs {
		if r.b != nil {
			first = min(first, r.b.bucket)
		}
	}
	return s.bucketEnd(first)
}

// Expired returns up to limit references whose bucket has ended and that nobody
// acknowledged yet. Their bodies cannot be opened any more; they stay listed, over
// restarts too, until they are acknowledged.
func (s *Store) Expired(limit int) ([]ExpiredRef, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.stepRatchet(); err != nil {
		return nil, s.fail(err)
	}
	type hit struct {
		q QueueID
		f found
	}
	var hits []hit
	living := s.ratchet.living()
	s.mu.RLock()
	ended := 0
	for b, n := range s.byBucket {
		if b < living {
			ended += n
		}
	}
	limit = min(limit, ended)
	for id, q := range s.queues {
		if len(hits) >= limit {
			break
		}
		for _, r := range q.refs {
			if r.b != nil && r.b.bucket < living && len(hits) < limit {
				hits = append(hits, hit{id, found{*r.b, r.b}})
			}
		}
	}
	s.mu.RUnlock()
	out := make([]ExpiredRef, 0, len(hits))
	for i := range hits {
		it, ok := s.read(&hits[i].f, s.readMeta)
		if ok {
			out = append(out, ExpiredRef{Queue: hits[i].q, LSN: it.LSN, Meta: it.Meta, Deadline: it.Deadline})
		}
	}
	return out, nil
}

// EraseQueue acknowledges all that a queue holds.
func (s *Store) EraseQueue(ctx context.Context, q QueueID) error {
	var lsns []LSN
	s.mu.RLock()
	if u := s.queues[q]; u != nil {
		for _, r := range u.refs {
			if r.b != nil {
				lsns = append(lsns, r.lsn)
			}
		}
	}
	s.mu.RUnlock()
	for len(lsns) > 0 {
		some := lsns[:min(len(lsns), maxAcks)]
		lsns = lsns[len(some):]
		var b Batch
		b.Ack(q, some...)
		if _, err := s.Commit(ctx, &b); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe returns a channel that gets a value when the queue has grown; several
// growths may give one. The reads that follow see what was added. Call cancel when
// done.
func (s *Store) Subscribe(q QueueID) (grown <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.queue(q)
	u.subs = append(u.subs, c)
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, have := range u.subs {
			if have == c {
				u.subs = append(u.subs[:i], u.subs[i+1:]...)
				break
			}
		}
		if u.live == 0 && len(u.subs) == 0 && s.queues[q] == u {
			delete(s.queues, q)
		}
	}
}

// headQueues reads the queues of a deposit from its sealed form.
func headQueues(h []byte) []QueueID {
	meta := binary.LittleEndian.Uint32(h[8:])
	out := make([]QueueID, binary.LittleEndian.Uint32(h[12:]))
	for i := range out {
		out[i] = QueueID(binary.LittleEndian.Uint32(h[depositFixed+int(meta)+4*i:]))
	}
	return out
}
