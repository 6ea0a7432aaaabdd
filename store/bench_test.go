package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkDeposit writes 1-KiB bodies into 10,000 queues from many writers, each
// deposit durable before the next, sealing on.
func BenchmarkDeposit(b *testing.B) {
	for _, writers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := benchStore(b)
			b.ResetTimer()
			fill(b, s, writers, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deposits/s")
		})
	}
}

// BenchmarkDrain fetches 64 at a time, opens and acknowledges, with 16 workers.
func BenchmarkDrain(b *testing.B) {
	s := benchStore(b)
	fill(b, s, 512, b.N)
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for q := QueueID(w); q < benchQueues; q += 16 {
				for {
					items, err := s.Fetch(q, 0, 64, 1<<20)
					if err != nil {
						b.Error(err)
						return
					}
					if len(items) == 0 {
						break
					}
					lsns := make([]LSN, len(items))
					for i, it := range items {
						if it.Err != nil {
							b.Error(it.Err)
						}
						lsns[i] = it.LSN
					}
					var batch Batch
					batch.Ack(q, lsns...)
					if _, err := s.Commit(context.Background(), &batch); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "drained/s")
	b.StopTimer()
	if n := s.Status().Refs; n != 0 {
		b.Fatalf("%d references left", n)
	}
}

const benchQueues = 10_000

func benchStore(b *testing.B) *Store {
	s := openStore(b, Options{Dir: b.TempDir(), SealKey: [32]byte{1}, Reserve: -1})
	b.Cleanup(func() { closeStore(b, s) })
	return s
}

// fill deposits n bodies of 1 KiB with 64 bytes of metadata.
func fill(b *testing.B, s *Store, writers, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	deadline := time.Now().Add(24 * time.Hour)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			body, meta := make([]byte, 1024), make([]byte, 64)
			rand.Read(body)
			for {
				i := left.Add(-1)
				if i < 0 {
					return
				}
				var batch Batch
				batch.Deposit(Deposit{Body: body, Meta: meta, Deadline: deadline, Queues: []QueueID{QueueID(i % benchQueues)}})
				if _, err := s.Commit(context.Background(), &batch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
