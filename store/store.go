package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const maxFindings = 1_000

// Store is an open store. Its methods may be called at once from many goroutines.
//
// Lock order: gate, mu; marks.mu, ratchet.mu and clock.mu are leaves.
type Store struct {
	o       Options
	log     *slog.Logger
	lasting *lasting
	ratchet *ratchet
	clock   *agreedClock
	marks   *marks
	metrics metrics
	lock    *os.File

	gate     sync.RWMutex // held shared while a request enters the line
	closing  bool
	requests chan *request
	spares   chan prepared
	done     chan struct{}
	wg       sync.WaitGroup // the maintenance and the maker of spares
	writer   sync.WaitGroup // the committer

	broken  atomic.Pointer[error]
	written atomic.Uint64 // last sequence in the log
	synced  atomic.Uint64 // last sequence on stable storage
	full    atomic.Int32
	free    atomic.Int64
	wasHeld bool     // of the maintenance
	stuck   *segment // of the maintenance: a segment that cannot be emptied before a restart

	// of the committer
	nextSeq uint64
	groupNo uint64
	buf     []byte
	slotBuf []byte

	mu           sync.RWMutex
	segments     []*segment
	active       *segment // written by the committer
	nextSegment  uint32
	queues       map[QueueID]*queue
	rows         rows
	byBucket     map[uint32]int // references
	refs         int
	liveBytes    int64
	tombs        []tomb
	findings     []Finding
	damagedCount uint64
}

// Open opens the store in o.Dir and creates it when there is none. It locks the
// folder (*ErrLocked), reads and verifies the whole log, and names what is damaged
// or lost in Status; only what makes a store unusable is an error.
func Open(ctx context.Context, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.hooks.spoil(); Wrong != "" && o.Logger != nil {
		o.Logger.Error("THIS BUILD LOSES MAIL ON PURPOSE AND IS FOR TESTS ONLY", "it", Wrong)
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "log"), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s, err := load(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if err := s.metrics.register(o.Registerer, s); err != nil {
		s.release()
		return nil, err
	}
	s.watchSpace()
	s.wg.Add(2)
	s.writer.Go(s.commitLoop)
	go s.prepareSpares()
	go s.maintain()
	if err := s.settle(); err != nil { // the slots that a crash left, before anything is promised
		return nil, errors.Join(err, s.Close())
	}
	debug.FreeOSMemory() // what reading the log took
	return s, nil
}

// load locks the folder and builds the index.
func load(ctx context.Context, o Options, readOnly bool) (*Store, error) {
	s := &Store{
		o: o, log: o.Logger, metrics: newMetrics(),
		requests: make(chan *request, groupBatches), spares: make(chan prepared), done: make(chan struct{}),
		queues: make(map[QueueID]*queue), byBucket: make(map[uint32]int),
	}
	var err error
	if s.lasting, err = newLasting(o.SealKey); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if s.lock, err = takeLock(o.Dir); err != nil {
		return nil, err
	}
	if err := s.load(ctx, readOnly); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Store) load(ctx context.Context, readOnly bool) error {
	ids, err := listSegments(s.logDir(), !readOnly)
	if err != nil {
		return err
	}
	var found bool
	if s.marks, found, err = openMarks(s.o.Dir, s.lasting.mark); err != nil {
		return err
	}
	st := &s.marks.state
	length := uint32(s.o.Bucket / time.Second)
	if found && st.bucket != length {
		return fmt.Errorf("store: the bucket is %d s in this data, not %d s: it cannot be changed", st.bucket, length)
	}
	st.bucket = length
	r := &recovery{s: s}
	if !found && len(ids) > 0 {
		st.oldest = ids[0]
		r.name(Finding{Segment: ids[0], What: "the marks are missing"})
		st.lost++
	}
	var last time.Time
	if st.clock != 0 {
		last = time.Unix(0, st.clock)
	}
	s.clock = newAgreedClock(s.o.Clock, last, s.o.TrustClock)
	s.ratchet, err = openRatchet(s.o.Dir, len(ids) == 0 && !found, readOnly, livingAt(s.clock.agreed(), s.o.Bucket))
	if err != nil {
		return err
	}
	if s.ratchet.lost {
		r.name(Finding{What: "the ratchet's secret is lost, and all bodies with it"})
	}
	if err := s.recover(ctx, ids, readOnly); err != nil {
		return err
	}
	if readOnly {
		return nil
	}
	if n := len(s.segments); n > 0 { // the rest of its zeros: writing goes on in a new segment
		if g := s.segments[n-1]; g.size > g.end {
			if err := s.cut(g, g.end, false); err != nil {
				return err
			}
		}
	}
	for _, g := range s.segments { // what was read is what is on stable storage from now on
		if err := datasync(g.f); err != nil {
			return fmt.Errorf("store: syncing the log: %w", err)
		}
	}
	s.synced.Store(s.written.Load())
	return nil
}

// takeLock locks the folder for this process.
func takeLock(dir string) (*os.File, error) {
	f, err := openLock(dir, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(pid), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("store: locking: %w", err)
	}
	return f, nil
}

// openLock locks a folder's lock file and leaves in it what it says.
func openLock(dir string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: locking: %w", err)
	}
	if err := lockFile(f); err != nil {
		b, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, &ErrLocked{Dir: dir, PID: pid}
	}
	return f, nil
}

// open reports whether reads may go on.
func (s *Store) open() error {
	select {
	case <-s.done:
		return ErrClosed
	default:
		return nil
	}
}

// Close finishes what is in the line, syncs everything and closes the store. When it
// returns nil all that was acknowledged is on stable storage, and so are the marks.
func (s *Store) Close() error {
	s.gate.Lock()
	if s.closing {
		s.gate.Unlock()
		return ErrClosed
	}
	s.gate.Unlock()
	err := s.failed()
	if err == nil {
		err = s.settle()
	}
	s.gate.Lock()
	if s.closing {
		s.gate.Unlock()
		return ErrClosed
	}
	s.closing = true
	close(s.requests)
	s.gate.Unlock()
	s.writer.Wait()
	close(s.done)
	s.wg.Wait()
	if err == nil {
		err = s.finish()
	}
	s.metrics.unregister(s.o.Registerer)
	s.release()
	return err
}

// finish settles what came while Close began.
func (s *Store) finish() error {
	if err := s.syncLog(); err != nil {
		return err
	}
	if err := s.writeTombs(); err != nil {
		return err
	}
	synced := s.synced.Load()
	s.marks.update(func(m *markState) { m.seq = max(m.seq, synced) })
	return s.marks.save()
}

// release closes files and forgets keys.
func (s *Store) release() {
	for _, g := range s.segments {
		g.close()
	}
	if s.marks != nil {
		s.marks.f.Close()
	}
	if s.ratchet != nil {
		s.ratchet.close()
	}
	s.lock.Close()
}
