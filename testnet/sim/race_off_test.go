//go:build !race

package sim

import "time"

const (
	defaultSeeds  = 30
	defaultActive = 3 * time.Minute
)
