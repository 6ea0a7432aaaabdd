package store

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is what a store says of itself.
type Status struct {
	Segments  int
	Bytes     int64 // of all segments
	LiveBytes int64 // of records that are needed
	Refs      int   // references in all queues
	Rows      int   // lasting records
	LSN       LSN   // the highest number given out
	FreeBytes int64 // of the disk; 0: not known yet
	Reserve   int64 // free bytes below which nothing that grows is taken; negative: none

	Damaged      []Finding // damages found at Open, 1,000 at most
	DamagedCount uint64
	Lost         uint64 // synced records that were missing at an Open, at the end or with a whole segment; until AcceptLoss
	Recovering   bool   // Lost > 0: sign nothing above the marks
	ClockHeld    bool   // the wall clock is not followed
	Full         bool   // ErrFull is being answered
	Err          error  // why nothing is promised any more
}

// Status returns the present state.
func (s *Store) Status() Status {
	st := Status{FreeBytes: s.free.Load(), Reserve: s.o.Reserve, Full: s.full.Load() > 0, ClockHeld: s.clock.isHeld(), Err: s.failed(), LSN: LSN(s.written.Load())}
	s.marks.mu.Lock()
	st.Lost = s.marks.state.lost
	s.marks.mu.Unlock()
	st.Recovering = st.Lost > 0
	s.mu.RLock()
	defer s.mu.RUnlock()
	st.Segments, st.LiveBytes, st.Refs, st.Rows = len(s.segments), s.liveBytes, s.refs, s.rows.n
	for _, g := range s.segments {
		st.Bytes += g.size
	}
	st.Damaged, st.DamagedCount = slices.Clone(s.findings), s.damagedCount
	return st
}

// metrics of a store, moved by commit.go, read.go and maintain.go.
type metrics struct {
	deposits, groups, bytes, refused, damaged, reclaimed prometheus.Counter
	own                                                  []prometheus.Collector
}

func newMetrics() metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "entente_store_" + name, Help: help})
	}
	return metrics{
		deposits: counter("deposits_total", "Deposits written."), groups: counter("groups_total", "Groups written."),
		bytes: counter("written_bytes_total", "Bytes of records written."), refused: counter("refused_total", "Batches refused because the disk is full."),
		damaged: counter("damaged_total", "Reads of damaged records."), reclaimed: counter("reclaimed_total", "Segments given back."),
	}
}

func (m *metrics) register(r prometheus.Registerer, s *Store) error {
	if r == nil {
		return nil
	}
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "entente_store_" + name, Help: help}, func() float64 { return value(s.Status()) })
	}
	m.own = []prometheus.Collector{m.deposits, m.groups, m.bytes, m.refused, m.damaged, m.reclaimed,
		gauge("references", "References in all queues.", func(t Status) float64 { return float64(t.Refs) }),
		gauge("log_bytes", "Bytes of the log.", func(t Status) float64 { return float64(t.Bytes) }),
		gauge("live_bytes", "Bytes of the log that are needed.", func(t Status) float64 { return float64(t.LiveBytes) }),
	}
	for i, c := range m.own {
		if err := r.Register(c); err != nil {
			m.own = m.own[:i]
			m.unregister(r)
			return fmt.Errorf("store: registering metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.own {
		r.Unregister(c)
	}
}

// Fsck verifies a store that is not open, without changing anything in its log: it
// reads every record and opens every lasting record and every body that lives. It
// returns what is damaged; an error means that it could not look. Look, if it is not nil, is
// given the store for reading.
func Fsck(ctx context.Context, o Options, look func(*Store)) ([]Finding, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.Dir); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	o.TrustClock = true
	s, err := load(ctx, o, true)
	if err != nil {
		return nil, err
	}
	defer s.release()
	out := slices.Clone(s.findings)
	var keys []string
	s.rows.scan("", "", func(r row) bool { keys = append(keys, r.key); return true })
	for _, k := range keys {
		if _, err := s.Get([]byte(k)); err != nil {
			l := s.rows.get(k)
			out = append(out, Finding{Segment: l.seg.id, Offset: int64(l.off), Records: 1, What: err.Error()})
		}
	}
	for id := range s.queues {
		items, err := s.Fetch(id, 0, 1<<30, 1<<62)
		if err != nil {
			return out, err
		}
		for _, it := range items {
			if it.Err != nil {
				out = append(out, Finding{Seq: uint64(it.LSN), Records: 1, What: it.Err.Error()})
			}
		}
	}
	if look != nil {
		look(s)
	}
	return out, nil
}
