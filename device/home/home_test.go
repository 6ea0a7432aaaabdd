package home

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

func TestCallSignsInOnceAndIsNotCompressed(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, _ := n.device(t, nil)
	for range 3 {
		if err := resolve(h, "bob@acme.example"); err != nil {
			t.Fatal(err)
		}
	}
	if n.auths.Load() != 2 || n.calls.Load() != 3 {
		t.Errorf("%d sign-in requests and %d calls", n.auths.Load(), n.calls.Load())
	}
	if e := n.encoded.Load(); e != "" {
		t.Errorf("the answer is encoded as %q", e)
	}
}

func TestErrorsCarryTheStatus(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, _ := n.device(t, nil)
	err := resolve(h, "nobody@acme.example")
	var se *wire.StatusError
	if !errors.As(err, &se) || se.Status.Code != pb.Code_CODE_NO_KEY_PACKAGE || se.Status.RetryMs != 7000 || se.Status.Detail != "none for nobody@acme.example" {
		t.Errorf("%v", err)
	}
}

func TestEnrolmentNeedsNoSignIn(t *testing.T) {
	n := startNode(t, nodeConfig{})
	for _, webPKI := range []bool{false, true} {
		h, err := New(Options{URL: n.url, Pin: n.id, WebPKI: webPKI})
		if err != nil {
			t.Fatal(err)
		}
		if webPKI {
			h.base.TLSClientConfig.InsecureSkipVerify = true
		}
		d, err := h.Describe(context.Background(), make([]byte, 16))
		if err != nil || d.Name != "alice" {
			t.Errorf("web PKI %v: %v, %v", webPKI, d, err)
		}
		h.Close()
	}
}

// research trap 1: an expired token makes the library's handler run twice.
func TestExpiredTokenRunsTheHandlerOnce(t *testing.T) {
	n := startNode(t, nodeConfig{ttl: time.Nanosecond})
	h, _ := n.device(t, nil)
	if err := resolve(h, "bob@acme.example"); wire.StatusOf(err).Code != pb.Code_CODE_UNAUTHENTICATED {
		t.Errorf("a token that is always expired: %v", err)
	}
	if n.calls.Load() != 0 {
		t.Errorf("the handler ran %d times", n.calls.Load())
	}
	// One that the node no longer takes is replaced, and the call runs once.
	n2 := startNode(t, nodeConfig{})
	h2, _ := n2.device(t, nil)
	h2.auth.bearer = "c3RhbGU="
	if err := resolve(h2, "bob@acme.example"); err != nil {
		t.Fatal(err)
	}
	if n2.calls.Load() != 1 {
		t.Errorf("the handler ran %d times", n2.calls.Load())
	}
}

func TestRestartKeepsTokensValid(t *testing.T) {
	key, _ := newKey(t)
	hmac := bytes.Repeat([]byte{7}, 32)
	dir := &members{active: make(map[wire.DeviceID]bool)}
	n := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir})
	h, _ := n.device(t, nil)
	if err := resolve(h, "bob@acme.example"); err != nil {
		t.Fatal(err)
	}
	n.stop()
	h.base.CloseIdleConnections()
	again := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir, addr: n.addr})
	if err := resolve(h, "bob@acme.example"); err != nil {
		t.Fatal(err)
	}
	if again.auths.Load() != 0 {
		t.Error("the device had to sign in again")
	}
}

func TestRevocationBitesAtOnce(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, id := n.device(t, nil)
	if err := resolve(h, "bob@acme.example"); err != nil {
		t.Fatal(err)
	}
	n.dir.set(id, false)
	if err := resolve(h, "bob@acme.example"); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Errorf("with a token from before: %v", err)
	}
	h.auth.bearer = ""
	if err := resolve(h, "bob@acme.example"); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Errorf("at sign-in: %v", err)
	}
	if n.calls.Load() != 1 {
		t.Errorf("%d calls ran", n.calls.Load())
	}
}

func TestSessionCarriesBothWaysAndResumes(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, id := n.device(t, nil)
	for seq := range uint64(600) {
		n.box.put(2*seq+2, make([]byte, 3000)) // gaps, and more than one window
	}
	r := runSession(t, h, nil)
	r.connected(t)
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
	if !n.gate.Online(id) {
		t.Error("the device is not online")
	}
	n.box.put(1300, make([]byte, wire.MaxHandshakeBody))
	n.box.until(t, "a handshake above every window", func() bool { return n.box.acked == 1300 })
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != 601 {
		t.Errorf("%d deliveries", len(r.got))
	}
}

func TestSubmissionsWithoutResultAreSentAgainInOrder(t *testing.T) {
	key, _ := newKey(t)
	dir := &members{active: make(map[wire.DeviceID]bool)}
	n := startNode(t, nodeConfig{key: key, dir: dir})
	n.box.hold = true
	h, _ := n.device(t, nil)
	r := runSession(t, h, nil)
	r.connected(t)
	results := make(chan uint64, 8)
	for c := uint64(5); c <= 7; c++ {
		if err := r.Submit(context.Background(), c, []byte("x"), func(*pb.Status) { results <- c }); err != nil {
			t.Fatal(err)
		}
	}
	n.box.until(t, "three submissions", func() bool { return len(n.box.submitted) == 3 })
	n.stop()
	again := startNode(t, nodeConfig{key: key, dir: dir, addr: n.addr})
	for range 3 {
		wait(t, "a result", results)
	}
	again.box.mu.Lock()
	defer again.box.mu.Unlock()
	if !slices.Equal(again.box.submitted, []uint64{5, 6, 7}) {
		t.Errorf("sent again: %v", again.box.submitted)
	}
}

func TestRevokedDuringTheStream(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, id := n.device(t, nil)
	r := runSession(t, h, nil)
	r.connected(t)
	n.dir.set(id, false)
	n.gate.End(id)
	n.box.mu.Lock()
	before := len(n.box.submitted)
	n.box.mu.Unlock()
	var ce *session.CloseError
	if err := wait(t, "the end", r.ended); !errors.As(err, &ce) || ce.Code != session.CodeRevoked {
		t.Errorf("ended with %v", err)
	}
	if err := r.Submit(context.Background(), 1, nil, func(*pb.Status) {}); err == nil {
		t.Error("a submission after the revocation is taken")
	}
	n.box.mu.Lock()
	defer n.box.mu.Unlock()
	if len(n.box.submitted) != before || n.gate.Online(id) {
		t.Error("something counted after the revocation")
	}
}

func TestSecondSessionReplacesTheFirst(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, _ := n.device(t, nil)
	first := runSession(t, h, nil)
	first.connected(t)
	second := runSession(t, h, nil)
	second.connected(t)
	var ce *session.CloseError
	if err := wait(t, "the first's end", first.ended); !errors.As(err, &ce) || ce.Code != session.CodeReplaced {
		t.Errorf("ended with %v", err)
	}
}

func TestSessionOutlivesItsSignInByReauth(t *testing.T) {
	n := startNode(t, nodeConfig{ttl: 3 * time.Second})
	h, _ := n.device(t, nil)
	r := runSession(t, h, nil)
	r.connected(t)
	// Two reauthentications need two more sign-ins of two requests each.
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n.auths.Load() < 6 {
		select {
		case err := <-r.state:
			t.Fatalf("the session ended: %v", err)
		case <-deadline:
			t.Fatal("no reauthentication")
		case <-tick.C:
		}
	}
}

// cut forwards TCP until it is told to swallow everything.
type cut struct {
	l     net.Listener
	black atomic.Bool
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func startCut(t *testing.T, to string) *cut {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cut{l: l}
	c.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			c.wg.Go(func() { c.pump(in, out) })
			c.wg.Go(func() { c.pump(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.mu.Lock()
		for _, x := range c.conns {
			_ = x.Close()
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

func (c *cut) pump(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			_ = to.Close()
			return
		}
		if c.black.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			_, _ = io.Copy(io.Discard, from)
			return
		}
	}
}

func TestBlackHoleIsNoticedByBothEnds(t *testing.T) {
	timing := session.Timing{Heartbeat: 100 * time.Millisecond, Silence: time.Second, Write: time.Second}
	n := startNode(t, nodeConfig{timing: timing})
	proxy := startCut(t, n.addr)
	h, id := n.device(t, func(o *Options) { o.URL = "https://" + proxy.l.Addr().String(); o.Timing = timing })
	r := runSession(t, h, nil)
	r.connected(t)
	proxy.black.Store(true)
	if err := wait(t, "the device to notice", r.state); err == nil {
		t.Error("connected again through a black hole")
	}
	deadline := time.After(patience)
	for n.gate.Online(id) {
		select {
		case <-deadline:
			t.Fatal("the node keeps a session with nobody")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, pin := newKey(t)
	for _, u := range []string{"http://a.example", "https://", "https://u:p@a.example", "https://a.example/x", "://"} {
		if _, err := New(Options{URL: u, Pin: pin}); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
	if _, err := New(Options{URL: "https://a.example"}); err == nil {
		t.Error("no pin is taken")
	}
}
