//go:build race

package sim

import "time"

// The race detector makes a run some ten times as slow: fewer and shorter ones.
const (
	defaultSeeds  = 4
	defaultActive = 30 * time.Second
)
