package home

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event that must come.
const patience = 20 * time.Second

func newKey(t testing.TB) (ed25519.PrivateKey, wire.DeviceID) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, wire.DeviceID(pub)
}

// members is a directory that a test can revoke in.
type members struct {
	mu     sync.Mutex
	active map[wire.DeviceID]bool
	asked  int
}

func (m *members) ByDevice(d wire.DeviceID) (wire.MemberID, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return wire.MemberID(d), m.active[d]
}

func (m *members) set(d wire.DeviceID, active bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active[d] = active
}

// box is a session.Backend that keeps a mailbox and the submissions in memory.
type box struct {
	mu        sync.Mutex
	mail      []*pb.Deliver
	acked     uint64
	above     []uint64
	unread    []session.Unread
	submitted []uint64
	failPull  error
	hold      bool // submissions stay without a result
	wake      chan struct{}
	event     chan struct{} // pulsed at every change
}

func newBox() *box { return &box{wake: make(chan struct{}), event: make(chan struct{}, 1)} }

func (b *box) pulse() {
	select {
	case b.event <- struct{}{}:
	default:
	}
}

func (b *box) put(seq uint64, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mail = append(b.mail, &pb.Deliver{Seq: seq, Envelope: &pb.Envelope{Core: body}})
	close(b.wake)
	b.wake = make(chan struct{})
}

func (b *box) Submit(_ context.Context, counter uint64, _ []byte, done func(*pb.Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.submitted = append(b.submitted, counter)
	b.pulse()
	if !b.hold {
		go done(wire.Status(pb.Code_CODE_ACCEPTED, ""))
	}
}

func (b *box) Pull(after uint64, n, _ int) ([]*pb.Deliver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failPull != nil {
		return nil, b.failPull
	}
	var out []*pb.Deliver
	for _, d := range b.mail {
		if d.Seq > after && len(out) < n {
			out = append(out, d)
		}
	}
	return out, nil
}

func (b *box) Wake() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake
}

func (b *box) Ack(_ context.Context, a session.Acked) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acked = max(b.acked, a.Through)
	b.above = append(b.above, a.Above...)
	b.unread = append(b.unread, a.Unread...)
	b.pulse()
	return nil
}

func (b *box) SubmitMark() uint64 { return 0 }

// Reauth is the gate's.
func (b *box) Reauth([]byte) (time.Time, error) { panic("the gate answers Reauth") }

// until waits for a condition on the box.
func (b *box) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		b.mu.Lock()
		ok := cond()
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-b.event:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// node is a real HTTPS server with a gate.
type node struct {
	ententev1connect.UnimplementedDeviceServiceHandler
	ententev1connect.UnimplementedEnrolmentServiceHandler
	gate    *gate.Gate
	dir     *members
	box     *box
	url     string
	addr    string
	id      wire.DeviceID
	calls   atomic.Int64 // runs of Resolve's handler
	auths   atomic.Int64 // requests at /auth
	fetches atomic.Int64 // runs of Fetch's handler
	bodies  atomic.Int64 // bytes of bodies received by anything
	encoded atomic.Value // Content-Encoding of the last answer
	stop    func()
}

func (n *node) OpenSession(ctx context.Context, r *connect.Request[pb.OpenSessionRequest]) (*connect.Response[pb.OpenSessionResponse], error) {
	c, _ := gate.CallerOf(ctx)
	resp, err := n.gate.OpenSession(c, r.Msg.Origin)
	if err != nil {
		return nil, session.ConnectError(err)
	}
	return connect.NewResponse(resp), nil
}

func (n *node) Submit(ctx context.Context, r *connect.Request[pb.SubmitRequest]) (*connect.Response[pb.SubmitResponse], error) {
	c, _ := gate.CallerOf(ctx)
	resp, err := n.gate.Submit(ctx, c, r.Msg)
	return connect.NewResponse(resp), session.ConnectError(err)
}

func (n *node) Fetch(ctx context.Context, r *connect.Request[pb.FetchRequest]) (*connect.Response[pb.FetchResponse], error) {
	n.fetches.Add(1)
	c, _ := gate.CallerOf(ctx)
	resp, err := n.gate.Fetch(ctx, c, r.Msg)
	return connect.NewResponse(resp), session.ConnectError(err)
}

func (n *node) Ack(ctx context.Context, r *connect.Request[pb.AckRequest]) (*connect.Response[pb.AckResponse], error) {
	c, _ := gate.CallerOf(ctx)
	resp, err := n.gate.Ack(ctx, c, r.Msg)
	return connect.NewResponse(resp), session.ConnectError(err)
}

func (n *node) Resolve(ctx context.Context, r *connect.Request[pb.ResolveRequest]) (*connect.Response[pb.ResolveResponse], error) {
	n.calls.Add(1)
	if r.Msg.Address == "nobody@acme.example" {
		return nil, session.ConnectError(wire.Err(wire.Retry(wire.Status(pb.Code_CODE_NO_KEY_PACKAGE, "none for %s", r.Msg.Address), 7*time.Second)))
	}
	return connect.NewResponse(&pb.ResolveResponse{Organization: make([]byte, 4096)}), nil
}

func (n *node) Describe(context.Context, *connect.Request[pb.DescribeRequest]) (*connect.Response[pb.DescribeResponse], error) {
	n.calls.Add(1)
	return connect.NewResponse(&pb.DescribeResponse{Name: "alice"}), nil
}

func (n *node) Enroll(context.Context, *connect.Request[pb.EnrollRequest]) (*connect.Response[pb.EnrollResponse], error) {
	n.calls.Add(1)
	return connect.NewResponse(&pb.EnrollResponse{}), nil
}

type nodeConfig struct {
	key    ed25519.PrivateKey // of the gate; nil: new
	cert   ed25519.PrivateKey // of the certificate; nil: key
	hmac   []byte
	addr   string
	ttl    time.Duration
	dir    *members
	clock  func() time.Time
	origin string
	timing session.Timing

	web     gate.WebCertificates // what browsers are shown; nil: the pinned one
	prepare func(*tls.Config)
}

func startNode(t testing.TB, c nodeConfig) *node {
	t.Helper()
	if c.key == nil {
		c.key, _ = newKey(t)
	}
	if c.cert == nil {
		c.cert = c.key
	}
	if c.hmac == nil {
		c.hmac = make([]byte, 32)
		_, _ = rand.Read(c.hmac)
	}
	if c.addr == "" {
		c.addr = "127.0.0.1:0"
	}
	if c.dir == nil {
		c.dir = &members{active: make(map[wire.DeviceID]bool)}
	}
	n := &node{dir: c.dir, box: newBox(), id: wire.DeviceID(c.key.Public().(ed25519.PublicKey))}
	o := gate.Options{Key: c.key, HMACKey: c.hmac, Directory: c.dir, TokenTTL: c.ttl, Clock: c.clock, Timing: c.timing,
		Backend: func(context.Context, wire.DeviceID) (session.Backend, error) { return n.box, nil }}
	if c.origin != "" {
		o.Origins = []string{c.origin}
	}
	var err error
	if n.gate, err = gate.New(o); err != nil {
		t.Fatal(err)
	}
	n.serve(t, c)
	return n
}

func (n *node) serve(t testing.TB, c nodeConfig) {
	mux := http.NewServeMux()
	n.gate.Mount(mux)
	path, h := ententev1connect.NewDeviceServiceHandler(n, gate.HandlerOptions()...)
	mux.Handle(path, n.gate.Bearer(h))
	mux.Handle(ententev1connect.NewEnrolmentServiceHandler(n, gate.HandlerOptions()...))
	conf, err := gate.TLS(c.cert, c.web)
	if err != nil {
		t.Fatal(err)
	}
	if c.prepare != nil {
		c.prepare(conf)
	}
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.url = "https://" + n.addr
	serve := n.gate.CORS(mux)
	srv := gate.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == gate.AuthPath {
			n.auths.Add(1)
		}
		if r.ContentLength > 0 {
			n.bodies.Add(r.ContentLength)
		}
		serve.ServeHTTP(w, r)
		n.encoded.Store(w.Header().Get("Content-Encoding"))
	}), conf, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(tls.NewListener(l, conf))
	}()
	n.stop = sync.OnceFunc(func() {
		n.gate.Close()
		_ = srv.Close()
		<-done
	})
	t.Cleanup(n.stop)
}

// device makes an active device's client of the node.
func (n *node) device(t testing.TB, change func(*Options)) (*Home, wire.DeviceID) {
	t.Helper()
	key, id := newKey(t)
	n.dir.set(id, true)
	o := Options{URL: n.url, Pin: n.id, Key: key}
	if change != nil {
		change(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, id
}

func resolve(h *Home, address string) error {
	_, err := h.Device.Resolve(context.Background(), connect.NewRequest(&pb.ResolveRequest{Address: address}))
	return err
}

// running is a session client under test.
type running struct {
	*session.Client
	mu    sync.Mutex
	got   []uint64
	state chan error // nil: connected
	ended chan error
	stop  context.CancelFunc
	drain chan struct{}
}

func runSession(t testing.TB, h *Home, change func(*session.ClientOptions)) *running {
	t.Helper()
	r := &running{state: make(chan error, 64), ended: make(chan error, 1), drain: make(chan struct{}, 64)}
	o := session.ClientOptions{
		Mark: func() uint64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.got) == 0 {
				return 0
			}
			return r.got[len(r.got)-1]
		},
		Handler: func(_ context.Context, ds []*pb.Deliver) ([]session.Unread, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, d := range ds {
				r.got = append(r.got, d.Seq)
			}
			return nil, nil
		},
		State: func(up bool, why error) {
			if up {
				why = nil
			}
			r.state <- why
		},
		Drained: func() { r.drain <- struct{}{} },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Client, err = h.Session(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return r
}

func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %s", what, patience)
		panic("unreachable")
	}
}

func (r *running) connected(t testing.TB) {
	t.Helper()
	if err := wait(t, "the session", r.state); err != nil {
		t.Fatalf("not connected: %v", err)
	}
}
