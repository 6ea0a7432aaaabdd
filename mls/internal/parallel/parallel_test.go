package parallel

import (
	"runtime"
	"testing"
)

func TestEachCallsOncePerIndexAndWaits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		for _, n := range []int{0, 1, 3, 4, 5, 1000} {
			calls := make([]int, n)
			Each(n, func(i int) { calls[i]++ })
			for i, c := range calls {
				if c != 1 {
					t.Fatalf("%d of %d called %d times on %d processors", i, n, c, procs)
				}
			}
		}
	}
}
