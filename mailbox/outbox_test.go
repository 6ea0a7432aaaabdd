package mailbox

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// openNext lists the next items of an outbox and opens them, as a worker does.
func openNext(o *Outbox, after uint64, n int) ([]OutEntry, error) {
	list, err := o.List(context.Background(), after, n)
	if err != nil {
		return nil, err
	}
	numbers := make([]uint64, len(list))
	for i, l := range list {
		numbers[i] = l.Number
	}
	return o.Open(context.Background(), numbers)
}

func (w *world) outFetch(o *Outbox, after uint64) []OutEntry {
	w.t.Helper()
	e, err := openNext(o, after, 100)
	if err != nil {
		w.t.Fatalf("fetch: %v", err)
	}
	return e
}

func (w *world) settle(o *Outbox, numbers []uint64, codes ...pb.Code) {
	w.t.Helper()
	var all []Settlement
	for i, c := range codes {
		all = append(all, Settlement{Number: numbers[i], Status: wire.Status(c, "")})
	}
	if err := o.Settle(context.Background(), all); err != nil {
		w.t.Fatalf("settle: %v", err)
	}
}

func numbers(entries []OutEntry) (n []uint64) {
	for _, e := range entries {
		n = append(n, e.Number)
	}
	return n
}

func TestAnOutboxKeepsWhatMaySucceedLaterAndReportsTheRest(t *testing.T) {
	w := newWorld(t)
	to := []wire.OrganizationID{partner('b')}
	o := w.box.Outbox(partner('b'))
	for range 5 {
		w.put(Delivery{Item: w.message(10), Partners: to})
	}
	w.put(Delivery{Item: w.commit(), Partners: to})
	w.put(Delivery{Item: w.control(), Partners: to})
	got := w.outFetch(o, 0)
	want(t, "items", len(got), 7)
	for i, e := range got {
		want(t, "number on the item", e.Item.Number, e.Number)
		if i > 0 && e.Number <= got[i-1].Number {
			t.Fatal("numbers do not rise")
		}
	}
	w.settle(o, numbers(got), pb.Code_CODE_ACCEPTED, pb.Code_CODE_FULL, pb.Code_CODE_UNKNOWN_ROOM,
		pb.Code_CODE_DEADLINE_PASSED, pb.Code_CODE_SUSPENDED, pb.Code_CODE_SUSPENDED, pb.Code_CODE_SUSPENDED)
	events := w.seen()
	want(t, "events", fmt.Sprint(states(events)), "map[expired:1 refused:2 stored:1]")
	for _, e := range events {
		want(t, "partner", e.Partner, partner('b'))
		if e.Status == nil || !e.Device.IsZero() {
			t.Fatalf("event %+v", e)
		}
	}
	left := w.outFetch(o, 0)
	want(t, "left", len(left), 2) // the full one, and the handshake
	want(t, "the full one", left[0].Number, got[1].Number)
	want(t, "the handshake", left[1].Number, got[5].Number)
	w.settle(o, numbers(got), pb.Code_CODE_ACCEPTED) // again: gone
	w.settle(o, []uint64{99999}, pb.Code_CODE_ACCEPTED)
	want(t, "events of a repetition", len(w.seen()), 0)
	w.settle(o, numbers(left), pb.Code_CODE_DUPLICATE, pb.Code_CODE_ACCEPTED)
	want(t, "left", o.Usage().Messages+o.Usage().Handshakes+o.Usage().Control, 0)
}

func TestASubmittedCommitReportsTheHubsAnswer(t *testing.T) {
	w := newWorld(t)
	o := w.box.Outbox(partner('b'))
	for range 2 {
		item := w.commit()
		item.Kind, item.Envelope.Seq = pb.ItemKind_ITEM_KIND_SUBMIT, 0
		item.Bundle = &pb.Bundle{Commit: []byte("commit"), Tree: make([]byte, 1<<20)}
		w.put(Delivery{Item: item, Partners: []wire.OrganizationID{partner('b')}})
	}
	got := w.outFetch(o, 0)
	want(t, "bundle", len(got[0].Item.Bundle.Tree), 1<<20)
	w.settle(o, numbers(got), pb.Code_CODE_WRONG_EPOCH, pb.Code_CODE_NO_AGREEMENT)
	events := w.seen()
	want(t, "events", len(events), 2)
	want(t, "answer", events[0].Status.Code, pb.Code_CODE_WRONG_EPOCH)
	want(t, "kind", events[1].Kind, pb.Kind_KIND_COMMIT)
	want(t, "left", o.Usage().Handshakes, 0)
}

func TestASettlementNeedsAHandout(t *testing.T) {
	w := newWorld(t)
	o := w.box.Outbox(partner('b'))
	w.put(Delivery{Item: w.message(10), Partners: []wire.OrganizationID{partner('b')}})
	n := numbers(w.outFetch(o, 0))
	w.reopen()
	o = w.box.Outbox(partner('b'))
	w.settle(o, n, pb.Code_CODE_ACCEPTED)
	want(t, "not handed out since the start", o.Usage().Messages, 1)
	if err := o.Settle(context.Background(), []Settlement{{Number: n[0]}}); err != nil {
		t.Fatal(err)
	}
	w.outFetch(o, 0)
	if err := o.Settle(context.Background(), []Settlement{{Number: n[0]}}); err != nil {
		t.Fatal(err)
	}
	want(t, "an answer without a status", o.Usage().Messages, 1)
	w.settle(o, []uint64{n[0], n[0]}, pb.Code_CODE_ACCEPTED, pb.Code_CODE_FORBIDDEN)
	want(t, "left", o.Usage().Messages, 0)
	want(t, "answered twice at once", fmt.Sprint(states(w.seen())), "map[stored:1]")
}

func TestDropReportsRefusedAndKeepsHandshakesUnlessAllGo(t *testing.T) {
	w := newWorld(t)
	o := w.box.Outbox(partner('b'))
	to := []wire.OrganizationID{partner('b'), partner('c')}
	w.put(Delivery{Item: w.message(10), Partners: to})
	w.put(Delivery{Item: w.commit(), Partners: to})
	w.put(Delivery{Item: w.control(), Partners: to})
	drop := func(all bool) {
		t.Helper()
		if _, err := o.Drop(context.Background(), wire.Status(pb.Code_CODE_SUSPENDED, ""), all); err != nil {
			t.Fatal(err)
		}
	}
	drop(false)
	events := w.seen()
	want(t, "events", fmt.Sprint(states(events)), "map[refused:1]")
	want(t, "status", events[0].Status.Code, pb.Code_CODE_SUSPENDED)
	want(t, "handshakes", o.Usage().Handshakes, 1)
	want(t, "control", o.Usage().Control, 1)
	drop(true)
	want(t, "left", len(w.outFetch(o, 0)), 0)
	want(t, "of the other partner", len(w.outFetch(w.box.Outbox(partner('c')), 0)), 3)
	want(t, "events", len(w.seen()), 0)
}

func TestAPartnerThatStaysAwayLetsMessagesExpire(t *testing.T) {
	w := newWorld(t)
	w.put(Delivery{Item: w.message(10), Partners: []wire.OrganizationID{partner('b')}})
	w.pass(time.Hour)
	w.sweep()
	events := w.seen()
	want(t, "events", fmt.Sprint(states(events)), "map[expired:1]")
	want(t, "partner", events[0].Partner, partner('b'))
	if events[0].Status != nil {
		t.Fatal("a status that nobody gave")
	}
}

// What Notify stages into the removing batch is settled with it: a notice for a
// device of our own, in an inbox, is there when Ack returns.
func TestNotifyMayStageIntoTheRemovingBatch(t *testing.T) {
	w := newWorldIn(t, t.TempDir(), Limits{Inbox: Quota{Control: 1}})
	fail := false
	w.box.notify = func(ctx context.Context, b *store.Batch, events []Event) ([]*Staged, error) {
		s, err := w.box.Stage(b, Delivery{Item: w.control(), Devices: []wire.DeviceID{dev(9), dev(1)}})
		if fail {
			return []*Staged{s}, fmt.Errorf("afterwards")
		}
		return []*Staged{s}, err
	}
	w.put(Delivery{Item: w.message(10), Devices: []wire.DeviceID{dev(1)}})
	got := w.fetch(dev(1), 0, 1)
	fail = true
	if err := w.box.Ack(context.Background(), dev(1), Acked{Through: got[0].Seq}); err == nil {
		t.Fatal("no error")
	}
	want(t, "room given back", w.box.Usage(dev(9)).Control, 0)
	fail = false
	w.ack(dev(1), got[0].Seq)
	accepted := w.box.staged.accepted.WithLabelValues("inbox", "control")
	want(t, "settled with the batch", testutil.ToFloat64(accepted), 2)
	want(t, "notice", len(w.fetch(dev(9), 0, 10)), 1)
	want(t, "notice to the acknowledging device itself", len(w.fetch(dev(1), 0, 10)), 1)
}
