package mailbox

import (
	"context"
	"fmt"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// RoomLog returns up to limit handshakes of a room's generation in their order, beginning
// with the first whose epoch is at least fromEpoch, and whether there are more. The log
// keeps handshakes for 30 days and the latest Limits.Log Commits; a device that
// needs older ones resyncs. A damaged handshake ends what is returned: nothing
// after it could be applied.
func (m *Mailbox) RoomLog(ctx context.Context, room wire.RoomID, generation uint32, fromEpoch uint64, limit int) (envelopes []*pb.Envelope, more bool, err error) {
	b := m.find(boxKey{kindLog, boxName(room)})
	if b == nil || limit <= 0 {
		return nil, false, ctx.Err()
	}
	after, found, err := m.logStart(ctx, b, generation, fromEpoch)
	if err != nil || !found {
		return nil, false, err
	}
	page, err := m.store.Fetch(b.id, after, limit+1, logPageBytes)
	if err != nil {
		return nil, false, fmt.Errorf("mailbox: reading a room log: %w", err)
	}
	for i, p := range page {
		if len(envelopes) == limit {
			return envelopes, true, nil
		}
		if p.Err != nil {
			m.log.Error("mailbox: damaged", "queue", b.kind.String(), "room", room.String(), "lsn", uint64(p.LSN), "error", p.Err)
			return envelopes, false, fmt.Errorf("mailbox: entry %d of a room log is damaged: %w", i, p.Err)
		}
		item, err := parseBody(p.Body)
		if err != nil {
			return envelopes, false, err
		}
		if core, err := wire.ParseCore(item.Envelope.Core); err != nil || core.Generation != generation {
			return envelopes, false, err // the next generation begins here
		}
		envelopes = append(envelopes, item.Envelope)
		after = p.LSN
	}
	// The page may have ended at its bytes instead of at the log's end.
	rest, err := m.store.Peek(b.id, after, 1)
	return envelopes, len(rest) > 0, err
}

// logPageBytes bounds what one call reads: it fits a query's answer
// (wire.MaxQueryFrame) together with one more handshake.
const logPageBytes = 8 << 20

// logStart returns the number before the first handshake of at least an epoch of a
// generation.
func (m *Mailbox) logStart(ctx context.Context, b *box, generation uint32, epoch uint64) (after store.LSN, found bool, err error) {
	err = m.each(ctx, b.id, 0, 0, func(p store.Item, meta *meta) {
		switch {
		case found:
		case meta != nil && meta.generation == generation && meta.epoch >= epoch:
			found = true
		default:
			after = p.LSN
		}
	})
	return after, found, err
}

// trimLogs drops the oldest handshakes of logs with more Commits than allowed.
func (m *Mailbox) trimLogs(ctx context.Context) error {
	m.mu.RLock()
	var long []*box
	for key, b := range m.boxes {
		if key.kind == kindLog && b.commits() > m.limits.Log {
			long = append(long, b)
		}
	}
	m.mu.RUnlock()
	for _, b := range long {
		if err := m.trimLog(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mailbox) trimLog(ctx context.Context, b *box) error {
	m.sweep.RLock()
	defer m.sweep.RUnlock()
	b.removal.Lock()
	defer b.removal.Unlock()
	var all []leaving
	commits := 0
	err := m.each(ctx, b.id, 0, 0, func(p store.Item, meta *meta) {
		all = append(all, leaving{box: b, lsn: p.LSN, meta: meta, state: StateDropped, deadline: p.Deadline})
		if isCommit(meta) {
			commits++
		}
	})
	if err != nil {
		return err
	}
	n := 0
	for ; n < len(all) && commits > m.limits.Log; n++ {
		if isCommit(all[n].meta) {
			commits--
		}
	}
	return m.remove(ctx, all[:n])
}

func isCommit(m *meta) bool { return m != nil && m.kind == pb.Kind_KIND_COMMIT }

func (b *box) commits() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usage.commits
}
