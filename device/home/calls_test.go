package home

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"
	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// proxy is a reverse proxy with its own certificate, as a company puts in front of the
// web; what it does to an upgrade is the test's.
type proxy struct {
	url     string
	pass    atomic.Bool // let upgrades through
	refuse  atomic.Bool // answer everything with 502
	later   time.Duration
	upgrade func(w http.ResponseWriter, r *http.Request, on http.Handler)
}

func startProxy(t *testing.T, n *node, upgrade func(http.ResponseWriter, *http.Request, http.Handler)) *proxy {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := gate.TLS(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	to, _ := url.Parse(n.url)
	back := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	on := &httputil.ReverseProxy{Transport: back, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	p := &proxy{upgrade: upgrade}
	on.ModifyResponse = func(r *http.Response) error {
		if p.later != 0 {
			r.Header.Set("Date", time.Now().Add(p.later).UTC().Format(http.TimeFormat))
		}
		return nil
	}
	srv := gate.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case p.refuse.Load():
			http.Error(w, "no", http.StatusBadGateway)
		case r.URL.Path == session.Path && !p.pass.Load():
			p.upgrade(w, r, on)
		default:
			on.ServeHTTP(w, r)
		}
	}), conf, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.url = "https://" + l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		back.CloseIdleConnections()
	})
	return p
}

// stripUpgrade is nginx's default: hop-by-hop headers are dropped.
func stripUpgrade(w http.ResponseWriter, r *http.Request, on http.Handler) {
	r.Header.Del("Upgrade")
	r.Header.Del("Connection")
	on.ServeHTTP(w, r)
}

// through makes a device that reaches the node by the proxy, whose certificate
// stands for one of a web CA.
func (p *proxy) through(t *testing.T, n *node, change func(*Options)) (*Home, wire.DeviceID, chan error) {
	t.Helper()
	detours := make(chan error, 16)
	h, id := n.device(t, func(o *Options) {
		o.URL, o.WebPKI, o.Detour = p.url, true, func(why error) { detours <- why }
		if change != nil {
			change(o)
		}
	})
	h.base.TLSClientConfig.InsecureSkipVerify = true
	h.upward.TLSClientConfig.InsecureSkipVerify = true
	return h, id, detours
}

// online waits until the device has a session or waits in a Fetch: between two it has none.
func (n *node) online(t *testing.T, id wire.DeviceID) {
	t.Helper()
	for until := time.Now().Add(patience); !n.gate.Online(id); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the device is not online")
		}
	}
}

func TestSessionGoesByCallsWhereNoWebSocketPasses(t *testing.T) {
	answer := func(status int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(status) }
	}
	for name, upgrade := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"Upgrade stripped": stripUpgrade,
		"200":              answer(http.StatusOK),
		"403":              answer(http.StatusForbidden),
		"502":              answer(http.StatusBadGateway),
		"hung up on": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			panic(http.ErrAbortHandler)
		},
		"opened, then silent": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			if c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{session.Subprotocol}}); err == nil {
				_ = c.CloseNow()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, nodeConfig{})
			p := startProxy(t, n, upgrade)
			h, id, detours := p.through(t, n, nil)
			for seq := range uint64(600) {
				n.box.put(2*seq+2, make([]byte, 3000)) // gaps, and more than one window
			}
			r := runSession(t, h, nil)
			if why := wait(t, "the detour", detours); why == nil {
				t.Error("no reason is said")
			}
			wait(t, "Drained", r.drain)
			n.box.until(t, "the acknowledgement", func() bool { return n.box.acked == 1200 })
			results := make(chan *pb.Status, 200)
			for c := range uint64(200) {
				if err := r.Submit(context.Background(), c+1, make([]byte, 1000), func(s *pb.Status) { results <- s }); err != nil {
					t.Fatal(err)
				}
			}
			for range 200 {
				if s := wait(t, "a result", results); s.Code != pb.Code_CODE_ACCEPTED {
					t.Fatalf("%v", s)
				}
			}
			n.box.mu.Lock()
			if !slices.IsSorted(n.box.submitted) || len(n.box.submitted) != 200 {
				t.Errorf("submitted: %v", n.box.submitted)
			}
			n.box.mu.Unlock()
			n.box.put(1300, make([]byte, 1000))
			n.box.put(1301, make([]byte, wire.MaxHandshakeBody))
			n.box.until(t, "a handshake above every window", func() bool { return n.box.acked == 1301 })
			n.online(t, id)
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.got) != 602 || !slices.IsSorted(r.got) {
				t.Errorf("%d deliveries", len(r.got))
			}
			if len(detours) != 0 {
				t.Error("the detour is told more than once")
			}
		})
	}
}

// Nobody asks the node again and again while there is nothing.
func TestWaitingForMailByCallsIsOneCall(t *testing.T) {
	n := startNode(t, nodeConfig{})
	p := startProxy(t, n, stripUpgrade)
	h, _, _ := p.through(t, n, nil)
	r := runSession(t, h, nil)
	wait(t, "Drained", r.drain)
	for seq := range uint64(5) {
		n.box.put(seq+1, nil)
		wait(t, "Drained", r.drain)
	}
	if got := n.fetches.Load(); got > 2+2*5 {
		t.Errorf("%d fetches for 5 deliveries that came one by one", got)
	}
}

// A call says no time: the answer's does. Of one session and the other a device hears the
// node's clock, and how long it stays does not hang on either's.
func TestTheNodesClockIsHeardBySessionsAndByCalls(t *testing.T) {
	for name, later := range map[string]time.Duration{"session": 0, "calls": 26 * time.Hour} {
		n := startNode(t, nodeConfig{})
		p := startProxy(t, n, stripUpgrade)
		p.later = later
		p.pass.Store(later == 0)
		h, _, _ := p.through(t, n, nil)
		heard := make(chan time.Time, 16)
		r := runSession(t, h, func(o *session.ClientOptions) {
			o.Welcomed = func(_ uint64, clock time.Time) error { heard <- clock; return nil }
		})
		wait(t, "Drained", r.drain)
		if off := time.Until(wait(t, "the node's clock", heard)) - later; off.Abs() > 10*time.Second {
			t.Errorf("%s: the node's clock is heard %s off", name, off)
		}
		n.box.put(1, nil)
		n.box.until(t, "the acknowledgement", func() bool { return n.box.acked == 1 })
	}
}

func TestWebSocketIsTakenAgainWhenItPasses(t *testing.T) {
	n := startNode(t, nodeConfig{})
	p := startProxy(t, n, stripUpgrade)
	h, _, detours := p.through(t, n, nil)
	r := runSession(t, h, nil)
	if why := wait(t, "the detour", detours); why == nil {
		t.Error("no reason is said")
	}
	r.connected(t)
	wait(t, "Drained", r.drain)
	p.pass.Store(true)
	n.box.mu.Lock()
	n.box.failPull = errors.New("the node hiccups")
	n.box.mu.Unlock()
	n.box.put(1, nil) // wakes the fetch, which fails
	if err := wait(t, "the end of the calls", r.state); err == nil {
		t.Fatal("still connected")
	}
	n.box.mu.Lock()
	n.box.failPull = nil
	n.box.mu.Unlock()
	if why := wait(t, "the end of the detour", detours); why != nil {
		t.Errorf("%v", why)
	}
	n.box.until(t, "the acknowledgement", func() bool { return n.box.acked == 1 })
}

func TestRevocationEndsCallsAtOnce(t *testing.T) {
	n := startNode(t, nodeConfig{})
	p := startProxy(t, n, stripUpgrade)
	h, id, _ := p.through(t, n, nil)
	r := runSession(t, h, nil)
	wait(t, "Drained", r.drain)
	n.online(t, id)
	n.dir.set(id, false)
	n.gate.End(id)
	err := wait(t, "the end", r.ended)
	var ce *session.CloseError
	if !(errors.As(err, &ce) && ce.Code == session.CodeRevoked) && wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Errorf("ended with %v", err)
	}
	for name, call := range map[string]func() error{
		"Submit": func() error {
			_, err := h.Device.Submit(context.Background(), connect.NewRequest(&pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 1}}}))
			return err
		},
		"Fetch": func() error {
			_, err := h.Device.Fetch(context.Background(), connect.NewRequest(&pb.FetchRequest{Envelopes: 1, Bytes: 1}))
			return err
		},
		"Ack": func() error {
			_, err := h.Device.Ack(context.Background(), connect.NewRequest(&pb.AckRequest{}))
			return err
		},
	} {
		if err := call(); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
			t.Errorf("%s with a token from before: %v", name, err)
		}
	}
	n.box.mu.Lock()
	defer n.box.mu.Unlock()
	if len(n.box.submitted) != 0 {
		t.Error("something counted after the revocation")
	}
}

// A device has one session, whatever carries it.
func TestNewerSessionReplacesOneByCallsAndTheOtherWayRound(t *testing.T) {
	n := startNode(t, nodeConfig{})
	p := startProxy(t, n, stripUpgrade)
	byCalls, id, _ := p.through(t, n, nil)
	direct, err := New(Options{URL: n.url, Pin: n.id, Key: byCalls.o.Key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	replaced := func(r *running) {
		t.Helper()
		var ce *session.CloseError
		if err := wait(t, "the end of the older", r.ended); !errors.As(err, &ce) || ce.Code != session.CodeReplaced {
			t.Errorf("ended with %v", err)
		}
	}
	first := runSession(t, byCalls, nil)
	wait(t, "Drained", first.drain)
	n.online(t, id)
	second := runSession(t, direct, nil)
	second.connected(t)
	replaced(first)
	third := runSession(t, byCalls, nil)
	third.connected(t)
	replaced(second)
}

func TestCallsNoticeAProxyThatSwallowsEverything(t *testing.T) {
	n := startNode(t, nodeConfig{})
	p := startProxy(t, n, stripUpgrade)
	hole := startCut(t, p.url[len("https://"):])
	timing := session.Timing{Heartbeat: 100 * time.Millisecond, Silence: 2 * time.Second, Write: time.Second}
	h, _, _ := p.through(t, n, func(o *Options) { o.URL = "https://" + hole.l.Addr().String(); o.Timing = timing })
	r := runSession(t, h, nil)
	r.connected(t)
	wait(t, "Drained", r.drain)
	hole.black.Store(true)
	if err := wait(t, "the device to notice", r.state); err == nil {
		t.Error("connected again through a black hole")
	}
}

// What has no result when the calls end is handed over again, in order.
func TestSubmissionsByCallsAreSentAgainInOrder(t *testing.T) {
	n := startNode(t, nodeConfig{})
	n.box.hold = true
	p := startProxy(t, n, stripUpgrade)
	h, _, _ := p.through(t, n, nil)
	r := runSession(t, h, nil)
	r.connected(t)
	results := make(chan uint64, 8)
	for c := uint64(5); c <= 7; c++ {
		if err := r.Submit(context.Background(), c, []byte("x"), func(*pb.Status) { results <- c }); err != nil {
			t.Fatal(err)
		}
	}
	n.box.until(t, "a submission", func() bool { return len(n.box.submitted) > 0 })
	n.box.mu.Lock()
	n.box.submitted, n.box.hold = nil, false
	n.box.failPull = errors.New("the node hiccups")
	n.box.mu.Unlock()
	n.box.put(1, nil)
	if err := wait(t, "the end of the calls", r.state); err == nil {
		t.Fatal("still connected")
	}
	n.box.mu.Lock()
	n.box.submitted, n.box.failPull = nil, nil
	n.box.mu.Unlock()
	for want := uint64(5); want <= 7; want++ {
		if got := wait(t, "a result", results); got != want {
			t.Errorf("result of %d, want %d", got, want)
		}
	}
}

// The bytes that a device has not acknowledged stay within its window, but for one
// delivery that is larger than the window and alone.
func TestCallsHoldTheNodeToTheWindow(t *testing.T) {
	c := newCalls(nil, nil)
	c.windowB = 1000
	deliver := func(seq uint64, size int) *pb.Deliver {
		return &pb.Deliver{Seq: seq, Envelope: &pb.Envelope{Core: make([]byte, size)}}
	}
	if !c.take(deliver(1, 600)) || c.take(deliver(2, 600)) || c.after != 1 {
		t.Errorf("the window is not kept: after %d", c.after)
	}
	if c.take(deliver(2, 5000)) {
		t.Error("one above the window is taken beside another")
	}
	c.unacked, c.unackedB = nil, 0
	if !c.take(deliver(2, 5000)) || c.take(deliver(3, 1)) {
		t.Error("one above the window, alone, is not taken, or another beside it is")
	}
}

// By calls as well, what waits stops nothing: 600 deliveries are more than a window.
func TestWhatWaitsLeavesRoomInTheWindowOfCalls(t *testing.T) {
	n := startNode(t, nodeConfig{})
	p := startProxy(t, n, stripUpgrade)
	h, _, _ := p.through(t, n, nil)
	for seq := range uint64(600) {
		n.box.put(seq+1, make([]byte, 3000))
	}
	const waits = 3
	r := runSession(t, h, func(o *session.ClientOptions) {
		mark := o.Mark
		o.Mark = func() uint64 { return min(mark(), waits-1) }
		o.Taken = func(seq uint64) bool { return seq != waits && seq <= mark() }
	})
	wait(t, "Drained", r.drain)
	n.box.until(t, "the acknowledgement", func() bool {
		return n.box.acked == waits-1 && len(n.box.above) == 600-waits && !slices.Contains(n.box.above, waits)
	})
}
