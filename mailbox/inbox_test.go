package mailbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (w *world) messages(n int, to ...wire.DeviceID) {
	w.t.Helper()
	ds := make([]Delivery, n)
	for i := range ds {
		ds[i] = Delivery{Item: w.message(10), Sender: fmt.Sprint(i % 40), Devices: to}
	}
	w.putAll(ds...)
}

func TestWhatWasAcceptedIsFetchedInOrderAndGoesWithItsAcknowledgement(t *testing.T) {
	w := newWorld(t)
	w.messages(10, dev(1), dev(2))
	one, two := w.fetch(dev(1), 0, 4), w.fetch(dev(2), 0, 100)
	want(t, "a page", len(one), 4)
	want(t, "the rest", len(w.fetch(dev(1), one[3].Seq, 100)), 6)
	want(t, "all", len(two), 10)
	for i := range two {
		want(t, "order", two[i].Envelope.Seq, uint64(i+1))
	}
	w.ack(dev(1), one[2].Seq)
	events := w.seen()
	want(t, "events", len(events), 3)
	for i, e := range events {
		want(t, "state", e.State, StateAcknowledged)
		want(t, "sequence", e.Seq, uint64(i+1))
		want(t, "device", e.Device, dev(1))
		want(t, "origin", e.Origin, partner('a'))
		want(t, "handle", string(e.Return), string(handle(e.Seq)))
		want(t, "envelope", e.Envelope, wire.IDOf(one[i].Envelope.Core))
	}
	want(t, "left for one", w.box.Usage(dev(1)).Messages, 7)
	want(t, "left for the other", w.box.Usage(dev(2)).Messages, 10)
	want(t, "fetched from the start", len(w.fetch(dev(1), 0, 100)), 7)
	w.ack(dev(1), one[2].Seq) // again
	want(t, "events of a repetition", len(w.seen()), 0)
	want(t, "events in the store", fmt.Sprint(w.durable()), "map[acknowledged:3]")
}

func TestADeviceCannotAcknowledgeWhatItWasNotHanded(t *testing.T) {
	w := newWorld(t)
	w.messages(10, dev(1))
	w.ack(dev(1), math.MaxUint64)
	want(t, "before any fetch", w.box.Usage(dev(1)).Messages, 10)
	w.fetch(dev(1), 0, 4)
	w.ack(dev(1), math.MaxUint64)
	want(t, "after a fetch of 4", w.box.Usage(dev(1)).Messages, 6)
	w.ack(dev(3), math.MaxUint64) // a mailbox that there is not
	w.messages(1, dev(1))
	w.ack(dev(1), math.MaxUint64)
	want(t, "acknowledged in advance", w.box.Usage(dev(1)).Messages, 7)
	want(t, "events", len(w.seen()), 4)
}

// A device whose mark is above all that this store ever numbered (the node was set
// back) is handed everything all the same.
func TestAMarkFromAnotherLifeHidesNothing(t *testing.T) {
	w := newWorld(t)
	w.messages(3, dev(1))
	want(t, "first", len(w.fetch(dev(1), math.MaxUint64, 10)), 3)
	w.messages(2, dev(1))
	want(t, "then", len(w.fetch(dev(1), math.MaxUint64, 10)), 2)
	w.reopen()
	want(t, "after a restart", len(w.fetch(dev(1), math.MaxUint64, 10)), 5)
}

func TestAnAcknowledgementMayBeRepeatedAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.messages(10, dev(1))
	got := w.fetch(dev(1), 0, 10)
	w.reopen()
	w.messages(5, dev(1))
	w.ack(dev(1), got[5].Seq) // stored before the crash, said again now
	want(t, "left", w.box.Usage(dev(1)).Messages, 9)
	want(t, "fetch after it", len(w.fetch(dev(1), got[5].Seq, 100)), 9)

	w.reopen()
	w.messages(5, dev(1))
	w.ack(dev(1), math.MaxUint64)
	want(t, "what came after the start stays", w.box.Usage(dev(1)).Messages, 5)

	w.reopen()
	w.fetch(dev(1), 0, 2)
	w.ack(dev(1), math.MaxUint64)
	want(t, "after a fetch only what it handed out goes", w.box.Usage(dev(1)).Messages, 3)
	want(t, "events", fmt.Sprint(w.durable()), "map[acknowledged:17]")
}

func TestUnreadableOnesAreCountedAndToldApart(t *testing.T) {
	w := newWorld(t)
	w.messages(5, dev(1))
	got := w.fetch(dev(1), 0, 4)
	w.ack(dev(1), got[3].Seq, got[1].Seq, got[3].Seq+1, 0, math.MaxUint64)
	want(t, "events", fmt.Sprint(states(w.seen())), "map[acknowledged:3 unreadable:1]")
	want(t, "left", w.box.Usage(dev(1)).Messages, 1)
}

func TestWhatNobodyFetchedExpiresWithAnEventAndOnlyOnce(t *testing.T) {
	w := newWorld(t)
	w.messages(3, dev(1), dev(2))
	w.ack(dev(1), w.fetch(dev(1), 0, 3)[0].Seq)
	w.sweep()
	want(t, "before its time", fmt.Sprint(states(w.seen())), "map[acknowledged:1]")
	w.pass(time.Hour)
	want(t, "fetched after its time", len(w.fetch(dev(2), 0, 10)), 0)
	w.sweep()
	w.sweep()
	events := w.seen()
	want(t, "expired", fmt.Sprint(states(events)), "map[expired:5]")
	for _, e := range events {
		if e.Deadline.Before(testStart.Add(time.Hour)) || e.Deadline.After(w.clock.Now()) {
			t.Fatalf("deadline %v", e.Deadline)
		}
	}
	want(t, "left", w.box.Usage(dev(1)).Messages+w.box.Usage(dev(2)).Messages, 0)
	w.reopen()
	w.sweep()
	want(t, "after a restart", len(w.seen()), 0)
}

func TestWhatExpiredWhileTheNodeWasDownIsToldAfterwards(t *testing.T) {
	w := newWorld(t)
	w.messages(3, dev(1))
	w.close()
	w.clock.advance(2 * time.Hour)
	w.open()
	w.sweep()
	want(t, "expired", fmt.Sprint(states(w.seen())), "map[expired:3]")
	want(t, "left", w.box.Usage(dev(1)).Messages, 0)
	want(t, "quota", w.put(Delivery{Item: w.message(10), Devices: []wire.DeviceID{dev(1)}}).Accepted(), 1)
	want(t, "counted", w.box.Usage(dev(1)).Messages, 1)
}

func TestWhatWasHandedOutJustInTimeMayStillBeAcknowledged(t *testing.T) {
	w := newWorld(t)
	w.messages(2, dev(1))
	w.clock.advance(time.Hour - time.Second) // the deadline is the end of a bucket
	got := w.fetch(dev(1), 0, 10)
	w.clock.advance(2 * time.Second)
	want(t, "fetched too late", len(w.fetch(dev(1), 0, 10)), 0)
	w.sweep()
	want(t, "expired within the grace", len(w.seen()), 0)
	w.ack(dev(1), got[0].Seq)
	want(t, "acknowledged", fmt.Sprint(states(w.seen())), "map[acknowledged:1]")
	w.clock.advance(HandoutGrace)
	w.sweep()
	want(t, "the other", fmt.Sprint(states(w.seen())), "map[expired:1]")
	w.ack(dev(1), got[1].Seq)
	want(t, "too late", len(w.seen()), 0)
	want(t, "left", w.box.Usage(dev(1)).Messages, 0)
}

func TestControlAndHandshakesOfAnInboxCauseNoEvents(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.put(Delivery{Item: w.control(), Devices: []wire.DeviceID{dev(1)}})
		w.put(Delivery{Item: w.commit(), Devices: []wire.DeviceID{dev(1)}})
	}
	got := w.fetch(dev(1), 0, 10)
	w.ack(dev(1), got[1].Seq, got[0].Seq)
	w.pass(wire.HandshakeRetention)
	w.sweep()
	want(t, "events", len(w.seen()), 0)
	u := w.box.Usage(dev(1))
	want(t, "left", u.Control+u.Handshakes, 0)
}

func TestAnErasedInboxGivesNothingAndTakesNothing(t *testing.T) {
	w := newWorld(t)
	w.messages(3, dev(1), dev(2))
	w.fetch(dev(1), 0, 1)
	var late store.Batch // staged before, committed after
	s, err := w.box.Stage(&late, Delivery{Item: w.message(10), Devices: []wire.DeviceID{dev(1)}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.box.Erase(context.Background(), dev(1)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "dropped", fmt.Sprint(states(w.seen())), "map[dropped:3]")
	revoked := func() {
		t.Helper()
		_, err := w.box.Fetch(context.Background(), dev(1), 0, 10, 1<<20)
		want(t, "fetch", wire.StatusOf(err).Code, pb.Code_CODE_REVOKED)
		want(t, "wait", wire.StatusOf(w.box.Wait(context.Background(), dev(1), 0)).Code, pb.Code_CODE_REVOKED)
		st := w.put(Delivery{Item: w.message(10), Devices: []wire.DeviceID{dev(1), dev(2)}})
		want(t, "stage", st.Devices[0].Code, pb.Code_CODE_REVOKED)
		want(t, "others", st.Devices[1].Code, pb.Code_CODE_ACCEPTED)
	}
	revoked()
	if _, err := w.store.Commit(context.Background(), &late); err != nil {
		t.Fatal(err)
	}
	s.Done(true)
	want(t, "late", w.box.Usage(dev(1)).Messages, 1)
	w.sweep()
	want(t, "late, swept", w.box.Usage(dev(1)).Messages, 0)
	want(t, "dropped late", fmt.Sprint(states(w.seen())), "map[dropped:1]")
	w.reopen()
	revoked()
}

func TestNothingLeavesWhenTheEventCannotBeTold(t *testing.T) {
	w := newWorld(t)
	w.messages(2, dev(1))
	got := w.fetch(dev(1), 0, 1)
	w.fail = errors.New("no")
	if err := w.box.Ack(context.Background(), dev(1), Acked{Through: got[0].Seq}); !errors.Is(err, w.fail) {
		t.Fatalf("ack: %v", err)
	}
	w.pass(time.Hour + HandoutGrace)
	if err := w.box.Sweep(context.Background()); !errors.Is(err, w.fail) {
		t.Fatalf("sweep: %v", err)
	}
	want(t, "kept", w.box.Usage(dev(1)).Messages, 2)
	w.fail = nil
	w.sweep()
	want(t, "told later", fmt.Sprint(w.durable()), "map[expired:2]")
	want(t, "left", w.box.Usage(dev(1)).Messages, 0)
}

// A full disk takes acknowledgements only. They are taken, or it would stay full,
// and what they would have told waits until there is room.
func TestAFullDiskFreesItselfAndTellsLater(t *testing.T) {
	w := newWorld(t)
	w.messages(3, dev(1), dev(2))
	w.close()
	w.reserve = 1 << 60
	w.open()
	got := w.fetch(dev(1), 0, 10)
	w.ack(dev(1), got[1].Seq)
	if err := w.box.Erase(context.Background(), dev(2)); err != nil {
		t.Fatal(err)
	}
	want(t, "left", w.box.Usage(dev(1)).Messages+w.box.Usage(dev(2)).Messages, 1)
	want(t, "told", len(w.durable()), 0)
	if err := w.box.Sweep(context.Background()); !errors.Is(err, store.ErrFull) {
		t.Fatalf("sweep: %v", err)
	}
	w.close()
	w.reserve = -1
	w.openStore()
	w.box.store = w.store // room at last, without a restart
	w.sweep()
	want(t, "told later", fmt.Sprint(w.durable()), "map[acknowledged:2 dropped:3]")
	w.reopen()
	if _, err := w.box.Fetch(context.Background(), dev(2), 0, 1, 1); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Fatalf("the erased inbox: %v", err)
	}
}

func TestWaitEndsWithADeliveryAndWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	arrived, given := make(chan error, 1), make(chan error, 1)
	wg.Go(func() { arrived <- w.box.Wait(ctx, dev(1), 0) })
	wg.Go(func() { given <- w.box.Wait(ctx, dev(2), 0) })
	w.messages(1, dev(1))
	if err := <-arrived; err != nil {
		t.Fatal(err)
	}
	got := w.fetch(dev(1), 0, 10)
	if err := w.box.Wait(ctx, dev(1), 0); err != nil {
		t.Fatalf("what was fetched may be fetched again: %v", err)
	}
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := w.box.Wait(ctx, dev(1), got[0].Seq); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestRunSweepsUntilItsContextEnds(t *testing.T) {
	w := newWorld(t)
	w.messages(1, dev(1))
	w.pass(time.Hour)
	told := make(chan struct{})
	w.box.notify = func(ctx context.Context, b *store.Batch, e []Event) ([]*Staged, error) {
		close(told)
		return w.notify(ctx, b, e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.box.Run(ctx) }()
	<-told
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
