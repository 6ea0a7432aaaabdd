//go:build !linux

package store

import (
	"errors"
	"os"
	"time"
)

// systemClock is the machine's. Boot is the process's monotonic clock.
type systemClock struct{}

var processStart = time.Now()

func (systemClock) Now() time.Time      { return time.Now() }
func (systemClock) Boot() time.Duration { return time.Since(processStart) }

func datasync(f *os.File) error { return f.Sync() }

func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }

func lockFile(*os.File) error { return nil }
