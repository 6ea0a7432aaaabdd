package gate

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/entente-im/entente/wire"
	"github.com/entente-im/entente/wire/session"
)

// live is a device's session in the registry.
type live struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// serveSession upgrades and runs a session until it ends.
func (g *Gate) serveSession(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		http.Error(w, "the node is stopping", http.StatusServiceUnavailable)
		return
	}
	defer g.wg.Done()

	origin := r.Header.Get("Origin")
	if origin != "" && !slices.Contains(g.o.Origins, origin) {
		http.Error(w, "this origin may not open sessions", http.StatusForbidden)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{session.Subprotocol}, OriginPatterns: hostsOf(g.o.Origins)})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = ws.CloseNow() }()
	leave := g.limiter.enter(clientAddress(r, g.o.Proxies), func() { _ = ws.CloseNow() })
	defer leave()
	c := session.WebSocket(ws, wire.MaxSessionBatch)
	if ws.Subprotocol() != session.Subprotocol {
		c.Close(session.CodeMalformed, "the subprotocol is "+session.Subprotocol)
		return
	}
	g.greet(c, origin, leave)
}

func hostsOf(origins []string) []string {
	hosts := make([]string, 0, len(origins))
	for _, o := range origins {
		if u, err := url.Parse(o); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// greet reads Hello, redeems its ticket and serves the device.
func (g *Gate) greet(c session.Conn, origin string, leave func()) {
	hello, err := session.ReadHello(g.ctx, c, g.o.Timing)
	leave()
	if err != nil {
		return
	}
	t, err := g.redeem(hello.Ticket, origin)
	if err != nil {
		session.Refuse(c, refusal(err), g.o.Timing)
		return
	}
	ctx, end, ok := g.register(t.device, sessionCall)
	if !ok {
		session.Refuse(c, &session.CloseError{Code: session.CodeRevoked, Reason: "this device was revoked"}, g.o.Timing)
		return
	}
	defer end()
	backend, err := g.o.Backend(ctx, t.device)
	if err != nil {
		g.o.Logger.Error("session refused", "device", t.device.String(), "error", err)
		session.Refuse(c, &session.CloseError{Code: session.CodeInternal, Reason: "internal"}, g.o.Timing)
		return
	}
	o := session.ServeOptions{AuthExpires: t.auth, Timing: g.o.Timing, Clock: g.o.Clock}
	if _, err := rand.Read(o.Session[:]); err != nil {
		return
	}
	started := g.o.Clock()
	err = session.Serve(ctx, c, hello, reauth{backend, g, t}, o)
	g.o.Logger.Info("session ended", "device", t.device.String(), "after", g.o.Clock().Sub(started), "why", err)
}

func refusal(err error) *session.CloseError {
	if isRevoked(err) {
		return &session.CloseError{Code: session.CodeRevoked, Reason: "this device was revoked"}
	}
	return &session.CloseError{Code: session.CodeExpired, Reason: "the ticket does not stand"}
}

// register makes what a device holds known, after the one of that kind before has
// ended. It asks the directory once more after that: a revocation between redeem and
// here would have found nothing to end.
func (g *Gate) register(d wire.DeviceID, kind callKind) (ctx context.Context, end func(), ok bool) {
	ctx, cancel := context.WithCancelCause(g.ctx)
	l, key := &live{cancel: cancel, done: make(chan struct{})}, heldBy{d, kind}
	g.mu.Lock()
	old := g.held[key]
	g.held[key] = l
	if kind == sessionCall && old == nil {
		g.sessions++
	}
	g.mu.Unlock()
	if old != nil {
		old.cancel(&session.CloseError{Code: session.CodeReplaced, Reason: "a newer session of this device"})
		<-old.done
	}
	end = func() {
		cancel(nil)
		g.mu.Lock()
		if g.held[key] == l {
			delete(g.held, key)
			if kind == sessionCall {
				g.sessions--
			}
		}
		g.mu.Unlock()
		close(l.done)
	}
	if _, active := g.o.Directory.ByDevice(d); !active {
		end()
		return nil, nil, false
	}
	return ctx, end, true
}

// End closes a device's session with 4403, and its calls of that kind, and returns
// when they have ended; from the call on none of its submissions counts. The directory must say "not active"
// before. Its tickets die with it: redeeming asks the directory.
func (g *Gate) End(d wire.DeviceID) {
	var ends []*live
	g.mu.Lock()
	for _, kind := range []callKind{sessionCall, submitCall, ackCall} {
		if l := g.held[heldBy{d, kind}]; l != nil {
			ends = append(ends, l)
		}
	}
	g.mu.Unlock()
	for _, l := range ends {
		l.cancel(&session.CloseError{Code: session.CodeRevoked, Reason: "this device was revoked"})
	}
	for _, l := range ends {
		<-l.done
	}
}

// Online reports whether the device has a session, or waits in a Fetch.
func (g *Gate) Online(d wire.DeviceID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held[heldBy{d, sessionCall}] != nil
}

// Sessions counts the devices that have a session.
func (g *Gate) Sessions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions
}

// reauth answers Reauth with the gate's own tickets.
type reauth struct {
	session.Backend
	g *Gate
	t ticket
}

func (r reauth) Reauth(value []byte) (time.Time, error) {
	t, err := r.g.redeem(value, r.t.origin)
	if err != nil {
		return time.Time{}, err
	}
	if t.device != r.t.device {
		return time.Time{}, errOtherDevice
	}
	return t.auth, nil
}
