package home

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
	"github.com/libp2p/go-libp2p/core/crypto"
	httppeeridauth "github.com/libp2p/go-libp2p/p2p/http/auth"
)

// The traps that libp2p HTTP Peer ID Auth holds for a server and a client of calls,
// each as it was found by running the library. A trap's test fails when the
// guard against it is taken away.

const callPath = "/entente.v1.DeviceService/Resolve"

// raw sends a request over the pinned transport, as no client of ours would.
func (n *node) raw(t *testing.T, h *Home, method, path string, header http.Header, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, n.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := (&http.Client{Transport: h.base}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

// bearer is the header of a call of this service.
func bearer(token string) http.Header {
	return http.Header{"Authorization": {httppeeridauth.PeerIDAuthScheme + ` bearer="` + token + `"`}, "Content-Type": {"application/proto"}}
}

// Trap 1: when the server rejects a token, the library's client answers the challenge
// with an empty body, and the handler runs for that too. Here a call is never
// challenged, and runs once whoever sends it.
func TestSignInTrap1AnExpiredTokenRunsTheHandlerOnce(t *testing.T) {
	n := startNode(t, nodeConfig{})
	h, _ := n.device(t, nil)
	for range 3 { // each time with a token that the node no longer takes
		h.auth.bearer = "c3RhbGU="
		if err := resolve(h, "bob@acme.example"); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.calls.Load(); got != 3 {
		t.Errorf("3 calls ran the handler %d times", got)
	}
	// The library's own client, at a call's path with its stale token.
	before := n.calls.Load()
	key, err := crypto.UnmarshalEd25519PrivateKey(h.o.Key)
	if err != nil {
		t.Fatal(err)
	}
	lib := httppeeridauth.ClientPeerIDAuth{PrivKey: key}
	for range 2 {
		req, _ := http.NewRequest(http.MethodPost, n.url+callPath, strings.NewReader(""))
		req.Header.Set("Content-Type", "application/proto")
		if _, resp, err := lib.AuthenticateWithRoundTripper(h.base, req); err == nil {
			_ = resp.Body.Close()
			t.Error("the library's handshake works at a call")
		}
	}
	if got := n.calls.Load() - before; got != 0 {
		t.Errorf("the library's handshake ran the handler %d times", got)
	}
	if resp := n.raw(t, h, http.MethodPost, callPath, bearer("c3RhbGU="), ""); resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("a stale token gets %d and the challenge %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
}

// Trap 2: the library learns who the server is after the body has been sent. Here a
// wrong server sees neither a call nor a secret, with a web certificate too.
func TestSignInTrap2AWrongServerGetsNoBody(t *testing.T) {
	n := startNode(t, nodeConfig{})
	_, other := newKey(t)
	for _, webPKI := range []bool{false, true} {
		h, _ := n.device(t, func(o *Options) { o.Pin = other; o.WebPKI = webPKI })
		if webPKI {
			h.base.TLSClientConfig.InsecureSkipVerify = true // stands for a CA that the device trusts
		}
		if err := resolve(h, "bob@acme.example"); !errors.Is(err, ErrPin) {
			t.Errorf("web PKI %v: a call to the wrong server: %v", webPKI, err)
		}
		if _, err := h.Enroll(context.Background(), &pb.EnrollRequest{Secret: make([]byte, 32)}); !errors.Is(err, ErrPin) {
			t.Errorf("web PKI %v: enrolment at the wrong server: %v", webPKI, err)
		}
		if _, _, err := h.dial(context.Background()); !errors.Is(err, ErrPin) {
			t.Errorf("web PKI %v: a session with the wrong server: %v", webPKI, err)
		}
	}
	if n.bodies.Load() != 0 || n.calls.Load() != 0 {
		t.Errorf("the wrong server got %d bytes and ran %d calls", n.bodies.Load(), n.calls.Load())
	}
}

// Trap 3: the library's TLS mode demands Host == SNI, which no port but 443 gives.
// Here sign-in works on any port, under a name that is not the server's SNI.
func TestSignInTrap3AnyPortAndNameMaySignIn(t *testing.T) {
	n := startNode(t, nodeConfig{})
	_, port, err := net.SplitHostPort(n.addr)
	if err != nil || port == "443" {
		t.Fatalf("%s: %v", n.addr, err)
	}
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port} {
		h, _ := n.device(t, func(o *Options) { o.URL = "https://" + host })
		h.base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, n.addr)
		}
		if err := resolve(h, "bob@acme.example"); err != nil {
			t.Errorf("as %s: %v", host, err)
		}
	}
}

// Trap 4: the token is a bearer token, good without the key, under any Host, over
// no restart, and blind to revocation. Here it is short, bound to its host, keeps
// over a restart, and the directory is asked each time.
func TestSignInTrap4ATokenIsShortBoundAndChecked(t *testing.T) {
	key, _ := newKey(t)
	hmac := bytes.Repeat([]byte{7}, 32)
	dir := &members{active: make(map[wire.DeviceID]bool)}
	n := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir})
	h, id := n.device(t, nil)
	token, err := h.auth.token(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	status := func(at *node, want int, what string) {
		t.Helper()
		if resp := at.raw(t, h, http.MethodPost, callPath, bearer(token), ""); resp.StatusCode != want {
			t.Errorf("%s: answered %d, want %d", what, resp.StatusCode, want)
		}
	}
	status(n, http.StatusOK, "as it was given")
	twin := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir}) // the same keys, another port
	status(twin, http.StatusUnauthorized, "replayed on another host")
	n.stop()
	h.base.CloseIdleConnections()
	again := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir, addr: n.addr})
	status(again, http.StatusOK, "after a restart")
	again.stop()
	h.base.CloseIdleConnections()
	short := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir, addr: n.addr, ttl: time.Nanosecond})
	status(short, http.StatusUnauthorized, "past its time")
	short.stop()
	h.base.CloseIdleConnections()
	last := startNode(t, nodeConfig{key: key, hmac: hmac, dir: dir, addr: n.addr})
	dir.set(id, false)
	status(last, http.StatusForbidden, "of a revoked device")
	if wire.TokenLifetime > 10*time.Minute {
		t.Errorf("tokens last %s", wire.TokenLifetime)
	}
}

// Trap 5: a stream outlives its token and a revocation. Here the session ends with
// either.
func TestSignInTrap5ASessionEndsWithItsTokenAndWithTheDevice(t *testing.T) {
	for name, c := range map[string]struct {
		ttl  time.Duration
		end  func(*node, wire.DeviceID)
		code int
	}{
		"revoked": {0, func(n *node, id wire.DeviceID) { n.dir.set(id, false); n.gate.End(id) }, session.CodeRevoked},
		"expired": {2 * time.Second, func(*node, wire.DeviceID) {}, session.CodeExpired},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, nodeConfig{ttl: c.ttl})
			h, id := n.device(t, nil)
			conn, ticket, err := h.dial(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(session.CodeGoingAway, "")
			hello := &pb.Hello{Version: wire.ProtocolVersion, Ticket: ticket, WindowEnvelopes: 1, WindowBytes: 1 << 20}
			b, err := session.EncodeBatch([]*pb.Frame{{Frame: &pb.Frame_Hello{Hello: hello}}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := conn.Write(ctx, b); err != nil {
				t.Fatal(err)
			}
			for welcomed := false; ; {
				msg, err := conn.Read(ctx)
				if err != nil {
					t.Fatalf("no Close frame: %v", err)
				}
				batch, err := session.DecodeBatch(msg)
				if err != nil {
					t.Fatal(err)
				}
				f := batch.Frames[0]
				if f.GetWelcome() != nil && !welcomed {
					welcomed = true
					c.end(n, id)
				}
				if cl := f.GetClose(); cl != nil {
					if int(cl.Code) != c.code || !welcomed {
						t.Errorf("closed with %v", cl)
					}
					return
				}
			}
		})
	}
}

// Trap 6: a page of another origin cannot read the handshake's headers unless CORS
// exposes them. Here they are exposed to the origins that the operator allows, and
// nothing to others.
func TestSignInTrap6AllowedOriginsReadTheHandshakesHeaders(t *testing.T) {
	const app = "https://app.example"
	n := startNode(t, nodeConfig{origin: app})
	h, _ := n.device(t, nil)
	key, err := crypto.UnmarshalEd25519PrivateKey(h.o.Key)
	if err != nil {
		t.Fatal(err)
	}
	for origin, allowed := range map[string]bool{app: true, "https://evil.example": false, "null": false} {
		seen := &headers{next: h.base, origin: origin}
		req, _ := http.NewRequest(http.MethodPost, n.url+gate.AuthPath, nil)
		lib := httppeeridauth.ClientPeerIDAuth{PrivKey: key}
		_, resp, err := lib.AuthenticateWithRoundTripper(seen, req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if len(seen.got) != 2 {
			t.Fatalf("%d answers in a handshake", len(seen.got))
		}
		for i, g := range seen.got {
			exposed := g.Get("Access-Control-Expose-Headers")
			ok := g.Get("Access-Control-Allow-Origin") == origin && strings.Contains(exposed, "WWW-Authenticate") && strings.Contains(exposed, "Authentication-Info")
			if ok != allowed {
				t.Errorf("%s, answer %d: %v", origin, i+1, g)
			}
			if !allowed && (exposed != "" || g.Get("Access-Control-Allow-Origin") != "") {
				t.Errorf("%s, answer %d: %v", origin, i+1, g)
			}
		}
	}
}

// headers keeps the headers of answers to requests of an origin.
type headers struct {
	next   http.RoundTripper
	origin string
	got    []http.Header
}

func (h *headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Origin", h.origin)
	resp, err := h.next.RoundTrip(r)
	if err == nil {
		h.got = append(h.got, resp.Header)
	}
	return resp, err
}
