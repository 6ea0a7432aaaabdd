package mailbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entente-im/entente/store"
)

// Sweeping: how often, how much in one batch, and how long something that was
// handed out just before its deadline is left for its acknowledgement.
const (
	sweepFloor   = 200 * time.Millisecond
	sweepCeiling = 5 * time.Second
	sweepStep    = 1_000
	sweepMost    = 64_000
	HandoutGrace = 40 * time.Second // wire.SilenceLimit: longer than a session lives without a sign of life
)

// Run sweeps until ctx ends: expired references leave with their events, erased
// inboxes stay empty, room logs keep to their limit. It returns ctx's error; a sweep
// that fails is logged and tried again. P5 does not hang on it: the store destroys
// the keys of an ended bucket by itself.
func (m *Mailbox) Run(ctx context.Context) error {
	tick := time.NewTicker(min(max(m.bucket/10, sweepFloor), sweepCeiling))
	defer tick.Stop()
	for {
		if err := m.Sweep(ctx); err != nil && ctx.Err() == nil {
			m.log.Error("mailbox: sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Sweep does all that is due now and returns when it is done.
func (m *Mailbox) Sweep(ctx context.Context) error {
	return errors.Join(m.tellUntold(ctx), m.expire(ctx), m.eraseAgain(ctx), m.trimLogs(ctx))
}

// expire removes expired references step by step until none is left but those that
// were handed out a moment ago.
func (m *Mailbox) expire(ctx context.Context) error {
	limit := sweepStep
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		seen, gone, err := m.expireStep(ctx, limit)
		if err != nil || seen < limit {
			return err
		}
		if gone == 0 { // all of them wait for their grace: look behind them
			if limit *= 2; limit > sweepMost {
				return nil
			}
		}
	}
}

func (m *Mailbox) expireStep(ctx context.Context, limit int) (seen, gone int, err error) {
	m.sweep.Lock()
	defer m.sweep.Unlock()
	refs, err := m.store.Expired(limit)
	if err != nil {
		return 0, 0, fmt.Errorf("mailbox: looking for what has expired: %w", err)
	}
	now := m.clock.Now()
	var out []leaving
	var strays store.Batch
	stray := 0
	for _, r := range refs {
		b := m.boxOf(r.Queue)
		if r.Queue == reportsQueue { // its body is gone already: nobody is told
			strays.Ack(r.Queue, r.LSN)
			stray++
			continue
		}
		if b == nil { // of a queue that we do not know: nobody can be told
			m.log.Error("mailbox: a reference of an unknown queue", "queue", r.Queue, "lsn", uint64(r.LSN))
			strays.Ack(r.Queue, r.LSN)
			stray++
			continue
		}
		state, due := b.expiry(r.LSN, now)
		if due {
			out = append(out, leaving{box: b, lsn: r.LSN, meta: m.metaOf(r.Queue, r.LSN, r.Meta), state: state, deadline: r.Deadline})
		}
	}
	if stray > 0 {
		if _, err := m.store.Commit(context.WithoutCancel(ctx), &strays); err != nil {
			return len(refs), 0, fmt.Errorf("mailbox: removing strays: %w", err)
		}
	}
	return len(refs), len(out) + stray, m.remove(ctx, out)
}

func (m *Mailbox) boxOf(id store.QueueID) *box {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.byID[id]
}

// expiry says in which state an expired reference leaves, and whether it is due:
// what a device or partner was handed a moment ago it may still acknowledge.
func (b *box) expiry(lsn store.LSN, now time.Time) (State, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, ok := b.handed[lsn]
	switch {
	case b.closed:
		return StateDropped, true
	case !ok:
		return StateExpired, true
	case h.damaged:
		return StateUnreadable, true
	case h.ended:
		return StateExpired, true
	}
	return StateExpired, now.Sub(h.at) >= HandoutGrace
}

// eraseAgain empties erased inboxes that a delivery reached while it was on its way.
func (m *Mailbox) eraseAgain(ctx context.Context) error {
	m.mu.Lock()
	dirty := slices.Collect(maps.Keys(m.dirty))
	clear(m.dirty)
	m.mu.Unlock()
	var errs error
	for _, b := range dirty {
		if err := m.erase(ctx, b); err != nil {
			m.eraseLater(b)
			errs = errors.Join(errs, err)
		}
	}
	return errs
}
