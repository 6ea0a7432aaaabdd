package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/store"
)

// The numbers of deliveries that devices see (docs/protocol.md 6.4). The mailbox numbers what it
// holds by places in the store, which a node that was set back gives again; a device that has
// acknowledged such a number would take the new delivery for one that it has. So each start
// gives its numbers above a base, which follows the time: they are above those of all starts
// before, also of such that a restore has taken.
//
// Rows: "nd/mailbase/" ‖ base uint64; value: version 1 ‖ the store's number at that start uint64.
const mailBasePrefix = "nd/mailbase/"

// maxMailBases bounds the starts whose numbers are understood.
const maxMailBases = 64

// A device that knows numbers that we have not given (we were set back, with our clock) has us
// number above them: at most so far beyond the time, and so often a start, for each time the
// oldest start is forgotten. What others know of the same start lies within mailLeap above.
const (
	mailAhead    = 30 * 24 * time.Hour
	mailLeap     = 1 << 40 // more than a store gives numbers in a start; 18 minutes of time
	maxMailLeaps = 16
)

// mailNumbers turns the store's numbers into devices' and back.
type mailNumbers struct {
	store *store.Store
	now   func() time.Time

	mu    sync.Mutex
	bases []mailBase // rising; the last is that of this start
	leaps int        // that devices have caused
}

// mailBase is a start: its numbers are those of the store plus base; when it began, the store
// was at from.
type mailBase struct{ base, from uint64 }

// openMailNumbers begins the numbers of this start. What is not written (a full disk) is not
// understood after the next start, which then delivers once more what was acknowledged.
func openMailNumbers(s *store.Store, now func() time.Time) (*mailNumbers, error) {
	m := &mailNumbers{store: s, now: now, bases: []mailBase{{}}}
	page, err := s.Scan([]byte(mailBasePrefix), nil, 2*maxMailBases)
	if err != nil {
		return nil, fmt.Errorf("node: the numbers of deliveries: %w", err)
	}
	for _, kv := range page {
		if len(kv.Key) != len(mailBasePrefix)+8 || len(kv.Value) != 9 || kv.Value[0] != 1 {
			return nil, fmt.Errorf("node: a row of the numbers of deliveries does not parse")
		}
		m.bases = append(m.bases, mailBase{binary.BigEndian.Uint64(kv.Key[len(mailBasePrefix):]), binary.BigEndian.Uint64(kv.Value[1:])})
	}
	m.begin(uint64(max(now().UnixNano(), 0)))
	return m, nil
}

// begin goes over to numbers above a base; m.mu is held, or nobody knows m yet.
func (m *mailNumbers) begin(base uint64) {
	last := uint64(m.store.Status().LSN)
	next := mailBase{max(base, m.bases[len(m.bases)-1].base+last+1), last}
	var b store.Batch
	b.Put(binary.BigEndian.AppendUint64([]byte(mailBasePrefix), next.base), binary.BigEndian.AppendUint64([]byte{1}, next.from))
	m.bases = append(m.bases, next)
	for len(m.bases) > maxMailBases+1 {
		b.Delete(binary.BigEndian.AppendUint64([]byte(mailBasePrefix), m.bases[1].base))
		m.bases = append(m.bases[:1:1], m.bases[2:]...)
	}
	_, _ = m.store.Commit(context.Background(), &b)
}

// out is the number under which a device sees one of the store's.
func (m *mailNumbers) out(lsn uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bases[len(m.bases)-1].base + lsn
}

// in is the store's number up to which a device has deliveries; 0 for one of a start that is not
// known here: then nothing counts as acknowledged, and all that waits is delivered.
func (m *mailNumbers) in(number uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	lsn, known := m.find(number)
	if !known && number > m.bases[len(m.bases)-1].base && number < uint64(m.now().Add(mailAhead).UnixNano()) && m.leaps < maxMailLeaps {
		m.leaps++
		m.begin(number + mailLeap) // the clock was set back as well
	}
	return lsn
}

// of is the store's number of one delivery that a device names; 0: of a start that is not
// known here.
func (m *mailNumbers) of(number uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	lsn, _ := m.find(number)
	return lsn
}

// find looks a number up among the starts; m.mu is held.
func (m *mailNumbers) find(number uint64) (lsn uint64, known bool) {
	for k := len(m.bases) - 1; k >= 0; k-- {
		if number <= m.bases[k].base && k > 0 {
			continue
		}
		lsn, given := number-m.bases[k].base, uint64(m.store.Status().LSN)
		if k+1 < len(m.bases) {
			given = m.bases[k+1].from
		}
		if lsn <= given {
			return lsn, true
		}
		return 0, false
	}
	return 0, false
}
