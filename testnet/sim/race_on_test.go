//go:build race

package sim

import (
	"runtime"
	"time"
)

// The race detector makes a run some ten times as slow: fewer and shorter ones.
const (
	defaultSeeds  = 4
	defaultActive = 30 * time.Second
)

// In Go 1.26 all timers of a bubble have one context of the race detector, which two threads
// that run timers at the same time destroy ("CHECK failed: tsan_rtl.cpp:282 slot_locked"). Who
// is ordered before whom is seen on one thread as well.
func init() { runtime.GOMAXPROCS(1) }
