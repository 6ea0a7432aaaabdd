package gate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

type dir struct {
	mu   sync.Mutex
	gone map[wire.DeviceID]bool
}

func (d *dir) ByDevice(id wire.DeviceID) (wire.MemberID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return wire.MemberID{1}, !d.gone[id]
}

func (d *dir) revoke(id wire.DeviceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone[id] = true
}

// clock is what a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// flood is a Backend with an endless mailbox.
type flood struct {
	mu     sync.Mutex
	pulled uint64
}

func (f *flood) Submit(_ context.Context, _ uint64, _ []byte, done func(*pb.Status)) {
	done(wire.Status(pb.Code_CODE_ACCEPTED, ""))
}

func (f *flood) Pull(after uint64, n, _ int) (out []*pb.Deliver, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		after++
		out = append(out, &pb.Deliver{Seq: after, Envelope: &pb.Envelope{Core: make([]byte, 3500)}})
	}
	f.pulled = max(f.pulled, after)
	return out, nil
}

func (f *flood) Wake() <-chan struct{}                    { return nil }
func (f *flood) Ack(context.Context, session.Acked) error { return nil }
func (f *flood) SubmitMark() uint64                       { return 0 }
func (f *flood) Reauth([]byte) (time.Time, error)         { panic("the gate answers") }

const origin = "https://app.example"

type world struct {
	*Gate
	dir   *dir
	clock *clock
	flood *flood
	addr  string
	http  *http.Client
}

func start(t *testing.T, timing session.Timing) *world {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: &dir{gone: make(map[wire.DeviceID]bool)}, clock: &clock{now: time.Now()}, flood: new(flood)}
	w.Gate, err = New(Options{Key: key, HMACKey: bytes.Repeat([]byte{3}, 32), Directory: w.dir, Clock: w.clock.Now, Timing: timing,
		Origins: []string{origin}, Backend: func(context.Context, wire.DeviceID) (session.Backend, error) { return w.flood, nil }})
	if err != nil {
		t.Fatal(err)
	}
	conf, err := TLS(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	w.Mount(mux)
	mux.Handle("/rpc", w.Bearer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "in") })))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	srv, done := Server(w.CORS(mux), conf, nil), make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(tls.NewListener(l, conf))
	}()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}
	w.http = &http.Client{Transport: tr}
	t.Cleanup(func() {
		w.Close()
		_ = srv.Close()
		<-done
		tr.CloseIdleConnections()
	})
	return w
}

func (w *world) ticket(t *testing.T, d wire.DeviceID, origin string, auth time.Duration) []byte {
	t.Helper()
	r, err := w.OpenSession(Caller{Device: d, Expires: w.clock.Now().Add(auth)}, origin)
	if err != nil {
		t.Fatal(err)
	}
	return r.Ticket
}

// dial upgrades; status is the HTTP answer.
func (w *world) dial(t *testing.T, origin string, sub ...string) (c *websocket.Conn, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := &websocket.DialOptions{HTTPClient: w.http, Subprotocols: sub}
	if origin != "" {
		o.HTTPHeader = http.Header{"Origin": {origin}}
	}
	c, resp, err := websocket.Dial(ctx, "wss://"+w.addr+session.Path, o)
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	c.SetReadLimit(session.MaxMessage)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c, resp.StatusCode
}

// hello sends the ticket and returns the first frame of the answer.
func hello(t *testing.T, c *websocket.Conn, ticket []byte) *pb.Frame {
	t.Helper()
	send(t, c, &pb.Frame{Frame: &pb.Frame_Hello{Hello: &pb.Hello{Version: 1, Ticket: ticket, WindowEnvelopes: 256, WindowBytes: 1 << 20}}})
	return recv(t, c)
}

func send(t *testing.T, c *websocket.Conn, f *pb.Frame) {
	t.Helper()
	b, err := session.EncodeBatch([]*pb.Frame{f})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(context.Background(), websocket.MessageBinary, b); err != nil {
		t.Fatal(err)
	}
}

func recv(t *testing.T, c *websocket.Conn) *pb.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := session.DecodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	return batch.Frames[0]
}

func TestTicketOpensOneSessionOnceInTimeForItsDeviceAndOrigin(t *testing.T) {
	d := wire.DeviceID{9}
	for name, c := range map[string]struct {
		origin string // of the ticket
		comes  string // of the upgrade
		auth   time.Duration
		before func(*testing.T, *world, []byte)
		code   uint32 // 0: welcome
	}{
		"good":                {"", "", time.Minute * 10, nil, 0},
		"good, from a page":   {origin, origin, time.Minute * 10, nil, 0},
		"replayed":            {"", "", time.Minute * 10, func(t *testing.T, w *world, v []byte) { _, _ = w.redeem(v, "") }, session.CodeExpired},
		"a minute old":        {"", "", time.Minute * 10, func(_ *testing.T, w *world, _ []byte) { w.clock.add(wire.TicketLifetime) }, session.CodeExpired},
		"its sign-in ended":   {"", "", time.Second, func(_ *testing.T, w *world, _ []byte) { w.clock.add(time.Second) }, session.CodeExpired},
		"of another origin":   {origin, "", time.Minute * 10, nil, session.CodeExpired},
		"used from a page":    {"", origin, time.Minute * 10, nil, session.CodeExpired},
		"guessed":             {"", "", time.Minute * 10, func(_ *testing.T, _ *world, v []byte) { v[31] ^= 1 }, session.CodeExpired},
		"of a revoked device": {"", "", time.Minute * 10, func(_ *testing.T, w *world, _ []byte) { w.dir.revoke(d) }, session.CodeRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, session.Timing{})
			v := w.ticket(t, d, c.origin, c.auth)
			if c.before != nil {
				c.before(t, w, v)
			}
			conn, _ := w.dial(t, c.comes, session.Subprotocol)
			f := hello(t, conn, v)
			if f.GetClose().GetCode() != c.code || (c.code == 0) != (f.GetWelcome() != nil) {
				t.Errorf("%v, want %d", f, c.code)
			}
		})
	}
}

func TestTicketOfAnotherDeviceDoesNotReauthenticate(t *testing.T) {
	w := start(t, session.Timing{})
	conn, _ := w.dial(t, "", session.Subprotocol)
	if f := hello(t, conn, w.ticket(t, wire.DeviceID{9}, "", time.Minute)); f.GetWelcome() == nil {
		t.Fatal(f)
	}
	send(t, conn, &pb.Frame{Frame: &pb.Frame_Reauth{Reauth: &pb.Reauth{Ticket: w.ticket(t, wire.DeviceID{8}, "", time.Hour)}}})
	for {
		f := recv(t, conn)
		if f.GetDeliver() != nil {
			continue
		}
		if f.GetClose().GetCode() != session.CodeExpired {
			t.Errorf("%v", f)
		}
		return
	}
}

func TestUpgradeIsRefused(t *testing.T) {
	w := start(t, session.Timing{})
	for _, o := range []string{"https://evil.example", "http://app.example", "https://app.example.evil.example", "https://" + w.addr, "null"} {
		if _, status := w.dial(t, o, session.Subprotocol); status != http.StatusForbidden {
			t.Errorf("origin %s: %d", o, status)
		}
	}
	c, _ := w.dial(t, "")
	if _, _, err := c.Read(context.Background()); websocket.CloseStatus(err) != session.CodeMalformed {
		t.Errorf("without the subprotocol: %v", err)
	}
}

// A device that stops reading is dropped within the write deadline, and no more than its
// window is ever taken from the mailbox for it.
func TestSlowReaderHoldsOneWindowAndIsDropped(t *testing.T) {
	w := start(t, session.Timing{Silence: 2 * time.Second, Write: time.Second})
	conn, _ := w.dial(t, "", session.Subprotocol)
	d := wire.DeviceID{9}
	if f := hello(t, conn, w.ticket(t, d, "", time.Hour)); f.GetWelcome() == nil {
		t.Fatal(f)
	}
	deadline := time.After(patience)
	for w.Online(d) {
		select {
		case <-deadline:
			t.Fatal("still online")
		case <-time.After(5 * time.Millisecond):
		}
	}
	w.flood.mu.Lock()
	defer w.flood.mu.Unlock()
	if w.flood.pulled == 0 || w.flood.pulled > wire.DeliverWindow+wire.MaxBatchFrames {
		t.Errorf("%d deliveries were taken", w.flood.pulled)
	}
}

func (w *world) post(t *testing.T, path, authorization, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://"+w.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

// The library's handshake anywhere else would run calls twice.
func TestHandshakeIsAtAuthOnlyAndBearerAnswersPlain401(t *testing.T) {
	w := start(t, session.Timing{})
	start := `libp2p-PeerID challenge-server="` + strings.Repeat("A", 43) + `=", public-key="CAESIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`
	for _, a := range []string{"", start, `libp2p-PeerID bearer="x"`, `libp2p-PeerID bearer="x", opaque="y"`, "Bearer x", strings.Repeat("x", 4096)} {
		resp := w.post(t, "/rpc", a, "")
		if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%.30q: %d, challenge %q", a, resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
		}
	}
	if resp := w.post(t, AuthPath, "", ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("sign-in without a header: %d", resp.StatusCode)
	}
	if resp := w.post(t, AuthPath, start, "a body"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("sign-in with a body: %d", resp.StatusCode)
	}
}

func TestClosedGateTakesNoSession(t *testing.T) {
	w := start(t, session.Timing{})
	conn, _ := w.dial(t, "", session.Subprotocol)
	if f := hello(t, conn, w.ticket(t, wire.DeviceID{9}, "", time.Hour)); f.GetWelcome() == nil {
		t.Fatal(f)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Close()
	}()
	for {
		f := recv(t, conn)
		if c := f.GetClose(); c != nil {
			if c.Code != session.CodeGoingAway {
				t.Errorf("%v", c)
			}
			break
		}
	}
	<-done
	if _, status := w.dial(t, "", session.Subprotocol); status != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", status)
	}
}
