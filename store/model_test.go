package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a store should hold.
type model struct {
	t      *rapid.T
	o      Options
	clock  *testClock
	s      *Store
	queues map[QueueID][]modelRef
	rows   map[string]string
	n      int
}

type modelRef struct {
	lsn  LSN
	body string
	end  time.Time
}

func TestTheStoreDoesWhatAMapWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "model")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &model{t: t, clock: newTestClock(), queues: map[QueueID][]modelRef{}, rows: map[string]string{}}
		m.o = testOptions(dir, m.clock)
		m.o.SegmentSize, m.o.Slack = MinSegmentSize, 256<<10
		m.s = openStore(t, m.o)
		defer func() { closeStore(t, m.s) }()
		t.Repeat(map[string]func(*rapid.T){
			"deposit": m.deposit, "ack": m.ack, "rows": m.putRows, "reopen": m.reopen,
			"fill": m.fill, "pass": m.pass, "": m.check,
		})
	})
}

func (m *model) deposit(t *rapid.T) {
	var b Batch
	var refs []modelRef
	queues := rapid.SliceOfNDistinct(rapid.Uint32Range(1, 4), 1, 3, rapid.ID).Draw(t, "queues")
	ids := make([]QueueID, len(queues))
	for i, q := range queues {
		ids[i] = QueueID(q)
	}
	for range rapid.IntRange(1, 3).Draw(t, "n") {
		m.n++
		life := time.Duration(rapid.IntRange(0, 60).Draw(t, "life")) * time.Second
		body := fmt.Sprintf("body %d", m.n)
		b.Deposit(Deposit{Body: []byte(body), Meta: metaFor(body), Deadline: m.clock.Now().Add(life), Queues: ids})
		end := m.clock.Now().Add(max(life, 5*time.Second))
		if r := end.Unix() % 5; r != 0 {
			end = end.Add(time.Duration(5-r) * time.Second)
		}
		refs = append(refs, modelRef{body: body, end: end})
	}
	for i, l := range commit(t, m.s, &b).LSNs {
		refs[i].lsn = l
		for _, q := range ids {
			m.queues[q] = append(m.queues[q], refs[i])
		}
	}
}

func (m *model) ack(t *rapid.T) {
	var b Batch
	q := QueueID(rapid.Uint32Range(1, 4).Draw(t, "queue"))
	var kept []modelRef
	for _, r := range m.queues[q] {
		if rapid.Bool().Draw(t, "ack") {
			b.Ack(q, r.lsn)
		} else {
			kept = append(kept, r)
		}
	}
	commit(t, m.s, &b)
	m.queues[q] = kept
}

func (m *model) putRows(t *rapid.T) {
	var b Batch
	for range rapid.IntRange(1, 4).Draw(t, "n") {
		k := fmt.Sprintf("k/%d", rapid.IntRange(0, 9).Draw(t, "key"))
		if rapid.Bool().Draw(t, "delete") {
			b.Delete([]byte(k))
			delete(m.rows, k)
			continue
		}
		m.n++
		m.rows[k] = fmt.Sprint("v", m.n)
		b.Put([]byte(k), []byte(m.rows[k]))
	}
	commit(t, m.s, &b)
}

func (m *model) reopen(t *rapid.T) {
	closeStore(t, m.s)
	m.s = openStore(t, m.o)
}

// fill makes segments and garbage for reclaim.
func (m *model) fill(t *rapid.T) {
	for range 6 {
		var b Batch
		b.Deposit(Deposit{Body: make([]byte, 60<<10), Deadline: m.clock.Now().Add(time.Hour), Queues: []QueueID{99}})
		l := commit(t, m.s, &b).LSNs[0]
		b = Batch{}
		b.Ack(99, l)
		commit(t, m.s, &b)
	}
	if rapid.Bool().Draw(t, "tick") { // not only when the maintenance happens to come
		if err := m.s.settle(); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *model) pass(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second
	m.clock.advance(d, d)
}

func (m *model) check(t *rapid.T) {
	healthy(t, m.s)
	expired := 0
	for q := QueueID(1); q <= 4; q++ {
		var living []string
		for _, r := range m.queues[q] {
			if r.end.After(m.clock.Now()) {
				living = append(living, r.body)
			} else {
				expired++
			}
		}
		want(t, fmt.Sprintf("queue %d", q), bodies(t, m.s, q), living)
		n, _ := m.s.Count(q)
		want(t, "count", n, len(m.queues[q]))
		peeked, err := m.s.Peek(q, 0, 1000)
		want(t, "peeked", fmt.Sprint(len(peeked), err), fmt.Sprint(n, " <nil>"))
	}
	refs, err := m.s.Expired(1 << 20)
	want(t, "expired", fmt.Sprint(len(refs), err), fmt.Sprint(expired, " <nil>"))
	var keys []string
	kvs, err := m.s.Scan([]byte("k/"), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		keys = append(keys, string(kv.Key))
		want(t, "row", string(kv.Value), m.rows[string(kv.Key)])
	}
	want(t, "rows", len(keys), len(m.rows))
	want(t, "order", slices.IsSorted(keys), true)
	if _, err := m.s.Get([]byte("none")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("no row: %v", err)
	}
}
