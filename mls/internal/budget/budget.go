// Package budget holds one operation to a limit of memory and time, for the fuzz
// targets of mls and mls/group: a short input must not cost much.
package budget

import (
	"fmt"
	"runtime"
	"time"
)

// Limits of one input.
const (
	MaxAlloc = 64 << 20        // bytes allocated in all, freed ones included
	MaxTime  = 5 * time.Second // wall clock, on a machine that may be busy
)

// Check runs f and returns an error that says by what f went beyond the limits.
// What other goroutines allocate meanwhile is counted too.
func Check(f func()) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > MaxAlloc {
		return fmt.Errorf("budget: %d bytes allocated, %d are allowed", n, MaxAlloc)
	}
	if took > MaxTime {
		return fmt.Errorf("budget: took %v, %v are allowed", took, MaxTime)
	}
	return nil
}
