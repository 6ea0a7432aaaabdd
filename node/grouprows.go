package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// A PublicGroup is stored as a snapshot, and what each Commit or proposal since has changed
// of it: a delta of a leaf and its path instead of a tree that is as long as the room. Each
// delta names the state that it follows, and applying it verifies the tree hash
// (mls.ApplyDelta); a new snapshot takes their place when they outgrow it.

// maxDeltas bounds how many deltas a start applies to one room.
const maxDeltas = 256

// groupRows is what is stored of a room's group: how long the snapshot is, and the deltas.
type groupRows struct {
	snapshot int
	deltas   uint32
	bytes    int
}

// deltaKey names the nth delta after the snapshot, from 1.
func deltaKey(id wire.RoomID, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(roomKey(deltaPrefix, id), '/'), n)
}

// put writes what makes before, which is stored, into next, and returns what is stored then.
func (g groupRows) put(b *store.Batch, id wire.RoomID, before, next *mls.PublicGroup) groupRows {
	if before != nil && g.snapshot > 0 && g.deltas < maxDeltas {
		if delta := before.Delta(next); g.bytes+len(delta) <= g.snapshot {
			g.deltas, g.bytes = g.deltas+1, g.bytes+len(delta)
			b.Put(deltaKey(id, g.deltas), delta)
			return g
		}
	}
	snapshot := next.Marshal()
	b.Put(roomKey(groupPrefix, id), snapshot)
	for n := range g.deltas {
		b.Delete(deltaKey(id, n+1))
	}
	return groupRows{snapshot: len(snapshot)}
}

// readGroup reads a room's group; nil when it is not ordered here.
func (rs *rooms) readGroup(id wire.RoomID) (*mls.PublicGroup, groupRows, error) {
	var rows groupRows
	snapshot, err := rs.store.Get(roomKey(groupPrefix, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, rows, nil
	}
	if err != nil {
		return nil, rows, err
	}
	rows.snapshot = len(snapshot)
	group, err := mls.UnmarshalPublicGroup(snapshot, rs.options)
	if err != nil {
		return nil, rows, err
	}
	page, err := rs.store.Scan(append(roomKey(deltaPrefix, id), '/'), nil, maxDeltas+1)
	if err != nil {
		return nil, rows, err
	}
	for _, kv := range page {
		rows.deltas++
		rows.bytes += len(kv.Value)
		if !bytes.Equal(kv.Key, deltaKey(id, rows.deltas)) {
			return nil, rows, fmt.Errorf("node: delta %d is missing", rows.deltas)
		}
		if group, err = group.ApplyDelta(kv.Value); err != nil {
			return nil, rows, fmt.Errorf("node: delta %d: %w", rows.deltas, err)
		}
	}
	return group, rows, rs.checkGroup(id, group)
}

// checkGroup compares a group that was read with the GroupInfo of the room's epoch, which is
// stored with each Commit: a delta that is missing at the end makes another context.
func (rs *rooms) checkGroup(id wire.RoomID, group *mls.PublicGroup) error {
	info, err := rs.store.Get(roomKey(infoPrefix, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := mls.ParseMessage(info)
	if err != nil {
		return err
	}
	if m.GroupInfo == nil || !bytes.Equal(m.GroupInfo.Context.Encode(), group.Context()) {
		return errors.New("node: the stored group is not that of its GroupInfo")
	}
	return nil
}
