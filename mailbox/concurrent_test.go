package mailbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// P2 with senders, devices, a partner's worker and the sweeper at work at once,
// while time passes: every reference leaves exactly once.
func TestConservationHoldsWithEverybodyAtWorkAtOnce(t *testing.T) {
	const senders, each, devices = 4, 60, 3
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var sending, working sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for s := range senders {
		sending.Go(func() {
			for i := range each {
				n, err := w.send(ctx, fmt.Sprint(s), i)
				if err != nil {
					t.Errorf("send: %v", err)
					return
				}
				mu.Lock()
				taken += n
				mu.Unlock()
			}
		})
	}
	for i := range devices {
		working.Go(func() { w.device(ctx, t, dev(byte(i+1))) })
	}
	working.Go(func() { w.worker(ctx, t, partner('b')) })
	working.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if i < 20 { // less than the hour that the messages ask for
				w.clock.advance(testBucket / 4)
			}
			if err := w.box.Sweep(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("sweep: %v", err)
			}
		}
	})
	sending.Wait()
	cancel()
	working.Wait()
	w.pass(time.Hour + HandoutGrace)
	w.sweep()

	left := make(map[string]int)
	for _, e := range w.seen() {
		left[fmt.Sprint(e.Device, e.Partner, e.Envelope)]++
	}
	for who, n := range left {
		if n != 1 {
			t.Errorf("%s left %d times", who, n)
		}
	}
	want(t, "left", len(left), taken)
	totals := w.box.Totals()
	want(t, "still counted", totals.Inboxes.Messages+totals.Outboxes.Messages, 0)
}

// send stages, commits and settles one message to all devices and the partner.
func (w *world) send(ctx context.Context, sender string, i int) (int, error) {
	var batch store.Batch
	d := Delivery{
		Item: w.message(20), Sender: sender, Partners: []wire.OrganizationID{partner('b')},
		Devices: []wire.DeviceID{dev(1), dev(2), dev(3)},
	}
	if i%2 == 0 {
		d.Deadline = w.clock.Now().Add(testBucket)
	}
	s, err := w.box.Stage(&batch, d)
	if err != nil {
		return 0, err
	}
	_, err = w.store.Commit(ctx, &batch)
	s.Done(err == nil)
	return s.Accepted(), err
}

// device is a session: it waits, fetches and acknowledges, now and then too much.
func (w *world) device(ctx context.Context, t *testing.T, id wire.DeviceID) {
	mark := uint64(0)
	for w.box.Wait(ctx, id, mark) == nil {
		got, err := w.box.Fetch(ctx, id, mark, 1+rand.IntN(16), 1<<20)
		if err != nil {
			t.Errorf("fetch: %v", err)
			return
		}
		for _, e := range got {
			mark = max(mark, e.Seq)
		}
		if err := w.box.Ack(ctx, id, Acked{Through: mark + uint64(rand.IntN(3))}); err != nil {
			t.Errorf("ack: %v", err)
			return
		}
	}
}

// worker is a partner's: it settles what it fetches, now and then as not yet.
func (w *world) worker(ctx context.Context, t *testing.T, id wire.OrganizationID) {
	o := w.box.Outbox(id)
	for o.Wait(ctx, 0) == nil {
		got, err := openNext(o, 0, 16)
		if err != nil {
			t.Errorf("fetch: %v", err)
			return
		}
		var all []Settlement
		for _, e := range got {
			code := pb.Code_CODE_ACCEPTED
			if rand.IntN(4) == 0 {
				code = pb.Code_CODE_RATE_LIMITED
			}
			all = append(all, Settlement{Number: e.Number, Status: wire.Status(code, "")})
		}
		if err := o.Settle(ctx, all); err != nil {
			t.Errorf("settle: %v", err)
			return
		}
	}
}
