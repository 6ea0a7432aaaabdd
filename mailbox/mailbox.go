package mailbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// MaxItem bounds an item as it lies on disk: a Commit with its bundle, which is a
// Commit, a Welcome, a GroupInfo and a tree (docs/protocol.md 9).
const MaxItem = wire.MaxHandshakeBody + 2*wire.MaxWelcome + wire.MaxTree + wire.MaxEnvelopeExtra

// Clock tells the time; store.Clock is one.
type Clock interface{ Now() time.Time }

// Notify is told what left the queues and adds what follows from it to the very
// batch that removes it: the event and its consequence are durable together, or
// neither is. What it staged in this mailbox it returns, so that it can be settled
// with the batch. It must not call Fetch, Ack, Settle, Drop, Erase or Sweep. An
// error keeps everything as it was; the removal is tried again later.
type Notify func(ctx context.Context, b *store.Batch, events []Event) ([]*Staged, error)

// Options of a mailbox. Store and Notify are required.
type Options struct {
	Store      *store.Store
	Clock      Clock         // nil: the system's
	Bucket     time.Duration // the store's deadline bucket; 0: wire.DefaultBucket
	Retention  time.Duration // the organization's; 0: wire.DefaultRetention, at most wire.RetentionCeiling
	Limits     Limits
	Notify     Notify
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: none
}

// Mailbox holds the queues of an organization's node: an inbox for each device, an
// outbox for each partner, a log for each room. Its methods may be called at once
// from many goroutines.
//
// Lock order: sweep, box.removal, mu, box.mu. The first two are held while a removal
// is written and Notify runs, which is why Stage takes neither.
type Mailbox struct {
	store     *store.Store
	clock     Clock
	bucket    time.Duration
	retention time.Duration
	limits    Limits
	notify    Notify
	log       *slog.Logger
	staged    stageMetrics
	left      removeMetrics

	// sweep keeps expiry apart from every other removal: what the sweeper saw as
	// expired nobody else can report meanwhile.
	sweep   sync.RWMutex
	reports sync.Mutex // one report is taken at a time

	mu     sync.RWMutex
	boxes  map[boxKey]*box
	byID   map[store.QueueID]*box
	next   store.QueueID
	dirty  map[*box]bool // erased boxes that took something since
	untold []Event       // removed on a full disk, to be told when there is room
}

const scanPage = 1_000

// Open reads which queues there are and counts what they hold. It changes nothing.
func Open(ctx context.Context, o Options) (*Mailbox, error) {
	if o.Store == nil || o.Notify == nil {
		return nil, errors.New("mailbox: Store and Notify are required")
	}
	m := &Mailbox{
		store: o.Store, clock: o.Clock, bucket: o.Bucket, retention: o.Retention,
		limits: o.Limits.withDefaults(), notify: o.Notify, log: o.Logger,
		staged: newStageMetrics(), left: newRemoveMetrics(),
		boxes: make(map[boxKey]*box), byID: make(map[store.QueueID]*box), next: 1,
		dirty: make(map[*box]bool),
	}
	if m.clock == nil {
		m.clock = systemClock{}
	}
	if m.bucket == 0 {
		m.bucket = wire.DefaultBucket
	}
	if m.retention == 0 {
		m.retention = wire.DefaultRetention
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if err := m.loadQueues(); err != nil {
		return nil, err
	}
	for _, b := range m.boxes {
		if err := m.recount(ctx, b); err != nil {
			return nil, err
		}
	}
	return m, m.register(o.Registerer)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (m *Mailbox) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.staged.accepted, m.staged.refused, m.left.left, pending{m}} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("mailbox: registering metrics: %w", err)
		}
	}
	return nil
}

// recount counts what a queue holds from the store, expired references that nobody
// was told of yet included.
func (m *Mailbox) recount(ctx context.Context, b *box) error {
	return m.each(ctx, b.id, 0, 0, func(p store.Item, meta *meta) {
		b.legacy = max(b.legacy, p.LSN)
		if meta != nil {
			b.usage.count(meta, 1)
		}
	})
}

// each calls do for every reference of a queue after one number and up to another
// (0: all), with its metadata, or nil where that is damaged.
func (m *Mailbox) each(ctx context.Context, q store.QueueID, after, through store.LSN, do func(store.Item, *meta)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := m.store.Peek(q, after, scanPage)
		if err != nil {
			return fmt.Errorf("mailbox: reading queue %d: %w", q, err)
		}
		for _, p := range page {
			if through > 0 && p.LSN > through {
				return nil
			}
			after = p.LSN
			do(p, m.metaOf(q, p.LSN, p.Meta))
		}
		if len(page) == 0 { // a short page may only mean that something left meanwhile
			return nil
		}
	}
}

// metaOf parses sealed metadata. What does not parse is said aloud and then
// treated as damaged: it is removed in its time, but nobody can be told.
func (m *Mailbox) metaOf(q store.QueueID, lsn store.LSN, b []byte) *meta {
	parsed, err := parseMeta(b)
	if err != nil {
		m.log.Error("mailbox: metadata damaged", "queue", q, "lsn", lsn, "error", err)
		return nil
	}
	return parsed
}

// Totals sums what all queues of a kind hold; the node's status shows them.
type Totals struct{ Inboxes, Outboxes, Logs Usage }

// Totals returns what all queues hold together.
func (m *Mailbox) Totals() Totals {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var t Totals
	for key, b := range m.boxes {
		sum := map[kind]*Usage{kindInbox: &t.Inboxes, kindOutbox: &t.Outboxes, kindLog: &t.Logs}[key.kind]
		u := b.snapshot()
		sum.Messages += u.Messages
		sum.Control += u.Control
		sum.Handshakes += u.Handshakes
		sum.Bytes += u.Bytes
	}
	return t
}

// pending shows Totals as a gauge when somebody collects it.
type pending struct{ m *Mailbox }

var pendingDesc = prometheus.NewDesc("entente_mailbox_pending",
	"References that wait in the queues.", []string{"queue", "class"}, nil)

func (p pending) Describe(ch chan<- *prometheus.Desc) { ch <- pendingDesc }

func (p pending) Collect(ch chan<- prometheus.Metric) {
	t := p.m.Totals()
	for queue, u := range map[string]Usage{"inbox": t.Inboxes, "outbox": t.Outboxes, "log": t.Logs} {
		for class, n := range map[string]int{"message": u.Messages, "control": u.Control, "handshake": u.Handshakes} {
			ch <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(n), queue, class)
		}
	}
}
