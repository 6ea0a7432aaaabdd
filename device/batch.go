package device

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/entente-im/entente/wire"
	"github.com/entente-im/entente/wire/session"
)

// batch is the work on one batch of deliveries: rooms as they will be, and the
// writes that make them so, all in one transaction.
type batch struct {
	d       *Device
	ctx     context.Context
	rooms   map[wire.RoomID]*room
	changed map[wire.RoomID]bool
	writes  []func(*txn) error
	unread  []session.Unread // mailbox numbers of what nobody reads here
	renew   bool             // an epoch ended: the state key is replaced
	joined  bool
	ownKeys bool                 // a member key has come
	left    map[wire.RoomID]bool // whose invitations came from who is blocked
	shut    map[wire.RoomID]bool // whose invitations the rules forbade
	own     map[ownEntry]bool    // noted in this batch
	untaken []untaken            // what waits after it, if changed: waits.go
	rewait  bool
}

// ownEntry is a place of a room's sequence that an entry of our own has.
type ownEntry struct {
	room wire.RoomID
	seq  uint64
}

func (d *Device) newBatch(ctx context.Context) *batch {
	return &batch{d: d, ctx: ctx, rooms: make(map[wire.RoomID]*room), changed: make(map[wire.RoomID]bool), left: make(map[wire.RoomID]bool), shut: make(map[wire.RoomID]bool), own: make(map[ownEntry]bool)}
}

// room returns the room as this batch leaves it.
func (b *batch) room(id wire.RoomID) *room {
	if r := b.rooms[id]; r != nil {
		return r
	}
	r := b.d.rooms[id]
	if r == nil {
		return nil
	}
	c := *r
	b.rooms[id] = &c
	return &c
}

// roomOrID is room, or what is known of one that is not here: its ID.
func (b *batch) roomOrID(id wire.RoomID) *room {
	if r := b.room(id); r != nil {
		return r
	}
	return &room{ID: id}
}

func (b *batch) touch(id wire.RoomID) { b.changed[id] = true }

func (b *batch) commit(mark uint64) error {
	err := b.d.vault.update(func(t *txn) error {
		for id := range b.changed {
			if err := b.rooms[id].save(t); err != nil {
				return err
			}
		}
		for _, w := range b.writes {
			if err := w(t); err != nil {
				return err
			}
		}
		if b.rewait {
			if err := t.putUntaken(b.untaken); err != nil {
				return err
			}
		}
		return errors.Join(t.addUnreported(b.unread), t.putNumber(markName, mark))
	})
	if err != nil {
		return fmt.Errorf("device: storing what was delivered: %w", err)
	}
	for id, r := range b.rooms {
		b.d.rooms[id] = r
	}
	if b.rewait {
		b.d.untaken = b.untaken
	}
	b.d.askSelf = b.d.askSelf || b.joined || b.ownKeys
	if b.renew {
		if err := b.d.vault.rotate(); err != nil {
			return err
		}
	}
	select {
	case b.d.events <- struct{}{}:
	default:
	}
	return nil
}

// show adds something for people to the transaction.
func (b *batch) show(s Shown) {
	b.writes = append(b.writes, func(t *txn) error { return t.show(s) })
}

func (t *txn) show(s Shown) error {
	n, err := t.number("events")
	if err != nil {
		return err
	}
	v, err := json.Marshal(s)
	if err != nil {
		return err
	}
	// By our own clock: a hub's times must not choose the day key.
	if err := t.putHistory(newKey(n+1), t.v.now().Add(HistoryLife), v); err != nil {
		return err
	}
	return t.putNumber("events", n+1)
}

func newKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte("n/"), n) }
