package mailbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// errBody says that a stored body is not an item; only damage can cause it.
var errBody = errors.New("mailbox: a stored body that is not an item")

// Entry is one delivery of a device's inbox.
type Entry struct {
	Seq      uint64 // the mailbox's own order, rising, with gaps
	Envelope *pb.Envelope
	Deadline time.Time
	Err      error // the node's copy is damaged; Envelope is nil, the rest is served
	// Ended: its own deadline has passed, though its bucket has not. It is not for the
	// device to read; its place in the room is.
	Ended bool
}

// Fetch hands out up to n entries (and about bytes of bodies, at least one entry)
// of a device's inbox after a number, in order. They stay until they are
// acknowledged or expire and may be fetched again.
//
// A number above everything handed out since the node started is taken for the
// highest of those: a device whose mark stems from elsewhere (the node was set
// back) misses nothing. An erased inbox answers with the status revoked.
func (m *Mailbox) Fetch(ctx context.Context, device wire.DeviceID, after uint64, n, bytes int) ([]Entry, error) {
	items, err := m.hand(ctx, m.find(boxKey{kindInbox, boxName(device)}), after, n, bytes)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(items))
	for i, it := range items {
		entries[i] = Entry{Seq: uint64(it.lsn), Deadline: it.deadline, Err: it.err}
		if it.err == nil {
			entries[i].Envelope, entries[i].Ended = it.item.Envelope, it.ended
		}
	}
	return entries, nil
}

// handed is an item on its way to a device or partner.
type handedItem struct {
	lsn      store.LSN
	item     *pb.Item
	deadline time.Time
	err      error
	ended    bool // by its own deadline
}

// hand reads a page of a queue and notes what it hands out. It excludes removals
// meanwhile: what is handed out is there.
func (m *Mailbox) hand(ctx context.Context, b *box, after uint64, n, bytes int) ([]handedItem, error) {
	if b == nil || n <= 0 {
		return nil, ctx.Err()
	}
	m.sweep.RLock()
	defer m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	from, err := b.cursor(store.LSN(after))
	if err != nil {
		return nil, err
	}
	page, err := m.store.Fetch(b.id, from, n, bytes)
	if err != nil {
		return nil, fmt.Errorf("mailbox: fetching from queue %d: %w", b.id, err)
	}
	return m.handed(b, page), nil
}

// handed notes that items are handed out. The caller excludes removals.
func (m *Mailbox) handed(b *box, page []store.Item) []handedItem {
	now := m.clock.Now()
	out := make([]handedItem, len(page))
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range page {
		it := handedItem{lsn: p.LSN, deadline: p.Deadline, err: p.Err}
		if it.err == nil {
			it.item, it.err = parseBody(p.Body)
		}
		if it.err != nil {
			m.log.Error("mailbox: damaged", "queue", b.kind.String(), "lsn", uint64(p.LSN), "error", it.err)
		}
		if it.item != nil {
			it.item.Number = uint64(p.LSN)
		}
		meta := m.metaOf(b.id, p.LSN, p.Meta)
		it.ended = b.kind == kindInbox && meta != nil && it.err == nil && m.ended(meta, it.item.Envelope.Core, now)
		out[i] = it
		b.hand(p.LSN, handout{meta: meta, deadline: p.Deadline, at: now, damaged: it.err != nil, ended: it.ended})
	}
	return out
}

// cursor returns where a fetch starts. From the first one on, only what was handed
// out can be acknowledged.
func (b *box) cursor(after store.LSN) (store.LSN, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, wire.Refuse(pb.Code_CODE_REVOKED, "")
	}
	b.legacy = 0
	return min(after, b.high), nil
}

func parseBody(body []byte) (*pb.Item, error) {
	var item pb.Item
	if err := proto.Unmarshal(body, &item); err != nil || item.Envelope == nil {
		return nil, errBody
	}
	return &item, nil
}

// Acked is what a device has stored of its inbox.
type Acked struct {
	Through    uint64   // every number up to here
	Above      []uint64 // and these above it
	Unreadable []uint64 // of them, what nobody reads there; senders are told so
	Expired    []uint64 // of them, what ended before it came
}

// Ack destroys the node's copies of what a device has stored: every reference that it names
// and that was handed out to it. Nothing that was not handed out is touched, with
// one exception for Through: before the first Fetch after a start, what lay there at the start
// counts as handed out, so that an acknowledgement that a crash swallowed can be
// repeated. Repeating an Ack is a success.
//
// When it returns nil, removal and events are written; an Ack that caused no events
// may be undone by a power cut, which delivers again.
func (m *Mailbox) Ack(ctx context.Context, device wire.DeviceID, a Acked) error {
	b := m.find(boxKey{kindInbox, boxName(device)})
	if b == nil {
		return nil
	}
	m.sweep.RLock()
	defer m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	out, err := m.acknowledged(ctx, b, a)
	if err != nil || len(out) == 0 {
		return err
	}
	said := make(map[store.LSN]State)
	for _, seq := range a.Unreadable[:min(len(a.Unreadable), len(out)+wire.DeliverWindow)] {
		said[store.LSN(seq)] = StateUnreadable
	}
	for _, seq := range a.Expired[:min(len(a.Expired), len(out)+wire.DeliverWindow)] {
		said[store.LSN(seq)] = StateExpired
	}
	for i, l := range out {
		if state, ok := said[l.lsn]; ok && l.state == StateAcknowledged {
			out[i].state = state
		}
	}
	return m.remove(ctx, out)
}

// acknowledged lists what an acknowledgement covers.
func (m *Mailbox) acknowledged(ctx context.Context, b *box, a Acked) ([]leaving, error) {
	b.mu.Lock()
	legacy := b.legacy
	through := min(store.LSN(a.Through), max(b.high, legacy))
	b.high, b.acked = max(b.high, through), max(b.acked, through)
	var out []leaving
	for lsn, h := range b.handed {
		if lsn <= through {
			out = append(out, h.leaving(b, lsn))
		}
	}
	for _, seq := range a.Above[:min(len(a.Above), wire.DeliverWindow)] {
		if h, ok := b.handed[store.LSN(seq)]; ok && store.LSN(seq) > through {
			out = append(out, h.leaving(b, store.LSN(seq)))
		}
	}
	b.mu.Unlock()
	slices.SortFunc(out, func(a, c leaving) int { return cmp.Compare(a.lsn, c.lsn) })
	out = slices.CompactFunc(out, func(a, c leaving) bool { return a.lsn == c.lsn }) // Above may name one twice
	if legacy == 0 || through == 0 {
		return out, nil
	}
	err := m.each(ctx, b.id, 0, through, func(p store.Item, meta *meta) {
		h := handout{meta: meta, deadline: p.Deadline}
		out = append(out, h.leaving(b, p.LSN))
	})
	return out, err
}

func (h handout) leaving(b *box, lsn store.LSN) leaving {
	state := StateAcknowledged
	switch {
	case h.damaged:
		state = StateUnreadable
	case h.ended:
		state = StateExpired
	}
	return leaving{box: b, lsn: lsn, meta: h.meta, state: state, deadline: h.deadline}
}

// Wait returns nil as soon as Fetch after the same number would hand out something.
func (m *Mailbox) Wait(ctx context.Context, device wire.DeviceID, after uint64) error {
	return m.wait(ctx, boxKey{kindInbox, boxName(device)}, after)
}

// Usage tells what a device's inbox holds.
func (m *Mailbox) Usage(device wire.DeviceID) Usage {
	return m.usage(boxKey{kindInbox, boxName(device)})
}

func (m *Mailbox) usage(key boxKey) Usage {
	b := m.find(key)
	if b == nil {
		return Usage{}
	}
	u := b.snapshot()
	u.Earliest = m.store.Oldest(b.id)
	return u
}

// Erase closes a device's inbox for good, because the device was revoked: from now
// on it takes nothing and hands out nothing, and what it holds is dropped. Each
// body that nobody else refers to loses its key. Repeating it is a success.
func (m *Mailbox) Erase(ctx context.Context, device wire.DeviceID) error {
	b := m.obtain(boxKey{kindInbox, boxName(device)})
	return m.erase(ctx, b)
}

func (m *Mailbox) erase(ctx context.Context, b *box) error {
	m.sweep.RLock()
	defer m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	var batch store.Batch
	batch.Put(queueKey(b.id), queueRow(b.boxKey, true))
	switch _, err := m.store.Commit(context.WithoutCancel(ctx), &batch); {
	case errors.Is(err, store.ErrFull): // closed in memory; the sweeper writes it down later
		m.eraseLater(b)
	case err != nil:
		return fmt.Errorf("mailbox: closing an inbox: %w", err)
	default:
		b.setDurable()
	}
	var out []leaving
	err := m.each(ctx, b.id, 0, 0, func(p store.Item, meta *meta) {
		out = append(out, leaving{box: b, lsn: p.LSN, meta: meta, state: StateDropped, deadline: p.Deadline})
	})
	if err != nil {
		return err
	}
	return m.remove(ctx, out)
}

func (b *box) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// eraseLater has the sweeper empty a closed box again.
func (m *Mailbox) eraseLater(b *box) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirty[b] = true
}
