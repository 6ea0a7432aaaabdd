package store

import (
	"encoding/binary"
	"fmt"
	"time"
)

// QueueID names a queue; callers allocate them.
type QueueID uint32

// LSN is the number of a deposit: its order in every queue. It is never reused.
type LSN uint64

// Deposit is one body and the queues that get a reference to it.
type Deposit struct {
	Body     []byte    // at most MaxBody; sealed under a random key that is destroyed with the last reference
	Meta     []byte    // at most MaxMeta; sealed under the lasting key, so that it outlives the body's key
	Deadline time.Time // rounded up to the end of a bucket, at least one bucket ahead, at most MaxAhead
	Queues   []QueueID // 1 to MaxQueues, no queue twice
}

// Batch is one transaction. The zero value is empty and ready; nothing is copied
// before Commit, so the caller leaves what it passed alone until then.
type Batch struct {
	ops  []op
	grow bool // holds more than acknowledgements and deletes
	acks bool
}

// op is one step of a batch; typ says which fields count.
type op struct {
	typ     byte
	deposit Deposit
	acks    []ackRef
	key     []byte
	value   []byte
}

type ackRef struct {
	queue QueueID
	lsn   LSN
}

// Committed tells what a Commit gave out.
type Committed struct {
	LSNs []LSN // one for each Deposit, in order
}

// Deposit adds a body with its references.
func (b *Batch) Deposit(d Deposit) {
	b.grow = true
	b.ops = append(b.ops, op{typ: typeDeposit, deposit: d})
}

// Ack drops references of a queue. Numbers that are not there are skipped. With the
// last reference of a body its key is overwritten, synced within a second.
func (b *Batch) Ack(q QueueID, lsns ...LSN) {
	if len(lsns) == 0 {
		return
	}
	b.acks = true
	if n := len(b.ops); n == 0 || b.ops[n-1].typ != typeAck || len(b.ops[n-1].acks)+len(lsns) > maxAcks {
		b.ops = append(b.ops, op{typ: typeAck})
	}
	last := &b.ops[len(b.ops)-1]
	for _, l := range lsns {
		last.acks = append(last.acks, ackRef{q, l})
	}
}

// Put sets a lasting record: key at most MaxKey, value at most MaxValue.
func (b *Batch) Put(key, value []byte) {
	b.grow = true
	b.ops = append(b.ops, op{typ: typePut, key: key, value: value})
}

// Delete removes a lasting record; one that is not there is skipped.
func (b *Batch) Delete(key []byte) { b.ops = append(b.ops, op{typ: typeDelete, key: key}) }

// Len returns the number of steps added.
func (b *Batch) Len() int { return len(b.ops) }

// ackOnly reports whether a batch may be answered before it is synced.
func (b *Batch) ackOnly() bool {
	for i := range b.ops {
		if b.ops[i].typ != typeAck {
			return false
		}
	}
	return true
}

// check bounds a batch before anything is encoded.
func (b *Batch) check(agreed time.Time) error {
	size := 0
	for i := range b.ops {
		o := &b.ops[i]
		switch o.typ {
		case typeDeposit:
			if err := o.deposit.check(agreed); err != nil {
				return err
			}
			size += len(o.deposit.Body) + len(o.deposit.Meta) + 4*len(o.deposit.Queues) + recordOverhead
		case typePut, typeDelete:
			if len(o.key) == 0 || len(o.key) > MaxKey || len(o.value) > MaxValue {
				return fmt.Errorf("%w: a key of %d bytes with a value of %d", ErrTooLarge, len(o.key), len(o.value))
			}
			size += len(o.key) + len(o.value) + recordOverhead
		case typeAck:
			size += ackSize*len(o.acks) + recordOverhead
		}
		if size > MaxBatch {
			return fmt.Errorf("%w: a batch of more than %d bytes", ErrTooLarge, MaxBatch)
		}
	}
	return nil
}

func (d *Deposit) check(agreed time.Time) error {
	if len(d.Body) > MaxBody || len(d.Meta) > MaxMeta {
		return fmt.Errorf("%w: a body of %d bytes with metadata of %d", ErrTooLarge, len(d.Body), len(d.Meta))
	}
	if len(d.Queues) == 0 || len(d.Queues) > MaxQueues {
		return fmt.Errorf("%w: a deposit to %d queues", ErrInvalid, len(d.Queues))
	}
	if d.Deadline.IsZero() || d.Deadline.Sub(agreed) > MaxAhead {
		return ErrDeadline
	}
	if len(d.Queues) > 1 {
		seen := make(map[QueueID]struct{}, len(d.Queues))
		for _, q := range d.Queues {
			if _, twice := seen[q]; twice {
				return fmt.Errorf("%w: queue %d twice in one deposit", ErrInvalid, q)
			}
			seen[q] = struct{}{}
		}
	}
	return nil
}

// encode seals a batch into records, in the caller's goroutine. Numbers, slots and
// the header's checksum are filled in by the committer.
func (s *Store) encode(b *Batch) ([]*record, error) {
	recs := make([]*record, 0, len(b.ops))
	for i := range b.ops {
		o := &b.ops[i]
		switch o.typ {
		case typeDeposit:
			r, err := s.sealDeposit(&o.deposit)
			if err != nil {
				return nil, err
			}
			recs = append(recs, r)
		case typeAck:
			for rest := o.acks; len(rest) > 0; {
				some := rest[:min(len(rest), maxAcks)]
				rest = rest[len(some):]
				recs = append(recs, encodeAck(some))
			}
		case typePut, typeDelete:
			recs = append(recs, s.sealPut(o.typ, o.key, o.value))
		}
	}
	return recs, nil
}

func encodeAck(acks []ackRef) *record {
	r := newRecord(typeAck, len(acks)*ackSize, 0)
	h := r.head()
	for i, a := range acks {
		binary.LittleEndian.PutUint32(h[i*ackSize:], uint32(a.queue))
		binary.LittleEndian.PutUint64(h[i*ackSize+4:], uint64(a.lsn))
	}
	r.acks = acks
	r.sum()
	return r
}
