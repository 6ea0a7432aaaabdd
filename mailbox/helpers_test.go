package mailbox

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"go.uber.org/goleak"
)

// TestMain sets the models to a length that suits every run; -rapid.checks=1000 on
// the command line is for the night.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": "50", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

const testBucket = 10 * time.Minute

// testClock is moved by hand; both clocks go together, as on a healthy machine.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

var testStart = time.Unix(1_800_000_000, 0)

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) Boot() time.Duration { return c.Now().Sub(testStart) + time.Hour }

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// tester is what rapid's and the standard library's T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// world is a mailbox on a real store that can be closed and opened again.
type world struct {
	t       tester
	dir     string
	clock   *testClock
	limits  Limits
	reserve int64 // free disk that the store keeps; more than there is: a full disk
	store   *store.Store
	box     *Mailbox

	mu     sync.Mutex
	events []Event // of committed batches
	fail   error   // what Notify answers, if anything
	serial uint64
}

func newWorld(t *testing.T) *world { return newWorldIn(t, t.TempDir(), Limits{}) }

func newWorldIn(t tester, dir string, limits Limits) *world {
	w := &world{t: t, dir: dir, clock: &testClock{now: testStart}, limits: limits, reserve: -1}
	w.open()
	if c, ok := t.(*testing.T); ok {
		c.Cleanup(w.close)
	}
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.openStore()
	box, err := Open(context.Background(), Options{
		Store: w.store, Clock: w.clock, Bucket: testBucket, Limits: w.limits, Notify: w.notify,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.box = box
}

func (w *world) openStore() {
	w.t.Helper()
	s, err := store.Open(context.Background(), store.Options{
		Dir: w.dir, Bucket: testBucket, Clock: w.clock, TrustClock: true, SegmentSize: 256 << 10, Reserve: w.reserve,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = s
}

func (w *world) close() {
	if w.store != nil {
		if err := w.store.Close(); err != nil {
			w.t.Fatal(err)
		}
		w.store = nil
	}
}

func (w *world) reopen() {
	w.t.Helper()
	w.close()
	w.open()
}

// eventKey is where the test's Notify writes an event into the batch that it came
// with: the store, not memory, says which events there were.
func eventKey(e Event) []byte {
	k := append([]byte("nd/event/"), e.Device[:]...)
	k = append(k, e.Partner[:]...)
	k = append(k, e.Envelope[:]...)
	return append(k, []byte(e.State.String())...)
}

func (w *world) notify(_ context.Context, b *store.Batch, events []Event) ([]*Staged, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return nil, w.fail
	}
	for _, e := range events {
		w.serial++
		b.Put(eventKey(e), binary.BigEndian.AppendUint64(nil, w.serial))
	}
	w.events = append(w.events, events...)
	return nil, nil
}

// seen returns what was notified since the last call.
func (w *world) seen() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events
	w.events = nil
	return e
}

// durable counts the events in the store by state.
func (w *world) durable() map[string]int {
	w.t.Helper()
	out := make(map[string]int)
	var after []byte
	for {
		rows, err := w.store.Scan([]byte("nd/event/"), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range rows {
			out[string(r.Key[len("nd/event/")+96:])]++
			after = r.Key
		}
		if len(rows) < 1000 {
			return out
		}
	}
}

// put stages one delivery and commits it.
func (w *world) put(d Delivery) *Staged {
	w.t.Helper()
	return w.putAll(d)[0]
}

// putAll commits several deliveries as one batch.
func (w *world) putAll(ds ...Delivery) []*Staged {
	w.t.Helper()
	var batch store.Batch
	staged := make([]*Staged, len(ds))
	for i, d := range ds {
		var err error
		if staged[i], err = w.box.Stage(&batch, d); err != nil {
			w.t.Fatalf("staging: %v", err)
		}
	}
	if _, err := w.store.Commit(context.Background(), &batch); err != nil {
		w.t.Fatalf("commit: %v", err)
	}
	settleAll(staged, true)
	return staged
}

func (w *world) fetch(device wire.DeviceID, after uint64, n int) []Entry {
	w.t.Helper()
	e, err := w.box.Fetch(context.Background(), device, after, n, 16<<20)
	if err != nil {
		w.t.Fatalf("fetch: %v", err)
	}
	for _, x := range e {
		if x.Err != nil {
			w.t.Fatalf("fetch: entry %d: %v", x.Seq, x.Err)
		}
	}
	return e
}

func (w *world) ack(device wire.DeviceID, through uint64, unreadable ...uint64) {
	w.t.Helper()
	if err := w.box.Ack(context.Background(), device, Acked{Through: through, Unreadable: unreadable}); err != nil {
		w.t.Fatalf("ack: %v", err)
	}
}

func (w *world) sweep() {
	w.t.Helper()
	if err := w.box.Sweep(context.Background()); err != nil {
		w.t.Fatalf("sweep: %v", err)
	}
}

// pass moves the clock over the end of the buckets within d.
func (w *world) pass(d time.Duration) { w.clock.advance(d + 2*testBucket) }

func dev(n byte) wire.DeviceID           { return wire.DeviceID{n, 'd'} }
func partner(n byte) wire.OrganizationID { return wire.OrganizationID{n, 'o'} }
func roomID(n byte) wire.RoomID          { return wire.RoomID{n, 'r'} }
func handle(n uint64) []byte             { return binary.BigEndian.AppendUint64(make([]byte, 8, 16), n) }
func states(events []Event) map[string]int {
	return countBy(events, func(e Event) string { return e.State.String() })
}

func countBy[T any](all []T, key func(T) string) map[string]int {
	out := make(map[string]int)
	for _, x := range all {
		out[key(x)]++
	}
	return out
}

// envelope makes an item of a class with a body of its own.
func (w *world) envelope(class pb.Class, kind pb.Kind, size int) *pb.Item {
	w.t.Helper()
	w.mu.Lock()
	w.serial++
	n := w.serial
	w.mu.Unlock()
	room := roomID(1)
	core := &pb.EnvelopeCore{
		Version: 1, Class: class, Kind: kind, Room: room[:], Epoch: n, ReturnHandle: handle(n),
		Body: append(fmt.Appendf(nil, "body %d ", n), make([]byte, size)...),
	}
	core.Body = core.Body[:max(size, 1)]
	if class != pb.Class_CLASS_HANDSHAKE {
		core.Deadline = w.clock.Now().Add(time.Hour).Unix()
	}
	b, err := wire.EncodeCore(core)
	if err != nil {
		w.t.Fatal(err)
	}
	own := partner('a')
	return &pb.Item{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: b, Seq: n}, Origin: own[:]}
}

func (w *world) message(size int) *pb.Item {
	return w.envelope(pb.Class_CLASS_MESSAGE, pb.Kind_KIND_APPLICATION, size)
}

func (w *world) commit() *pb.Item {
	return w.envelope(pb.Class_CLASS_HANDSHAKE, pb.Kind_KIND_COMMIT, 40)
}

func (w *world) control() *pb.Item {
	return w.envelope(pb.Class_CLASS_CONTROL, pb.Kind_KIND_NOTICE, 40)
}

// want fails unless got equals what is written.
func want[T comparable](t tester, what string, got, wanted T) {
	t.Helper()
	if got != wanted {
		t.Fatalf("%s: %v, want %v", what, got, wanted)
	}
}
