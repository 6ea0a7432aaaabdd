package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

// testClock is moved by hand: both clocks together, or the wall alone.
type testClock struct {
	mu   sync.Mutex
	wall time.Time
	boot time.Duration
}

func newTestClock() *testClock { return &testClock{wall: time.Unix(1_800_000_000, 0), boot: time.Hour} }

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

func (c *testClock) Boot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

func (c *testClock) advance(wall, boot time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.boot = c.wall.Add(wall), c.boot+boot
}

func testOptions(dir string, c Clock) Options {
	return Options{Dir: dir, SealKey: [32]byte{7}, Bucket: 5 * time.Second, Clock: c, TrustClock: true,
		SegmentSize: 1 << 20, Slack: 1 << 20, Reserve: -1}
}

type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func openStore(t tester, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t tester, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func commit(t tester, s *Store, b *Batch) Committed {
	t.Helper()
	c, err := s.Commit(context.Background(), b)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return c
}

// deposit puts one body into queues and returns its number.
func deposit(t tester, s *Store, body string, life time.Duration, queues ...QueueID) LSN {
	t.Helper()
	var b Batch
	b.Deposit(Deposit{Body: []byte(body), Meta: metaFor(body), Deadline: s.o.Clock.Now().Add(life), Queues: queues})
	return commit(t, s, &b).LSNs[0]
}

func metaFor(body string) []byte { return []byte("meta of " + body[:min(len(body), 200)]) }

// bodies fetches all of a queue.
func bodies(t tester, s *Store, q QueueID) []string {
	t.Helper()
	items, err := s.Fetch(q, 0, 1<<20, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, it := range items {
		if it.Err != nil {
			t.Fatalf("item %d: %v", it.LSN, it.Err)
		}
		if !bytes.Equal(it.Meta, metaFor(string(it.Body))) {
			t.Fatalf("item %d: body %q with metadata %q", it.LSN, it.Body, it.Meta)
		}
		out = append(out, string(it.Body))
	}
	return out
}

func want(t tester, what string, got, wanted any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Fatalf("%s: %v, want %v", what, got, wanted)
	}
}

// healthy fails when a store has anything to report.
func healthy(t tester, s *Store) {
	t.Helper()
	if st := s.Status(); st.DamagedCount > 0 || st.Lost > 0 || st.Err != nil {
		t.Fatalf("status: %d damaged %v, %d lost, %v", st.DamagedCount, st.Damaged, st.Lost, st.Err)
	}
}

func TestADepositIsOneBodyInManyQueuesAndOutlivesARestart(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	for _, round := range []string{"written", "reopened", "once more"} {
		if round == "written" {
			deposit(t, s, "one", time.Hour, 1, 2, 3)
			deposit(t, s, "two", time.Hour, 2)
			var b Batch
			b.Put([]byte("k/1"), []byte("v1"))
			b.Put([]byte("k/2"), []byte("v2"))
			b.Put([]byte("k/1"), []byte("v1 again"))
			b.Delete([]byte("k/2"))
			commit(t, s, &b)
		} else {
			closeStore(t, s)
			s = openStore(t, o)
		}
		healthy(t, s)
		want(t, round+" 1", bodies(t, s, 1), []string{"one"})
		want(t, round+" 2", bodies(t, s, 2), []string{"one", "two"})
		want(t, round+" 4", bodies(t, s, 4), []string(nil))
		v, err := s.Get([]byte("k/1"))
		want(t, round+" get", string(v)+fmt.Sprint(err), "v1 again<nil>")
		if _, err := s.Get([]byte("k/2")); !errors.Is(err, ErrNotFound) {
			t.Fatalf("a deleted record: %v", err)
		}
		n, size := s.Count(2)
		want(t, round+" count", []any{n, size}, []any{2, 6})
		want(t, round+" refs", s.Status().Refs, 4)
	}
	closeStore(t, s)
}

func TestAcknowledgedReferencesStayGone(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	lsn := deposit(t, s, "one", time.Hour, 1, 2)
	deposit(t, s, "two", time.Hour, 1)
	var b Batch
	b.Ack(1, lsn, lsn, 9999)
	b.Ack(77, lsn)
	commit(t, s, &b)
	for range 2 {
		want(t, "1", bodies(t, s, 1), []string{"two"})
		want(t, "2", bodies(t, s, 2), []string{"one"})
		closeStore(t, s)
		s = openStore(t, o)
	}
	if err := s.EraseQueue(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	want(t, "erased", bodies(t, s, 1), []string(nil))
	closeStore(t, s)
}

func TestNamedReferencesAreFetchedAndThoseThatWentAreLeftOut(t *testing.T) {
	clock := newTestClock()
	s := openStore(t, testOptions(t.TempDir(), clock))
	var all []LSN
	for _, body := range []string{"a", "b", "c"} {
		all = append(all, deposit(t, s, body, 10*time.Hour, 1))
	}
	brief := deposit(t, s, "brief", time.Minute, 1)
	other := deposit(t, s, "of another queue", 10*time.Hour, 2)
	var b Batch
	b.Ack(1, all[1])
	commit(t, s, &b)
	clock.advance(2*time.Hour, 2*time.Hour)
	items, err := s.FetchThese(1, []LSN{all[2], all[1], other, brief, all[0], 1 << 40})
	want(t, "error", err, nil)
	var got []string
	for _, it := range items {
		want(t, "error of "+string(it.Body), it.Err, nil)
		got = append(got, string(it.Body))
	}
	want(t, "bodies", got, []string{"c", "a"})
	none, err := s.FetchThese(9, all)
	want(t, "of no queue", fmt.Sprint(none, err), "[] <nil>")
	closeStore(t, s)
}

func TestExpiredReferencesAreListedUntilAcknowledged(t *testing.T) {
	c := newTestClock()
	o := testOptions(t.TempDir(), c)
	s := openStore(t, o)
	lsn := deposit(t, s, "short", time.Second, 1, 2)
	deposit(t, s, "long", time.Hour, 1)
	want(t, "before", bodies(t, s, 1), []string{"short", "long"})
	c.advance(15*time.Second, 15*time.Second)
	want(t, "after", bodies(t, s, 1), []string{"long"})
	for range 2 {
		refs, err := s.Expired(10)
		if err != nil || len(refs) != 2 || string(refs[0].Meta) != "meta of short" || refs[0].LSN != lsn {
			t.Fatalf("expired: %v, %v", refs, err)
		}
		closeStore(t, s)
		s = openStore(t, o)
	}
	var b Batch
	b.Ack(1, lsn)
	b.Ack(2, lsn)
	commit(t, s, &b)
	refs, err := s.Expired(10)
	want(t, "acknowledged", fmt.Sprint(refs, err), "[] <nil>")
	closeStore(t, s)
}

func TestAClockThatJumpsAheadDestroysNothing(t *testing.T) {
	c := newTestClock()
	o := testOptions(t.TempDir(), c)
	o.TrustClock = false
	s := openStore(t, o)
	deposit(t, s, "kept", 30*time.Minute, 1)
	c.advance(48*time.Hour, time.Second)
	for _, when := range []string{"running", "after a restart"} {
		if refs, err := s.Expired(10); err != nil || len(refs) != 0 {
			t.Fatalf("%s: expired: %v, %v", when, refs, err)
		}
		want(t, when, bodies(t, s, 1), []string{"kept"})
		want(t, when+": held", s.Status().ClockHeld, true)
		closeStore(t, s)
		s = openStore(t, o)
	}
	s.AgreeClock(c.Now())
	want(t, "agreed: held", s.Status().ClockHeld, false)
	want(t, "agreed", bodies(t, s, 1), []string(nil))
	closeStore(t, s)
}

func TestASecondProcessIsRefusedByPID(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	var locked *ErrLocked
	if _, err := Open(context.Background(), o); !errors.As(err, &locked) || locked.PID == 0 {
		t.Fatalf("second open: %v", err)
	}
	closeStore(t, s)
	closeStore(t, openStore(t, o))
}

func TestAnotherSealKeyOrBucketIsRefused(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	deposit(t, s, "one", time.Hour, 1)
	closeStore(t, s)
	s = openStore(t, o)
	if err := s.SetMark("head", 5); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	wrong := o
	wrong.SealKey[0]++
	if _, err := Open(context.Background(), wrong); !errors.Is(err, ErrKey) {
		t.Fatalf("wrong key: %v", err)
	}
	wrong = o
	wrong.Bucket = time.Hour
	if _, err := Open(context.Background(), wrong); err == nil || !strings.Contains(err.Error(), "bucket") {
		t.Fatalf("wrong bucket: %v", err)
	}
	s = openStore(t, o)
	want(t, "kept", bodies(t, s, 1), []string{"one"})
	want(t, "mark", s.Mark("head"), 5)
	closeStore(t, s)
}

func TestBatchesOutOfBoundsAreRefusedWhole(t *testing.T) {
	c := newTestClock()
	s := openStore(t, testOptions(t.TempDir(), c))
	defer closeStore(t, s)
	soon := c.Now().Add(time.Minute)
	for name, d := range map[string]Deposit{
		"no queue":     {Deadline: soon},
		"queue twice":  {Deadline: soon, Queues: []QueueID{1, 2, 1}},
		"no deadline":  {Queues: []QueueID{1}},
		"far ahead":    {Deadline: c.Now().Add(MaxAhead + time.Hour), Queues: []QueueID{1}},
		"meta too big": {Deadline: soon, Queues: []QueueID{1}, Meta: make([]byte, MaxMeta+1)},
		"body too big": {Deadline: soon, Queues: []QueueID{1}, Body: make([]byte, MaxBody+1)},
	} {
		var b Batch
		b.Put([]byte("k"), []byte("v"))
		b.Deposit(d)
		if _, err := s.Commit(context.Background(), &b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := s.Get([]byte("k")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("part of a refused batch was written: %v", err)
	}
}

func TestALargeValueGetsASegmentOfItsOwn(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	big := bytes.Repeat([]byte("x"), MaxValue)
	var b Batch
	b.Put([]byte("big"), big)
	commit(t, s, &b)
	closeStore(t, s)
	s = openStore(t, o)
	got, err := s.Get([]byte("big"))
	if err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	closeStore(t, s)
}

func TestScanGoesThroughKeysInOrder(t *testing.T) {
	s := openStore(t, testOptions(t.TempDir(), newTestClock()))
	defer closeStore(t, s)
	var b Batch
	for i := range 2_000 {
		b.Put(fmt.Appendf(nil, "a/%04d", (i*7919)%2000), []byte("v"))
	}
	b.Put([]byte("b/1"), nil)
	commit(t, s, &b)
	n, after := 0, []byte(nil)
	for {
		page, err := s.Scan([]byte("a/"), after, 300)
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range page {
			want(t, "key", string(kv.Key), fmt.Sprintf("a/%04d", n))
			n++
			after = kv.Key
		}
		if len(page) < 300 {
			break
		}
	}
	want(t, "scanned", n, 2_000)
}

func TestASubscriberIsWokenOnceTheQueueCanBeRead(t *testing.T) {
	s := openStore(t, testOptions(t.TempDir(), newTestClock()))
	defer closeStore(t, s)
	grown, cancel := s.Subscribe(1)
	defer cancel()
	got := make(chan []string)
	go func() {
		<-grown
		got <- bodies(t, s, 1)
	}()
	deposit(t, s, "one", time.Hour, 1)
	want(t, "woken", <-got, []string{"one"})
}

func TestAfterAFailedSyncNothingIsPromised(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	fail := errors.New("input/output error")
	var broken bool
	o.hooks.syncError = func() error {
		if broken {
			return fail
		}
		return nil
	}
	s := openStore(t, o)
	deposit(t, s, "kept", time.Hour, 1)
	broken = true
	for range 3 {
		var b Batch
		b.Deposit(Deposit{Body: []byte("x"), Meta: metaFor("x"), Deadline: o.Clock.Now().Add(time.Hour), Queues: []QueueID{1}})
		if _, err := s.Commit(context.Background(), &b); !errors.Is(err, ErrBroken) {
			t.Fatalf("commit after a failed sync: %v", err)
		}
		broken = false // the disk says that it works again: too late
	}
	want(t, "reads go on", bodies(t, s, 1), []string{"kept"})
	if err := s.Close(); !errors.Is(err, ErrBroken) {
		t.Fatalf("close: %v", err)
	}
	o.hooks.syncError = nil
	s = openStore(t, o)
	if got := bodies(t, s, 1); got[0] != "kept" {
		t.Fatalf("after a restart: %v", got)
	}
	closeStore(t, s)
}

func TestReclaimGivesSegmentsBackAndKeepsWhatLives(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	var b Batch
	b.Put([]byte("lasting"), []byte("row"))
	commit(t, s, &b)
	first := deposit(t, s, "survivor", time.Hour, 1, 2)
	b = Batch{}
	b.Ack(2, first)
	commit(t, s, &b)
	filler := strings.Repeat("f", 64<<10)
	for range 200 {
		lsn := deposit(t, s, filler, time.Hour, 3)
		var b Batch
		b.Ack(3, lsn)
		commit(t, s, &b)
	}
	waitFor(t, "reclaim", func() bool { return s.Status().Bytes <= 4<<20 })
	for range 2 {
		healthy(t, s)
		want(t, "1", bodies(t, s, 1), []string{"survivor"})
		want(t, "2", bodies(t, s, 2), []string(nil))
		v, err := s.Get([]byte("lasting"))
		want(t, "row", string(v)+fmt.Sprint(err), "row<nil>")
		files, _ := filepath.Glob(filepath.Join(o.Dir, "log", "*.seg"))
		if len(files) > 5 {
			t.Fatalf("%d segments left", len(files))
		}
		closeStore(t, s)
		s = openStore(t, o)
	}
	closeStore(t, s)
}

// waitFor looks until something is so; a test's own time limit ends it.
func waitFor(t tester, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
