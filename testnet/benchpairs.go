package testnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/device"
)

const (
	memoryFolder = "/dev/shm" // a file system without a disk: device stores "in memory"
	benchLoad    = 8 * time.Second
)

// benchPairs has 64 members of one organization write to 64 of another through both
// nodes, processes with durable stores, MLS included; first with the devices' stores in
// memory, then on the disk.
func benchPairs(ctx context.Context, o BenchOptions, root string) error {
	memory, err := os.MkdirTemp(memoryFolder, "entente-bench-")
	if err != nil {
		fmt.Fprintf(o.Out, "pairs: no memory file system: %v\n", err)
	} else {
		defer os.RemoveAll(memory)
		if err := benchPairsAt(ctx, o, filepath.Join(root, "pairs-1"), memory, "in memory"); err != nil {
			return err
		}
	}
	return benchPairsAt(ctx, o, filepath.Join(root, "pairs-2"), root, "on the disk")
}

func benchPairsAt(ctx context.Context, o BenchOptions, nodes, stores, where string) error {
	var both [2]*Organization
	var devices [2][]*device.Device
	for i, name := range []string{"acme.example", "globex.example"} {
		if err := os.MkdirAll(nodes, 0o700); err != nil {
			return err
		}
		org, err := startRaised(ctx, o.Binary, nodes, name)
		if err != nil {
			return err
		}
		defer org.Stop()
		both[i] = org
		if devices[i], err = enrolMany(ctx, org, stores, "device", benchDeviceCount); err != nil {
			return err
		}
		defer closeAll(devices[i])
	}
	if err := agreeBetween(ctx, nodes, both[0], both[1]); err != nil {
		return err
	}
	for _, window := range []int{1, 16} {
		if err := loadPairs(ctx, o, devices[0], devices[1], window, where); err != nil {
			return err
		}
	}
	return nil
}

func loadPairs(ctx context.Context, o BenchOptions, from, to []*device.Device, window int, where string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var shown, next atomic.Int64
	ended := make(chan error, len(to))
	for _, d := range to {
		go func() {
			ended <- d.Receive(ctx, true, func(s device.Shown) error {
				if s.Event == "message" {
					shown.Add(1)
				}
				return nil
			})
		}()
	}
	senders := make([]*device.Sender, len(from))
	for i, d := range from {
		var err error
		if senders[i], err = d.Sender(ctx); err != nil {
			return err
		}
		defer senders[i].Close()
		if err := senders[i].Send(ctx, to[i].Address(), "hello", device.SendOptions{}, func(device.Progress) {}); err != nil {
			return err
		}
	}
	began := time.Now()
	before := shown.Load()
	err := parallel(len(from)*window, func() error {
		i := int(next.Add(1)-1) % len(from)
		for time.Since(began) < benchLoad {
			if err := senders[i].Send(ctx, to[i].Address(), "a message of a few words", device.SendOptions{}, func(device.Progress) {}); err != nil {
				return err
			}
		}
		return nil
	})
	count, lasted := shown.Load()-before, time.Since(began)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "pairs: %d, %2d in flight each, device stores %s  %7.0f messages/s shown\n", len(from), window, where, float64(count)/lasted.Seconds())
	cancel()
	for range to {
		if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// agreeBetween makes two running organizations partners.
func agreeBetween(ctx context.Context, root string, a, b *Organization) error {
	w := &walk{root: root, acme: a, globex: b}
	_, err := w.agree(ctx)
	return err
}
