package mailbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/store"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/prometheus/client_golang/prometheus"
)

// removeMetrics count what leaves the queues and why.
type removeMetrics struct {
	left *prometheus.CounterVec // queue, class, state
}

func newRemoveMetrics() removeMetrics {
	return removeMetrics{left: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "entente_mailbox_left_total", Help: "References that left a queue.",
	}, []string{"queue", "class", "state"})}
}

// removeStep bounds the references that one batch removes: with its events it stays
// small enough for the reserve that the store keeps for removals.
const removeStep = 250

// leaving is a reference on its way out.
type leaving struct {
	box      *box
	lsn      store.LSN
	meta     *meta // nil: damaged, nobody can be told
	state    State
	deadline time.Time
	status   *pb.Status
}

// remove takes references out of their queues. Each step is one batch with the
// references, the events and what Notify makes of them: when it returns nil all of
// it is written, and after a crash each step has happened as a whole or not at all.
// The caller holds the locks that keep others from removing the same ones.
func (m *Mailbox) remove(ctx context.Context, all []leaving) error {
	for len(all) > 0 {
		step := all[:min(len(all), removeStep)]
		all = all[len(step):]
		if err := m.removeStep(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mailbox) removeStep(ctx context.Context, step []leaving) error {
	var batch store.Batch
	var events []Event
	queues := make(map[store.QueueID][]store.LSN)
	for _, l := range step {
		queues[l.box.id] = append(queues[l.box.id], l.lsn)
		if l.meta == nil {
			continue
		}
		if e, ok := eventOf(l.box, l.meta, l.state, l.deadline, l.status); ok {
			events = append(events, e)
		}
	}
	acks(&batch, queues)
	var staged []*Staged
	if len(events) > 0 {
		var err error
		if staged, err = m.notify(ctx, &batch, events); err != nil {
			settleAll(staged, false)
			return fmt.Errorf("mailbox: telling what became of %d envelopes: %w", len(events), err)
		}
	}
	_, err := m.store.Commit(context.WithoutCancel(ctx), &batch)
	settleAll(staged, err == nil)
	if errors.Is(err, store.ErrFull) {
		err = m.removeUntold(ctx, queues, events)
	}
	if err != nil {
		return fmt.Errorf("mailbox: removing %d references: %w", len(step), err)
	}
	for _, l := range step {
		l.box.settle(l)
		class := "damaged"
		if l.meta != nil {
			class = className(l.meta.class)
		}
		m.left.left.WithLabelValues(l.box.kind.String(), class, l.state.String()).Inc()
	}
	return nil
}

func acks(batch *store.Batch, queues map[store.QueueID][]store.LSN) {
	for q, lsns := range queues {
		batch.Ack(q, lsns...)
	}
}

// maxUntold bounds the events that wait for room on a full disk.
const maxUntold = 100_000

// removeUntold removes on a full disk, which takes acknowledgements only: without
// them it would stay full. The events wait in memory until the sweeper can tell
// them; this is the one case in which a crash loses events, and it is logged.
func (m *Mailbox) removeUntold(ctx context.Context, queues map[store.QueueID][]store.LSN, events []Event) error {
	m.mu.Lock()
	room := len(m.untold)+len(events) <= maxUntold
	m.mu.Unlock()
	if !room {
		return store.ErrFull
	}
	var batch store.Batch
	acks(&batch, queues)
	if _, err := m.store.Commit(context.WithoutCancel(ctx), &batch); err != nil {
		return err
	}
	m.log.Error("mailbox: disk full: events wait in memory", "events", len(events))
	m.mu.Lock()
	m.untold = append(m.untold, events...)
	m.mu.Unlock()
	return nil
}

// tellUntold tells what waited for room on the disk.
func (m *Mailbox) tellUntold(ctx context.Context) error {
	m.mu.Lock()
	events := m.untold
	m.untold = nil
	m.mu.Unlock()
	if len(events) == 0 {
		return nil
	}
	var batch store.Batch
	staged, err := m.notify(ctx, &batch, events)
	if err == nil {
		_, err = m.store.Commit(context.WithoutCancel(ctx), &batch)
	}
	settleAll(staged, err == nil)
	if err != nil {
		m.mu.Lock()
		m.untold = append(events, m.untold...)
		m.mu.Unlock()
		return fmt.Errorf("mailbox: telling %d events late: %w", len(events), err)
	}
	return nil
}

func settleAll(staged []*Staged, committed bool) {
	for _, s := range staged {
		s.Done(committed)
	}
}
