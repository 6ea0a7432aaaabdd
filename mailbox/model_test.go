package mailbox

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"pgregory.net/rapid"
)

// recipient is a queue of the model.
type recipient struct {
	key     boxKey
	pending map[wire.EnvelopeID]*waiting
	final   map[string]int // by state
	mark    uint64         // a session's own mark: highest number fetched
	taken   int
	refused int
	closed  bool
}

type waiting struct {
	from     wire.OrganizationID
	sender   string
	deadline time.Time
	number   uint64 // once fetched
	legacy   bool   // there at the last start, and nothing fetched since
}

// model checks P2, conservation: per recipient, accepted = shown + unreadable +
// expired + refused + dropped + pending, each envelope leaving exactly once, with
// the mailbox closed and opened at any moment.
type model struct {
	*world
	all   []*recipient
	quota Quota
}

func newModel(t *rapid.T) *model {
	dir, err := os.MkdirTemp("", "mailbox-model")
	if err != nil {
		t.Fatal(err)
	}
	q := Quota{Envelopes: 6, Bytes: 1 << 20, PerSender: 3, Share: 50, Control: 3, ControlShare: 50}
	m := &model{world: newWorldIn(t, dir, Limits{Inbox: q, Outbox: q, Log: 10}), quota: q}
	t.Cleanup(func() {
		m.close()
		if err := os.RemoveAll(m.dir); err != nil {
			t.Fatal(err)
		}
	})
	for i := range byte(3) {
		m.all = append(m.all, &recipient{key: boxKey{kindInbox, boxName(dev(i + 1))}})
	}
	for i := range byte(2) {
		m.all = append(m.all, &recipient{key: boxKey{kindOutbox, boxName(partner(i + 1))}})
	}
	for _, r := range m.all {
		r.pending, r.final = make(map[wire.EnvelopeID]*waiting), make(map[string]int)
	}
	return m
}

// admits says whether the model has room for one more message.
func (r *recipient) admits(q Quota, from wire.OrganizationID, sender string) bool {
	ofPartner, ofSender := 0, 0
	for _, w := range r.pending {
		if w.from == from {
			ofPartner++
		}
		if w.sender == sender {
			ofSender++
		}
	}
	return !r.closed && len(r.pending) < q.Envelopes && ofSender < q.PerSender &&
		(from.IsZero() || ofPartner < q.Envelopes*q.Share/100)
}

func (m *model) deliver(t *rapid.T) {
	d := Delivery{Item: m.message(20), Sender: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "sender")}
	if rapid.Bool().Draw(t, "foreign") {
		d.From = partner('f')
	}
	chosen := rapid.SliceOfDistinct(rapid.SampledFrom(m.all), rapid.ID[*recipient]).Draw(t, "to")
	d.Deadline = m.clock.Now().Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "minutes")) * time.Minute)
	for _, r := range chosen {
		if r.key.kind == kindInbox {
			d.Devices = append(d.Devices, wire.DeviceID(r.key.name))
		} else {
			d.Partners = append(d.Partners, wire.OrganizationID(r.key.name))
		}
	}
	var batch store.Batch
	s, err := m.box.Stage(&batch, d)
	if err != nil {
		t.Fatal(err)
	}
	if !rapid.Bool().Draw(t, "commit") && rapid.Bool().Draw(t, "really not") {
		s.Done(false)
		return
	}
	if _, err := m.store.Commit(context.Background(), &batch); err != nil {
		t.Fatal(err)
	}
	s.Done(true)
	devices, partners := s.Devices, s.Partners
	for _, r := range chosen {
		var status *pb.Status
		if r.key.kind == kindInbox {
			status, devices = devices[0], devices[1:]
		} else {
			status, partners = partners[0], partners[1:]
		}
		ok := r.admits(m.quota, d.From, d.Sender)
		want(t, "admitted", status.Code == pb.Code_CODE_ACCEPTED, ok)
		if !ok {
			r.refused++
			continue
		}
		r.taken++
		r.pending[wire.IDOf(d.Item.Envelope.Core)] = &waiting{from: d.From, sender: d.Sender, deadline: s.Deadline}
	}
}

// noise is what must neither cause events nor take part in the messages' quota.
func (m *model) noise(t *rapid.T) {
	room := roomID(1)
	var to []wire.DeviceID
	for _, r := range m.all[:3] {
		to = append(to, wire.DeviceID(r.key.name))
	}
	m.put(Delivery{Item: m.control(), Devices: to, Partners: []wire.OrganizationID{partner(1)}})
	m.put(Delivery{Item: m.commit(), Devices: to, Partners: []wire.OrganizationID{partner(1)}, Log: &room})
}

func (m *model) pull(t *rapid.T) {
	r := rapid.SampledFrom(m.all).Draw(t, "who")
	n := rapid.IntRange(1, 8).Draw(t, "n")
	if rapid.Bool().Draw(t, "from the start") {
		r.mark = 0
	}
	numbers := make(map[wire.EnvelopeID]uint64)
	var order []uint64
	note := func(number uint64, e *pb.Envelope, err error) {
		if err != nil || e == nil {
			t.Fatalf("entry %d: %v", number, err)
		}
		numbers[wire.IDOf(e.Core)] = number
		order = append(order, number)
	}
	if r.key.kind == kindInbox {
		got, err := m.box.Fetch(context.Background(), wire.DeviceID(r.key.name), r.mark, n, 1<<20)
		want(t, "fetch is refused", err != nil, r.closed)
		for _, e := range got {
			note(e.Seq, e.Envelope, e.Err)
		}
	} else {
		got, err := openNext(m.box.Outbox(wire.OrganizationID(r.key.name)), r.mark, n)
		want(t, "error", err, nil)
		for _, e := range got {
			note(e.Number, e.Item.GetEnvelope(), e.Err)
		}
	}
	if !slices.IsSorted(order) {
		t.Fatalf("out of order: %v", order)
	}
	for id, w := range r.pending {
		w.legacy = false
		if n, ok := numbers[id]; ok {
			w.number = n
		}
	}
	for _, number := range order {
		r.mark = max(r.mark, number)
	}
}

// confirm acknowledges, or settles as stored, through a number that may be wrong.
func (m *model) confirm(t *rapid.T) {
	r := rapid.SampledFrom(m.all).Draw(t, "who")
	numbers := []uint64{0, r.mark, r.mark + 1, 1 << 62}
	for _, w := range r.pending {
		numbers = append(numbers, w.number)
	}
	slices.Sort(numbers)
	some := rapid.SampledFrom(numbers)
	through := some.Draw(t, "through")
	if r.key.kind == kindInbox {
		a := Acked{Through: through, Above: rapid.SliceOfN(some, 0, 3).Draw(t, "above"), Unreadable: rapid.SliceOfN(some, 0, 3).Draw(t, "unreadable")}
		if err := m.box.Ack(context.Background(), wire.DeviceID(r.key.name), a); err != nil {
			t.Fatal(err)
		}
	} else {
		code := rapid.SampledFrom([]pb.Code{
			pb.Code_CODE_ACCEPTED, pb.Code_CODE_DUPLICATE, pb.Code_CODE_FULL, pb.Code_CODE_UNKNOWN_ROOM,
			pb.Code_CODE_DEADLINE_PASSED, pb.Code_CODE_NO_AGREEMENT,
		}).Draw(t, "answer")
		m.settle(m.box.Outbox(wire.OrganizationID(r.key.name)), []uint64{through, through}, code, code)
	}
}

func (m *model) time(t *rapid.T) {
	m.clock.advance(rapid.SampledFrom([]time.Duration{0, time.Second, HandoutGrace, testBucket, 3 * testBucket}).Draw(t, "passed"))
	if rapid.Bool().Draw(t, "sweep") {
		m.sweep()
	}
}

func (m *model) restart(t *rapid.T) {
	m.reopen()
	for _, r := range m.all {
		for _, w := range r.pending {
			w.number, w.legacy = 0, true
		}
	}
}

func (m *model) remove(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "seldom") > 0 {
		return
	}
	r := rapid.SampledFrom(m.all).Draw(t, "who")
	var err error
	if r.key.kind == kindInbox {
		err, r.closed = m.box.Erase(context.Background(), wire.DeviceID(r.key.name)), true
	} else {
		_, err = m.box.Outbox(wire.OrganizationID(r.key.name)).Drop(context.Background(), wire.Status(pb.Code_CODE_SUSPENDED, ""), true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// check takes in what was notified and holds every rule against it.
func (m *model) check(t *rapid.T) {
	for _, e := range m.seen() {
		key := boxKey{kindInbox, boxName(e.Device)}
		if e.Device.IsZero() {
			key = boxKey{kindOutbox, boxName(e.Partner)}
		}
		r := m.all[slices.IndexFunc(m.all, func(r *recipient) bool { return r.key == key })]
		w := r.pending[e.Envelope]
		if w == nil {
			t.Fatalf("%s of what was not there, or had left before", e.State)
		}
		handed := w.number != 0 || w.legacy
		switch e.State {
		case StateExpired:
			if e.Status == nil && w.deadline.After(m.clock.Now()) {
				t.Fatalf("expired %v before its deadline", w.deadline.Sub(m.clock.Now()))
			}
		case StateAcknowledged, StateUnreadable, StateStored:
			if !handed {
				t.Fatalf("%s without having been handed out", e.State)
			}
		}
		delete(r.pending, e.Envelope)
		r.final[e.State.String()]++
	}
	inStore := make(map[string]int)
	for _, r := range m.all {
		left := 0
		for state, n := range r.final {
			left += n
			inStore[state] += n
		}
		want(t, "conservation", left+len(r.pending), r.taken)
		b := m.box.find(r.key)
		if b != nil {
			want(t, "counted by the mailbox", b.snapshot().Messages, len(r.pending))
		}
	}
	want(t, "events in the store", fmt.Sprint(m.durable()), fmt.Sprint(inStore))
}

func TestConservationHoldsWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"deliver": m.deliver, "deliver more": m.deliver, "noise": m.noise, "pull": m.pull,
			"confirm": m.confirm, "time": m.time, "restart": m.restart, "remove": m.remove, "": m.check,
		})
		m.clock.advance(wire.RetentionCeiling + time.Hour)
		m.sweep()
		m.check(t)
		for _, r := range m.all {
			want(t, "pending at the end of time", len(r.pending), 0)
			if b := m.box.find(r.key); b != nil {
				u := b.snapshot()
				want(t, "noise at the end of time", u.Control+u.Handshakes, 0)
				want(t, "maps of the quotas", len(b.usage.partners)+len(b.usage.senders)+len(b.handed), 0)
			}
		}
	})
}
