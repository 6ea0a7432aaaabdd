package store

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults and limits.
const (
	DefaultBucket      = time.Hour
	DefaultSegmentSize = 16 << 20
	DefaultSlack       = 64 << 20  // garbage that is tolerated beside twice the live bytes
	DefaultReserve     = 256 << 20 // free space below which nothing that grows is taken

	MinSegmentSize = 256 << 10
	MaxSegmentSize = 64 << 20

	MaxBody   = 16 << 20 // of a deposit
	MaxMeta   = 1 << 10  // of a deposit
	MaxQueues = 65_536   // references of one deposit
	MaxKey    = 1 << 10
	MaxValue  = 8 << 20
	MaxBatch  = 48 << 20            // encoded bytes of a batch
	MaxAhead  = 40 * 24 * time.Hour // how far a deadline may lie ahead
	HoldBound = time.Hour           // a clock that is further off than this is not followed
	HoldEnds  = 2 * time.Hour       // of uptime after which it is followed all the same
	tickEvery = 250 * time.Millisecond
)

// Errors a caller acts on.
var (
	ErrNotFound = errors.New("store: not found")
	ErrFull     = errors.New("store: disk full: only acknowledgements are taken")
	ErrBroken   = errors.New("store: a write failed: nothing is promised until the store is opened anew")
	ErrClosed   = errors.New("store: closed")
	ErrDamaged  = errors.New("store: damaged record")
	ErrTooLarge = errors.New("store: too large")
	ErrInvalid  = errors.New("store: invalid batch")
	ErrDeadline = errors.New("store: deadline missing or too far ahead")
	ErrKey      = errors.New("store: the seal key does not belong to this data")
	ErrVersion  = errors.New("store: written by a version that this one does not know")
)

// ErrLocked says that another process has the folder open.
type ErrLocked struct {
	Dir string
	PID int // 0: unknown
}

func (e *ErrLocked) Error() string {
	return fmt.Sprintf("store: %s is in use by process %d", e.Dir, e.PID)
}

// Clock tells the time: Now is the wall clock, Boot the time since the machine
// started (CLOCK_BOOTTIME), which nobody can set.
type Clock interface {
	Now() time.Time
	Boot() time.Duration
}

// Options of a store. Dir is required; SealKey should be random.
type Options struct {
	Dir     string
	SealKey [32]byte      // seals lasting records and metadata; kept by the caller outside Dir
	Bucket  time.Duration // length of a deadline bucket, whole seconds; 0: DefaultBucket. Fixed once created
	Clock   Clock         // nil: the system's

	// TrustClock takes the wall clock as it is at Open. Otherwise a clock that is
	// more than HoldBound off the last one seen is held until AgreeClock or HoldEnds.
	TrustClock bool

	SegmentSize int64 // 0: DefaultSegmentSize
	Slack       int64 // 0: DefaultSlack
	Reserve     int64 // bytes of free disk kept; 0: DefaultReserve; negative: none

	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: none

	hooks hooks // tests of this package only
}

// hooks are the wrong engines that the fault checks must catch. They cannot be
// reached from another package, but for builds that say so (wrong.go).
type hooks struct {
	answerBeforeSync  bool
	answerBeforeWrite func()       // called between answer and write
	syncError         func() error // replaces a successful fdatasync's result
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("store: Dir is required")
	}
	if o.Bucket == 0 {
		o.Bucket = DefaultBucket
	}
	if o.Bucket < time.Second || o.Bucket%time.Second != 0 || o.Bucket > 24*time.Hour {
		return o, fmt.Errorf("store: a bucket of %v: want whole seconds, at most a day", o.Bucket)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.SegmentSize < MinSegmentSize || o.SegmentSize > MaxSegmentSize || o.SegmentSize%4096 != 0 {
		return o, fmt.Errorf("store: a segment size of %d: want a multiple of 4096 from %d to %d", o.SegmentSize, MinSegmentSize, MaxSegmentSize)
	}
	if o.Slack == 0 {
		o.Slack = DefaultSlack
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
