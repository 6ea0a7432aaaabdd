package mailbox

import (
	"context"
	"fmt"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Outbox is a partner's queue: items wait until the partner takes them, refuses
// them for good, or their deadline ends.
type Outbox struct {
	m   *Mailbox
	key boxKey
}

// Outbox returns the queue of a partner, which may be empty.
func (m *Mailbox) Outbox(partner wire.OrganizationID) *Outbox {
	return &Outbox{m, boxKey{kindOutbox, boxName(partner)}}
}

// OutEntry is one item of an outbox. Numbers rise for the life of the store.
type OutEntry struct {
	Number   uint64
	Item     *pb.Item // its number is set
	Deadline time.Time
	Err      error // our copy is damaged; Item is nil
}

// Settlement is a partner's answer to one item.
type Settlement struct {
	Number uint64
	Status *pb.Status
}

// Listed is an item of an outbox as it waits there, unopened.
type Listed struct {
	Number  uint64
	Room    wire.RoomID // zero for what has none, or whose metadata is damaged
	Size    int         // bytes
	Message bool        // of class message
}

// List names up to n items after a number, in order, with what planning needs: who
// sends them opens only those that are next.
func (o *Outbox) List(ctx context.Context, after uint64, n int) ([]Listed, error) {
	b := o.m.find(o.key)
	if b == nil {
		return nil, ctx.Err()
	}
	page, err := o.m.store.Peek(b.id, store.LSN(after), n)
	if err != nil {
		return nil, fmt.Errorf("mailbox: reading queue %d: %w", b.id, err)
	}
	out := make([]Listed, len(page))
	for i, p := range page {
		out[i].Number = uint64(p.LSN)
		if meta := o.m.metaOf(b.id, p.LSN, p.Meta); meta != nil {
			out[i].Room, out[i].Size = meta.room, int(meta.size)
			out[i].Message = meta.class == pb.Class_CLASS_MESSAGE
		}
	}
	return out, nil
}

// Open hands out the named items in the order asked for; those that went or have
// expired are left out. They stay until they are settled or expire.
func (o *Outbox) Open(ctx context.Context, numbers []uint64) ([]OutEntry, error) {
	b := o.m.find(o.key)
	if b == nil {
		return nil, ctx.Err()
	}
	lsns := make([]store.LSN, len(numbers))
	for i, n := range numbers {
		lsns[i] = store.LSN(n)
	}
	o.m.sweep.RLock()
	defer o.m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	page, err := o.m.store.FetchThese(b.id, lsns)
	if err != nil {
		return nil, fmt.Errorf("mailbox: fetching from queue %d: %w", b.id, err)
	}
	items := o.m.handed(b, page)
	out := make([]OutEntry, len(items))
	for i, it := range items {
		out[i] = OutEntry{Number: uint64(it.lsn), Item: it.item, Deadline: it.deadline, Err: it.err}
	}
	return out, nil
}

// Settle removes what the partner has answered: a success leaves as stored, a
// refusal for good as refused, deadlinePassed as expired. What may succeed later
// stays: temporary refusals of everything, what is quarantined, and refusals by
// policy of handshakes that fan out: after a suspension they are needed.
// Numbers that were not handed out or are gone are skipped, so repeating it is a
// success. When it returns nil, removal and events are written.
func (o *Outbox) Settle(ctx context.Context, settlements []Settlement) error {
	b := o.m.find(o.key)
	if b == nil {
		return nil
	}
	o.m.sweep.RLock()
	defer o.m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	var out []leaving
	chosen := make(map[store.LSN]bool)
	b.mu.Lock()
	for _, s := range settlements {
		lsn := store.LSN(s.Number)
		h, ok := b.handed[lsn]
		if !ok || chosen[lsn] {
			continue
		}
		if l := h.leaving(b, lsn); answered(&l, s.Status) {
			chosen[lsn] = true
			out = append(out, l)
		}
	}
	b.mu.Unlock()
	return o.m.remove(ctx, out)
}

// answered decides what a partner's answer does to an item, and whether it leaves.
func answered(l *leaving, s *pb.Status) bool {
	if s == nil {
		return false
	}
	l.status = s
	switch wire.ClassOf(s.Code) {
	case wire.Success:
		l.state = StateStored
		return true
	case wire.Temporary:
		// wrongEpoch is temporary for the device, which encrypts anew; the bytes that
		// were refused never become right.
		if s.Code != pb.Code_CODE_WRONG_EPOCH {
			return false
		}
	case wire.Policy:
		fansOut := l.meta != nil && l.meta.class == pb.Class_CLASS_HANDSHAKE && l.meta.item == pb.ItemKind_ITEM_KIND_FANOUT
		if fansOut || s.Code == pb.Code_CODE_QUARANTINED {
			return false
		}
	}
	l.state = StateRefused
	if s.Code == pb.Code_CODE_DEADLINE_PASSED {
		l.state = StateExpired
	}
	return true
}

// Drop removes what the partner will never get, because people decided so: the
// agreement was suspended or has ended. Messages, and handshakes that wait for the
// partner as hub, leave as refused with the given status; handshakes that fan out
// and control stay unless all is set (the partner is gone). It returns how many
// left; when the error is nil, all of them have, and their events are written.
func (o *Outbox) Drop(ctx context.Context, status *pb.Status, all bool) (int, error) {
	b := o.m.find(o.key)
	if b == nil {
		return 0, nil
	}
	o.m.sweep.RLock()
	defer o.m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	var out []leaving
	err := o.m.each(ctx, b.id, 0, 0, func(p store.Item, meta *meta) {
		kept := meta != nil && meta.class != pb.Class_CLASS_MESSAGE && meta.item != pb.ItemKind_ITEM_KIND_SUBMIT
		if all || !kept {
			out = append(out, leaving{box: b, lsn: p.LSN, meta: meta, state: StateRefused, deadline: p.Deadline, status: status})
		}
	})
	if err != nil {
		return 0, err
	}
	return len(out), o.m.remove(ctx, out)
}

// Wait returns nil as soon as Fetch after the same number would hand out something.
func (o *Outbox) Wait(ctx context.Context, after uint64) error { return o.m.wait(ctx, o.key, after) }

// Usage tells what the outbox holds.
func (o *Outbox) Usage() Usage { return o.m.usage(o.key) }
