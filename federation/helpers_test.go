package federation

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience bounds every wait for an event.
const patience = 30 * time.Second

// node is an organization's node with everything real but what stands behind
// Outbox and Handler, which are this package's own small interfaces.
type node struct {
	t       testing.TB
	name    string
	root    *identity.RootKeys
	keys    *identity.NodeKeys
	org     *identity.Organization
	cert    string
	dir     string
	listen  []multiaddr.Multiaddr
	clock   *testClock
	limits  Limits
	number  uint64 // incarnation
	logs    *logs
	store   *store.Store
	fed     *Federation
	stop    context.CancelFunc
	ended   chan error
	outbox  *outbox
	handler *handler
	ears    *ears
}

// newNode makes an organization with a node that listens on loopback and runs.
func newNode(t testing.TB, name string) *node {
	t.Helper()
	n := prepareNode(t, name)
	n.start()
	return n
}

func prepareNode(t testing.TB, name string) *node {
	t.Helper()
	n := &node{t: t, name: name, dir: t.TempDir(), clock: &testClock{}, number: 1, logs: &logs{},
		outbox: newOutbox(), handler: &handler{}, ears: &ears{}}
	var err error
	if n.root, n.keys, err = identity.NewKeys(); err != nil {
		t.Fatal(err)
	}
	n.listen = []multiaddr.Multiaddr{multiaddr.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t)))}
	var peer wire.DeviceID
	copy(peer[:], n.keys.Peer.Public().(ed25519.PublicKey))
	address := n.listen[0].String() + "/p2p/" + peer.String()
	n.org, n.cert, err = identity.CreateOrganization(identity.Creation{
		Name: name, Root: n.root, Keys: n.keys, Addresses: []string{address}, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.halt)
	return n
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (n *node) start() {
	n.t.Helper()
	n.open()
	ctx, stop := context.WithCancel(context.Background())
	n.stop, n.ended = stop, make(chan error, 1)
	fed, ended := n.fed, n.ended
	go func() { ended <- fed.Run(ctx) }()
}

// open opens the node without running it: it answers and sends nothing.
func (n *node) open() {
	n.t.Helper()
	var err error
	n.store, err = store.Open(context.Background(), store.Options{Dir: n.dir, SealKey: n.keys.Store, Reserve: -1, SegmentSize: store.MinSegmentSize})
	if err != nil {
		n.t.Fatal(err)
	}
	n.handler.store = n.store
	n.fed, err = New(Options{
		Key: n.keys.Peer, Listen: n.listen, Organization: n.org, NodeCertificate: n.cert,
		AgreementKey: wire.NoteKey{Owner: n.name + "/node", Public: n.org.Manifest.Node, Private: n.keys.Node},
		Store:        n.store, Outbox: n.outbox, Handler: n.handler, Clock: n.clock, Incarnation: n.number, Hearing: n.ears,
		Limits: n.limits, Logger: slog.New(slog.NewTextHandler(n.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		n.store.Close()
		n.t.Fatal(err)
	}
}

// halt ends the node and waits for it.
func (n *node) halt() {
	if n.fed == nil {
		return
	}
	if n.stop != nil {
		n.stop()
		if err := <-n.ended; err != nil {
			n.t.Errorf("%s ended with %v", n.name, err)
		}
	} else if err := n.fed.Close(); err != nil {
		n.t.Errorf("%s closed with %v", n.name, err)
	}
	if err := n.store.Close(); err != nil {
		n.t.Errorf("%s closed its store with %v", n.name, err)
	}
	n.fed, n.stop = nil, nil
}

// terms are those of most tests: open contact, a year from an hour ago.
func terms() identity.Terms {
	return identity.DefaultTerms(time.Now().Add(-time.Hour), time.Now().Add(wire.AgreementLifetime))
}

// befriend makes an agreement between two running nodes.
func befriend(t testing.TB, inviter, acceptor *node) {
	t.Helper()
	befriendOn(t, inviter, acceptor, terms())
}

func befriendOn(t testing.TB, inviter, acceptor *node, terms identity.Terms) {
	t.Helper()
	token, err := inviter.fed.Invite(context.Background(), acceptor.name, terms, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acceptor.fed.Accept(context.Background(), token); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition that outside events bring about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (n *node) linked(other *node) {
	n.t.Helper()
	until(n.t, n.name+" is linked with "+other.name, func() bool {
		i, err := n.fed.Partner(other.name)
		return err == nil && i.State == "connected"
	})
}

func refusedWith(t testing.TB, err error, want pb.Code) {
	t.Helper()
	if err == nil || wire.StatusOf(err).Code != want {
		t.Fatalf("got %v, want %s", err, wire.CodeName(want))
	}
}

// testClock is the system's clock, moved by an offset.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// logs keeps what was logged, to look for what must not be there.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// outbox keeps items in memory, one queue for each partner; it outlives the node.
type outbox struct {
	mu      sync.Mutex
	last    uint64
	items   map[wire.OrganizationID][]*pb.Item
	settled map[uint64]*pb.Status
	changed chan struct{}
}

func newOutbox() *outbox {
	return &outbox{items: map[wire.OrganizationID][]*pb.Item{}, settled: map[uint64]*pb.Status{}, changed: make(chan struct{})}
}

func (o *outbox) add(to wire.OrganizationID, it *pb.Item) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	it.Number = o.last
	o.items[to] = append(o.items[to], it)
	close(o.changed)
	o.changed = make(chan struct{})
	return o.last
}

func (o *outbox) List(org wire.OrganizationID, after uint64, n int) (out []Listed, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range o.items[org] {
		if it.Number > after && len(out) < n {
			out = append(out, listed(it))
		}
	}
	return out, nil
}

// listed is how an outbox lists an item.
func listed(it *pb.Item) Listed {
	l := Listed{Number: it.Number, Size: sizeOf(it), Message: isMessage(it)}
	if core, err := wire.ParseCore(it.GetEnvelope().GetCore()); err == nil {
		l.Room = wire.RoomID(core.Room)
	}
	return l
}

func (o *outbox) Open(org wire.OrganizationID, numbers []uint64) (out []*pb.Item, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range numbers {
		if i := slices.IndexFunc(o.items[org], func(it *pb.Item) bool { return it.Number == n }); i >= 0 {
			out = append(out, o.items[org][i])
		}
	}
	return out, nil
}

func (o *outbox) Settle(_ context.Context, org wire.OrganizationID, all []Settlement) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range all {
		if o.settled[s.Number] != nil {
			return errors.New("settled twice")
		}
		o.settled[s.Number] = s.Status
		o.items[org] = slices.DeleteFunc(o.items[org], func(it *pb.Item) bool { return it.Number == s.Number })
	}
	return nil
}

// Refuse removes all but handshakes that fan out, as a mailbox does.
func (o *outbox) Refuse(_ context.Context, org wire.OrganizationID, s *pb.Status) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items[org] = slices.DeleteFunc(o.items[org], func(it *pb.Item) bool {
		core, err := wire.ParseCore(it.GetEnvelope().GetCore())
		if err == nil && core.Class == pb.Class_CLASS_HANDSHAKE && it.Kind == pb.ItemKind_ITEM_KIND_FANOUT {
			return false
		}
		o.settled[it.Number] = s
		return true
	})
	return nil
}

func (o *outbox) Wait(ctx context.Context, org wire.OrganizationID, after uint64) error {
	for {
		o.mu.Lock()
		grown := o.changed
		q := o.items[org]
		o.mu.Unlock()
		if len(q) > 0 && q[len(q)-1].Number > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *outbox) status(number uint64) *pb.Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.settled[number]
}

// answeredWith waits until an item is settled and checks how.
func (o *outbox) answeredWith(t testing.TB, number uint64, want pb.Code) *pb.Status {
	t.Helper()
	until(t, fmt.Sprintf("item %d is settled", number), func() bool { return o.status(number) != nil })
	s := o.status(number)
	if s.Code != want {
		t.Fatalf("item %d: %s, want %s", number, wire.CodeName(s.Code), wire.CodeName(want))
	}
	return s
}

// arrival is an item that the handler has committed.
type arrival struct {
	from   wire.OrganizationID
	number uint64
	room   wire.RoomID
}

// handler commits what it gets to its node's store. judge may answer an item instead.
type handler struct {
	mu       sync.Mutex
	store    *store.Store
	arrivals []arrival
	judge    func(*pb.Item) *pb.Status
	fail     bool // the commit fails after record was called
	query    func(*pb.QueryRequest) *pb.QueryResponse
}

func (h *handler) Deliver(ctx context.Context, from wire.OrganizationID, items []*pb.Item, record func(*store.Batch, []*pb.Status) error) []*pb.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	statuses := make([]*pb.Status, len(items))
	var b store.Batch
	var came []arrival
	for i, it := range items {
		statuses[i] = wire.Status(pb.Code_CODE_ACCEPTED, "")
		if h.judge != nil {
			if s := h.judge(it); s != nil {
				statuses[i] = s
			}
		}
		if wire.ClassOf(statuses[i].Code) != wire.Success {
			continue
		}
		b.Put(fmt.Appendf(nil, "test/%s/%d", from, it.Number), it.Envelope.Core)
		came = append(came, arrival{from, it.Number, listed(it).Room})
	}
	err := record(&b, statuses)
	if err == nil && h.fail {
		err = errors.New("the disk is gone")
	}
	if err == nil {
		_, err = h.store.Commit(ctx, &b)
	}
	if err != nil {
		return repeat(wire.Status(pb.Code_CODE_INTERNAL, ""), len(items))
	}
	h.arrivals = append(h.arrivals, came...)
	return statuses
}

func (h *handler) Query(_ context.Context, _ wire.OrganizationID, q *pb.QueryRequest) *pb.QueryResponse {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.query == nil {
		return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_NOT_FOUND, "")}
	}
	return h.query(q)
}

func (h *handler) set(change func(*handler)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

// seen returns the numbers that were committed from a partner, sorted.
func (h *handler) seen(from wire.OrganizationID) (out []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.arrivals {
		if a.from == from {
			out = append(out, a.number)
		}
	}
	slices.SortFunc(out, cmp.Compare[uint64])
	return out
}

// counted reads a counter with one label.
func counted(t testing.TB, v *prometheus.CounterVec, label string) float64 {
	t.Helper()
	var m dto.Metric
	if err := v.WithLabelValues(label).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}
