package testnet

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/store"
)

// BenchOptions says what is measured. Each part is bounded in count.
type BenchOptions struct {
	Binary    string
	Out       io.Writer
	Deposits  int      // of the store, per setting
	Messages  int      // device to device
	Members   int      // of the large room
	Commits   int      // missed there
	Directory int      // members of a directory
	Only      []string // parts to run; empty: all of BenchParts
}

// BenchParts are the parts of Bench, in their order.
var BenchParts = []string{"store", "pair", "devices", "pairs", "room", "directory"}

// Bench measures the figures of RESULTS.md and prints a line for each. Nothing is
// asserted: machines differ, and a figure that is missed is reported with what holds it.
func Bench(ctx context.Context, o BenchOptions) error {
	root, err := os.MkdirTemp("", "entente-bench-")
	if err != nil {
		return fmt.Errorf("testnet: %w", err)
	}
	defer os.RemoveAll(root)
	parts := map[string]func(context.Context, BenchOptions, string) error{
		"store": benchStores, "pair": benchPair, "devices": benchDevices, "pairs": benchPairs, "room": benchCatchUp, "directory": benchDirectory,
	}
	for _, part := range BenchParts {
		if len(o.Only) > 0 && !slices.Contains(o.Only, part) {
			continue
		}
		dir := filepath.Join(root, part)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("testnet: %w", err)
		}
		if err := parts[part](ctx, o, dir); err != nil {
			return err
		}
	}
	return nil
}

func benchStores(ctx context.Context, o BenchOptions, root string) error {
	for _, writers := range []int{1, 64, 512} {
		if err := benchStore(ctx, o, filepath.Join(root, fmt.Sprint("store-", writers)), writers); err != nil {
			return err
		}
	}
	return nil
}

const (
	benchBody    = 1 << 10
	benchQueues  = 10_000
	drainWorkers = 16
)

// benchStore fills a store with sealed 1-KiB bodies by so many writers, each deposit
// durable when it returns, and drains it: fetch 64, open, acknowledge.
func benchStore(ctx context.Context, o BenchOptions, dir string, writers int) error {
	s, err := store.Open(ctx, store.Options{Dir: dir, Reserve: -1})
	if err != nil {
		return err
	}
	defer s.Close()
	total := o.Deposits
	if writers == 1 {
		total /= 20
	}
	body := make([]byte, benchBody)
	deadline := time.Now().Add(24 * time.Hour)
	var next atomic.Int64
	began := time.Now()
	err = parallel(writers, func() error {
		for n := next.Add(1); n <= int64(total); n = next.Add(1) {
			var b store.Batch
			b.Deposit(store.Deposit{Body: body, Deadline: deadline, Queues: []store.QueueID{store.QueueID(n%benchQueues + 1)}})
			if _, err := s.Commit(ctx, &b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	rate := float64(total) / time.Since(began).Seconds()
	fmt.Fprintf(o.Out, "store: %3d writers  %9.0f durable deposits/s of 1 KiB, sealed\n", writers, rate)
	if writers != 64 {
		return nil
	}
	return benchDrain(ctx, o, s, total)
}

func benchDrain(ctx context.Context, o BenchOptions, s *store.Store, total int) error {
	var queue, drained atomic.Int64
	began := time.Now()
	err := parallel(drainWorkers, func() error {
		for q := queue.Add(1); q <= benchQueues; q = queue.Add(1) {
			for {
				items, err := s.Fetch(store.QueueID(q), 0, 64, 1<<20)
				if err != nil || len(items) == 0 {
					if err != nil {
						return err
					}
					break
				}
				var b store.Batch
				for _, it := range items {
					if it.Err != nil {
						return it.Err
					}
					b.Ack(store.QueueID(q), it.LSN)
				}
				if _, err := s.Commit(ctx, &b); err != nil {
					return err
				}
				drained.Add(int64(len(items)))
			}
		}
		return nil
	})
	if err == nil && drained.Load() != int64(total) {
		err = fmt.Errorf("testnet: %d of %d drained", drained.Load(), total)
	}
	fmt.Fprintf(o.Out, "store: %3d workers  %9.0f drained/s (fetch 64, open, acknowledge)\n", drainWorkers, float64(total)/time.Since(began).Seconds())
	return err
}

func parallel(n int, f func() error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range n {
		wg.Go(func() { errs <- f() })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// benchPair sends messages from a device of one organization to one of another, two
// nodes as processes, MLS and durable stores included, one at a time: from Send's
// encryption until the receiver has stored and shown it.
func benchPair(ctx context.Context, o BenchOptions, root string) error {
	w := &walk{WalkOptions: WalkOptions{Binary: o.Binary, Out: io.Discard, Bucket: time.Hour}, root: root}
	defer w.cleanUp()
	w.raised = true
	for _, step := range []func(*walk, context.Context) (string, error){(*walk).startBoth, (*walk).enrolBoth, (*walk).agree} {
		if _, err := step(w, ctx); err != nil {
			return err
		}
	}
	for _, org := range []*Organization{w.acme, w.globex} {
		v, err := org.Status(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(o.Out, "node:  at rest    %9.1f MB resident (%s)\n", number(v["rss_bytes"])/1e6, org.Name)
	}
	alice, err := device.Open(w.alice.Dir, []byte(passphrase))
	if err != nil {
		return err
	}
	defer alice.Close()
	bob, err := device.Open(w.bob.Dir, []byte(passphrase))
	if err != nil {
		return err
	}
	defer bob.Close()
	return measurePair(ctx, o, alice, bob)
}

func measurePair(ctx context.Context, o BenchOptions, alice, bob *device.Device) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived := make(chan string, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- bob.Receive(ctx, true, func(s device.Shown) error {
			if s.Event == "message" {
				arrived <- s.Text
			}
			return nil
		})
	}()
	sender, err := alice.Sender(ctx)
	if err != nil {
		return err
	}
	defer sender.Close()
	var took []time.Duration
	for i := range o.Messages + 10 {
		text := fmt.Sprint("message ", i)
		began := time.Now()
		if err := sender.Send(ctx, bob.Address(), text, device.SendOptions{}, func(device.Progress) {}); err != nil {
			return err
		}
		select {
		case got := <-arrived:
			if got != text {
				return fmt.Errorf("testnet: %q arrived where %q was sent", got, text)
			}
		case err := <-ended:
			return fmt.Errorf("testnet: the receiver ended: %w", err)
		case <-time.After(10 * time.Second):
			return fmt.Errorf("testnet: %q did not arrive", text)
		}
		if i >= 10 { // the first ones make the room and warm up
			took = append(took, time.Since(began))
		}
	}
	slices.Sort(took)
	fmt.Fprintf(o.Out, "pair:  one at a time, device to device over two nodes: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, max %.2f ms (%d messages)\n",
		ms(took, 50), ms(took, 90), ms(took, 99), ms(took, 100), len(took))
	cancel()
	<-ended
	return nil
}

func ms(sorted []time.Duration, percentile int) float64 {
	i := min(len(sorted)*percentile/100, len(sorted)-1)
	return float64(sorted[i].Microseconds()) / 1e3
}
