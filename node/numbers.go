package node

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// numbers gives each device of ours a number for its return handles. A number is
// never given twice; rows stay for good (56 bytes a device).
//
// Rows: "nd/dev/" ‖ number uint32 → device ID.
type numbers struct {
	store *store.Store
	mu    sync.RWMutex
	known map[wire.DeviceID]uint32
	by    map[uint32]wire.DeviceID
	next  uint32
}

const numberPrefix = "nd/dev/"

func openNumbers(s *store.Store) (*numbers, error) {
	n := &numbers{store: s, known: make(map[wire.DeviceID]uint32), by: make(map[uint32]wire.DeviceID), next: 1}
	var after []byte
	for {
		page, err := s.Scan([]byte(numberPrefix), after, 1_000)
		if err != nil {
			return nil, fmt.Errorf("node: device numbers: %w", err)
		}
		for _, kv := range page {
			after = kv.Key
			id, err := wire.Bytes32(kv.Value)
			if err != nil || len(kv.Key) != len(numberPrefix)+4 {
				return nil, fmt.Errorf("node: a device number that does not parse")
			}
			n.set(id, binary.BigEndian.Uint32(kv.Key[len(numberPrefix):]))
		}
		if len(page) < 1_000 {
			return n, nil
		}
	}
}

func (n *numbers) set(id wire.DeviceID, number uint32) {
	n.known[id], n.by[number] = number, id
	n.next = max(n.next, number+1)
}

// give adds a number for a new device to the batch of its enrolment.
func (n *numbers) give(b *store.Batch, id wire.DeviceID) (number uint32, keep func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number = n.next
	n.next++
	b.Put(binary.BigEndian.AppendUint32([]byte(numberPrefix), number), id[:])
	return number, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.set(id, number)
	}
}

// numberFor gives an enrolling device its number in the enrolment's own batch;
// what keep is set to makes it known after the commit.
func (n *Node) numberFor(keep *func()) func(*store.Batch, wire.DeviceID) {
	return func(b *store.Batch, id wire.DeviceID) { _, *keep = n.numbers.give(b, id) }
}

// of returns a device's number.
func (n *numbers) of(id wire.DeviceID) (uint32, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	number, ok := n.known[id]
	if !ok {
		return 0, fmt.Errorf("node: device %s has no number", id)
	}
	return number, nil
}

// device returns the device of a number, or zero.
func (n *numbers) device(number uint32) wire.DeviceID {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.by[number]
}
