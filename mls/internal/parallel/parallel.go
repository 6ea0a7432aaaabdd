// Package parallel spreads work that depends on nothing but its input, such as
// signatures to verify and secrets to seal, over the processors.
//
// Its promise: when Each returns, every call has, and no goroutine is left. What
// the calls find is for the caller to look at in order, so that the outcome does
// not depend on which was first.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// few is the number of calls for which goroutines do not pay: 200 us of work.
const few = 4

// Each calls f with 0 to n-1, each once, from at most GOMAXPROCS goroutines. f
// must write only what is its own.
func Each(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if n < few || workers == 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	run := func() {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(run)
	}
	run()
	wg.Wait()
}
