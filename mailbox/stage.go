package mailbox

import (
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// stageMetrics count what enters the queues, one for each recipient.
type stageMetrics struct {
	accepted *prometheus.CounterVec // queue, class
	refused  *prometheus.CounterVec // queue, class
}

func newStageMetrics() stageMetrics {
	labels := []string{"queue", "class"}
	return stageMetrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "entente_mailbox_accepted_total", Help: "References durably accepted into a queue."}, labels),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "entente_mailbox_refused_total", Help: "References refused by a quota or an erased queue."}, labels),
	}
}

// maxReferences bounds the recipients of one stored body; more make another copy.
const maxReferences = 1_000

// Delivery is one item and where its references go.
type Delivery struct {
	Item     *pb.Item              // with its envelope; the number is ignored
	From     wire.OrganizationID   // the partner that handed it to us; zero: our own
	Sender   string                // whose quota it counts against, for instance a device; opaque
	Devices  []wire.DeviceID       // local inboxes
	Partners []wire.OrganizationID // outboxes
	Log      *wire.RoomID          // handshakes only: the room's log
	Deadline time.Time             // what agreement and room allow at most; zero: nothing of their own
}

// Staged is a delivery that was added to a batch. Done must be called exactly once
// with the batch's fate.
type Staged struct {
	Deadline time.Time    // when the node's copy ends, before rounding up to a bucket
	Devices  []*pb.Status // one for each Delivery.Devices: accepted, full, revoked
	Partners []*pb.Status // one for each Delivery.Partners
	Events   []Event      // one for each refusal that a sender is to hear of

	m     *Mailbox
	meta  *meta
	boxes []*box // those that took it
	seen  map[*box]bool
	once  sync.Once
}

// Accepted counts the queues that took the delivery, the room log included.
func (s *Staged) Accepted() int { return len(s.boxes) }

// Stage checks quotas, reserves room and adds the delivery to the batch: one body,
// one reference for each queue that takes it. Nothing is promised before the batch
// is committed; Staged.Done(false) gives the room back when it is not.
//
// A queue that refuses does not hold up the others: its status says so. An error is
// a *wire.StatusError (malformed, tooLarge, unsupported, deadlinePassed) and means
// that nothing was added.
func (m *Mailbox) Stage(b *store.Batch, d Delivery) (*Staged, error) {
	core, body, err := openDelivery(d)
	if err != nil {
		return nil, err
	}
	meta, err := metaOf(d.Item, core, d.From, d.Sender, len(body))
	if err != nil {
		return nil, err
	}
	deadline, err := m.deadline(core, d.Deadline, m.clock.Now())
	if err != nil {
		return nil, err
	}
	s := &Staged{m: m, meta: meta, Deadline: deadline, seen: make(map[*box]bool)}
	for _, id := range d.Devices {
		s.Devices = append(s.Devices, s.admit(boxKey{kindInbox, boxName(id)}, m.limits.Inbox))
	}
	for _, id := range d.Partners {
		s.Partners = append(s.Partners, s.admit(boxKey{kindOutbox, boxName(id)}, m.limits.Outbox))
	}
	if d.Log != nil {
		s.admit(boxKey{kindLog, boxName(*d.Log)}, Quota{})
	}
	s.deposit(b, body)
	return s, nil
}

// openDelivery checks an item's envelope and returns its core and the bytes that
// lie on disk: the item with number 0 (wire/proto/entente/v1/federation.proto).
func openDelivery(d Delivery) (*pb.EnvelopeCore, []byte, error) {
	if d.Item == nil || d.Item.Envelope == nil {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an item without an envelope")
	}
	core, err := wire.ParseCore(d.Item.Envelope.Core)
	if err != nil {
		return nil, nil, refusal(err)
	}
	if d.Log != nil && core.Class != pb.Class_CLASS_HANDSHAKE {
		return nil, nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "a room log takes handshakes only")
	}
	item := &pb.Item{
		Kind: d.Item.Kind, Envelope: d.Item.Envelope, Change: d.Item.Change,
		Recipients: d.Item.Recipients, Bundle: d.Item.Bundle, Origin: d.Item.Origin, Members: d.Item.Members,
	}
	item.ProtoReflect().SetUnknown(d.Item.ProtoReflect().GetUnknown())
	if size := proto.Size(item); size > MaxItem {
		return nil, nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "an item of %d bytes: at most %d are allowed", size, MaxItem)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(item)
	if err != nil {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an item that cannot be encoded")
	}
	return core, body, nil
}

// refusal gives errors of wire that carry no status the one they mean.
func refusal(err error) error {
	if s := wire.StatusOf(err); s.Code != pb.Code_CODE_INTERNAL {
		return err
	}
	return wire.Refuse(pb.Code_CODE_MALFORMED, "%v", err)
}

// admit reserves a place for the delivery in one queue. The same queue named twice
// gets one reference.
func (s *Staged) admit(key boxKey, q Quota) *pb.Status {
	box := s.m.obtain(key)
	if s.seen[box] {
		return wire.Status(pb.Code_CODE_DUPLICATE, "")
	}
	s.seen[box] = true
	if refused := box.reserve(q, s.meta); refused != nil {
		s.m.staged.refused.WithLabelValues(key.kind.String(), className(s.meta.class)).Inc()
		if e, ok := eventOf(box, s.meta, StateRefused, time.Time{}, refused); ok {
			s.Events = append(s.Events, e)
		}
		return refused
	}
	s.boxes = append(s.boxes, box)
	return wire.Status(pb.Code_CODE_ACCEPTED, "")
}

func (s *Staged) deposit(b *store.Batch, body []byte) {
	encoded := s.meta.encode()
	for rest := s.boxes; len(rest) > 0; {
		some := rest[:min(len(rest), maxReferences)]
		rest = rest[len(some):]
		queues := make([]store.QueueID, len(some))
		for i, box := range some {
			box.putRow(b)
			queues[i] = box.id
		}
		b.Deposit(store.Deposit{Body: body, Meta: encoded, Deadline: s.Deadline, Queues: queues})
	}
}

// Done tells the mailbox whether the batch was committed. Further calls do nothing.
func (s *Staged) Done(committed bool) {
	s.once.Do(func() {
		for _, box := range s.boxes {
			if !committed {
				box.release(s.meta)
				continue
			}
			s.m.staged.accepted.WithLabelValues(box.kind.String(), className(s.meta.class)).Inc()
			if box.setDurable(); box.isClosed() {
				s.m.eraseLater(box) // erased while the batch was on its way
			}
		}
	})
}

func className(c pb.Class) string {
	switch c {
	case pb.Class_CLASS_MESSAGE:
		return "message"
	case pb.Class_CLASS_HANDSHAKE:
		return "handshake"
	}
	return "control"
}
