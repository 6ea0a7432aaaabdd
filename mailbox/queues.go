package mailbox

import (
	"encoding/binary"
	"fmt"

	"github.com/entente-im/entente/store"
)

// Rows of queues in the store: "mb/q/" ‖ queue ID (uint32, big-endian) names the
// box. They are never removed, so a queue ID is never given twice: 45 bytes for
// each device, partner and room that this node ever had.
const queuePrefix = "mb/q/"

const (
	queueRowVersion = 1
	queueRowLen     = 1 + 1 + 1 + 32
)

func queueKey(id store.QueueID) []byte {
	return binary.BigEndian.AppendUint32([]byte(queuePrefix), uint32(id))
}

// queueRow is version ‖ kind ‖ closed ‖ name.
func queueRow(key boxKey, closed bool) []byte {
	row := []byte{queueRowVersion, byte(key.kind), 0}
	if closed {
		row[2] = 1
	}
	return append(row, key.name[:]...)
}

func parseQueueRow(key, row []byte) (id store.QueueID, k boxKey, closed bool, err error) {
	if len(key) != len(queuePrefix)+4 || string(key[:len(queuePrefix)]) != queuePrefix {
		return 0, k, false, fmt.Errorf("mailbox: a queue's key of %d bytes", len(key))
	}
	id = store.QueueID(binary.BigEndian.Uint32(key[len(queuePrefix):]))
	if len(row) != queueRowLen || row[0] != queueRowVersion || row[2] > 1 || id == 0 {
		return 0, k, false, fmt.Errorf("mailbox: the row of queue %d is not of this format", id)
	}
	k.kind = kind(row[1])
	if k.kind != kindInbox && k.kind != kindOutbox && k.kind != kindLog {
		return 0, k, false, fmt.Errorf("mailbox: queue %d is of kind %d", id, row[1])
	}
	copy(k.name[:], row[3:])
	return id, k, row[2] == 1, nil
}

// loadQueues reads all rows; two rows for one box, or one that does not parse, mean
// that the store holds something else than we wrote.
func (m *Mailbox) loadQueues() error {
	var after []byte
	for {
		rows, err := m.store.Scan([]byte(queuePrefix), after, scanPage)
		if err != nil {
			return fmt.Errorf("mailbox: reading the queues: %w", err)
		}
		for _, row := range rows {
			id, key, closed, err := parseQueueRow(row.Key, row.Value)
			if err != nil {
				return err
			}
			if m.boxes[key] != nil {
				return fmt.Errorf("mailbox: queues %d and %d are for the same box", m.boxes[key].id, id)
			}
			b := newBox(key, id)
			b.durable, b.closed = true, closed
			m.boxes[key], m.byID[id] = b, b
			m.next = max(m.next, id+1)
			after = row.Key
		}
		if len(rows) < scanPage {
			return nil
		}
	}
}

// find returns the box of key, or nil when there has never been one.
func (m *Mailbox) find(key boxKey) *box {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.boxes[key]
}

// obtain returns the box of key, giving it a queue ID when it has none yet. The row
// goes into the first batch that uses the box, and again into every other one until
// one is known to be durable: whichever of them commits, the queue has its name.
func (m *Mailbox) obtain(key boxKey) *box {
	if b := m.find(key); b != nil {
		return b
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.boxes[key]; b != nil {
		return b
	}
	b := newBox(key, m.next)
	m.next++
	m.boxes[key], m.byID[b.id] = b, b
	return b
}

// putRow adds the box's row to the batch unless it is durable already.
func (b *box) putRow(batch *store.Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.durable {
		batch.Put(queueKey(b.id), queueRow(b.boxKey, b.closed))
	}
}

func (b *box) setDurable() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable = true
}
