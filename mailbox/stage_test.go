package mailbox

import (
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"
)

func TestWhatIsNotAnEnvelopeIsRefusedAndNothingIsAdded(t *testing.T) {
	w := newWorld(t)
	good := w.message(10)
	with := func(change func(*pb.Item)) *pb.Item {
		item := proto.CloneOf(good)
		change(item)
		return item
	}
	core := func(c *pb.EnvelopeCore) []byte {
		b, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	room := roomID(1)
	for _, c := range []struct {
		name string
		item *pb.Item
		code pb.Code
	}{
		{"no item", nil, pb.Code_CODE_MALFORMED},
		{"no envelope", &pb.Item{}, pb.Code_CODE_MALFORMED},
		{"no core", &pb.Item{Envelope: &pb.Envelope{}}, pb.Code_CODE_UNSUPPORTED},
		{"garbage", with(func(i *pb.Item) { i.Envelope.Core = []byte{0xff, 0xff} }), pb.Code_CODE_MALFORMED},
		{"an origin of 31 bytes", with(func(i *pb.Item) { i.Origin = make([]byte, 31) }), pb.Code_CODE_MALFORMED},
		{"another item kind", with(func(i *pb.Item) { i.Kind = 300 }), pb.Code_CODE_UNSUPPORTED},
		{"a body too large", with(func(i *pb.Item) {
			i.Envelope.Core = core(&pb.EnvelopeCore{Version: 1, Class: 1, Kind: 1, Room: room[:], Deadline: 1 << 40, Body: make([]byte, wire.MaxMessageBody+1)})
		}), pb.Code_CODE_TOO_LARGE},
		{"an item too large", with(func(i *pb.Item) { i.Bundle = &pb.Bundle{Tree: make([]byte, MaxItem)} }), pb.Code_CODE_TOO_LARGE},
		{"a deadline that is over", with(func(i *pb.Item) {
			i.Envelope.Core = core(&pb.EnvelopeCore{Version: 1, Class: 1, Kind: 1, Room: room[:], Deadline: testStart.Unix()})
		}), pb.Code_CODE_DEADLINE_PASSED},
		{"a message without a deadline", with(func(i *pb.Item) {
			i.Envelope.Core = core(&pb.EnvelopeCore{Version: 1, Class: 1, Kind: 1, Room: room[:]})
		}), pb.Code_CODE_MALFORMED},
	} {
		var batch store.Batch
		s, err := w.box.Stage(&batch, Delivery{Item: c.item, Devices: []wire.DeviceID{dev(1)}})
		if got := wire.StatusOf(err).Code; s != nil || got != c.code {
			t.Errorf("%s: %s (%v), want %s", c.name, wire.CodeName(got), err, wire.CodeName(c.code))
		}
	}
	want(t, "reserved", w.box.Usage(dev(1)).Messages, 0)
}

func TestTheStrictestDeadlineHoldsButNeverLessThanABucket(t *testing.T) {
	w := newWorld(t)
	w.box.retention = 48 * time.Hour
	day := 24 * time.Hour
	for _, c := range []struct {
		name               string
		class              pb.Class
		own, ceiling, want time.Duration
	}{
		{"the message's own", pb.Class_CLASS_MESSAGE, time.Hour, 2 * time.Hour, time.Hour},
		{"the agreement's", pb.Class_CLASS_MESSAGE, 40 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		{"the organization's", pb.Class_CLASS_MESSAGE, 20 * day, 19 * day, 48 * time.Hour},
		{"no ceiling", pb.Class_CLASS_MESSAGE, 20 * day, 0, 48 * time.Hour},
		{"at least a bucket", pb.Class_CLASS_MESSAGE, time.Second, 0, testBucket},
		{"at least a bucket, whatever the ceiling", pb.Class_CLASS_MESSAGE, time.Hour, time.Second, testBucket},
		{"a ceiling of the past", pb.Class_CLASS_MESSAGE, time.Hour, -time.Hour, testBucket},
		{"control is not shortened by retention", pb.Class_CLASS_CONTROL, 20 * day, time.Hour, 20 * day},
		{"control ends after 30 days", pb.Class_CLASS_CONTROL, 90 * day, 0, 30 * day},
		{"handshakes have 30 days", pb.Class_CLASS_HANDSHAKE, 0, time.Hour, 30 * day},
	} {
		core := &pb.EnvelopeCore{Class: c.class}
		if c.own > 0 {
			core.Deadline = testStart.Add(c.own).Unix()
		}
		var ceiling time.Time
		if c.ceiling != 0 {
			ceiling = testStart.Add(c.ceiling)
		}
		got, err := w.box.deadline(core, ceiling, testStart)
		if err != nil || got.Sub(testStart) != c.want {
			t.Errorf("%s: %v, %v, want %v", c.name, got.Sub(testStart), err, c.want)
		}
	}
	w.box.retention = 365 * day
	got, err := w.box.deadline(&pb.EnvelopeCore{Class: pb.Class_CLASS_MESSAGE, Deadline: testStart.Add(90 * day).Unix()}, time.Time{}, testStart)
	if err != nil || got.Sub(testStart) != wire.RetentionCeiling {
		t.Errorf("over the ceiling: %v, %v", got.Sub(testStart), err)
	}
}

func TestADeliveryReachesEachQueueOnceAndMoreThanOneBodyHolds(t *testing.T) {
	w := newWorld(t)
	var to []wire.DeviceID
	for i := range maxReferences + 10 {
		to = append(to, wire.DeviceID{1, byte(i >> 8), byte(i)})
	}
	to = append(to, to[0])
	s := w.put(Delivery{Item: w.message(10), Devices: to})
	want(t, "taken", s.Accepted(), maxReferences+10)
	want(t, "the one named twice", s.Devices[len(to)-1].Code, pb.Code_CODE_DUPLICATE)
	for _, d := range to {
		want(t, "entries", len(w.fetch(d, 0, 10)), 1)
	}
}

func TestUnknownFieldsOfAnItemArePreserved(t *testing.T) {
	w := newWorld(t)
	item := w.message(10)
	item.ProtoReflect().SetUnknown([]byte{0xc2, 0x3e, 1, 'x'})
	item.Number = 77
	w.put(Delivery{Item: item, Partners: []wire.OrganizationID{partner('b')}})
	got := w.outFetch(w.box.Outbox(partner('b')), 0)[0]
	want(t, "unknown", string(got.Item.ProtoReflect().GetUnknown()), string([]byte{0xc2, 0x3e, 1, 'x'}))
	want(t, "number", got.Item.Number, got.Number)
	want(t, "the caller's item", item.Number, uint64(77))
}

func TestMetricsFollowWhatEntersAndLeaves(t *testing.T) {
	w := newWorldIn(t, t.TempDir(), Limits{Inbox: Quota{Envelopes: 2}})
	reg := prometheus.NewRegistry()
	if err := w.box.register(reg); err != nil {
		t.Fatal(err)
	}
	w.put(Delivery{Item: w.commit(), Devices: []wire.DeviceID{dev(1)}})
	w.messages(3, dev(1))
	got := w.fetch(dev(1), 0, 10)
	w.ack(dev(1), got[1].Seq)
	m := w.box
	for name, c := range map[string]struct{ got, want float64 }{
		"accepted": {testutil.ToFloat64(m.staged.accepted.WithLabelValues("inbox", "message")), 2},
		"refused":  {testutil.ToFloat64(m.staged.refused.WithLabelValues("inbox", "message")), 1},
		"left":     {testutil.ToFloat64(m.left.left.WithLabelValues("inbox", "message", "acknowledged")), 1},
	} {
		want(t, name, c.got, c.want)
	}
	if n, err := testutil.GatherAndCount(reg, "entente_mailbox_pending"); err != nil || n != 9 {
		t.Fatalf("%d gauges, %v", n, err)
	}
	want(t, "totals", m.Totals().Inboxes.Messages, 1)
	if err := w.box.register(reg); err == nil {
		t.Fatal("registered twice")
	}
}
