package gate

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	"github.com/entente-im/entente/wire/session"
	"github.com/libp2p/go-libp2p/core/crypto"
	httppeeridauth "github.com/libp2p/go-libp2p/p2p/http/auth"
)

// Directory says who may come in. It is asked on every call.
type Directory interface {
	// ByDevice returns the device's member; active is false when the device is
	// unknown or revoked, or its member disabled.
	ByDevice(wire.DeviceID) (member wire.MemberID, active bool)
}

// Options of a Gate. Key, HMACKey and Directory are needed.
type Options struct {
	Key       ed25519.PrivateKey // of the node's peer ID
	HMACKey   []byte             // 32 bytes, stable over restarts, or all tokens end with one
	Directory Directory
	// Backend returns what serves a device's session, when one opens; ctx ends with it.
	Backend func(ctx context.Context, device wire.DeviceID) (session.Backend, error)
	// Hosts that devices may name in the Host header; empty: any. The token is
	// bound to the one it was made for.
	Hosts    []string
	Origins  []string       // web origins ("https://app.example") that may call and open sessions
	TokenTTL time.Duration  // 0: wire.TokenLifetime
	Proxies  []netip.Prefix // whose X-Forwarded-For is believed
	Timing   session.Timing
	Clock    func() time.Time // nil: time.Now; for tickets and the ends of sessions
	Logger   *slog.Logger     // nil: none
}

// Gate serves sign-in and sessions. Close ends it.
type Gate struct {
	o    Options
	auth *httppeeridauth.ServerPeerIDAuth

	tickets tickets
	limiter limiter

	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	mu       sync.Mutex // guards all below
	held     map[heldBy]*live
	sessions int // of them
	closed   bool
}

// New checks the options. It starts nothing.
func New(o Options) (*Gate, error) {
	if len(o.Key) != ed25519.PrivateKeySize || len(o.HMACKey) != 32 || o.Directory == nil || o.Backend == nil {
		return nil, errors.New("gate: a key, a 32-byte HMAC key, a directory and a backend are needed")
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("gate: node key: %w", err)
	}
	if o.TokenTTL <= 0 {
		o.TokenTTL = wire.TokenLifetime
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gate{o: o, held: make(map[heldBy]*live)}
	g.tickets.made = make(map[[session.TicketLen]byte]ticket)
	g.tickets.each = make(map[wire.DeviceID]*ofDevice)
	g.limiter.open = make(map[string][]*quiet)
	g.ctx, g.stop = context.WithCancelCause(context.Background())
	// NoTLS: the library's TLS mode demands Host == SNI, which holds on port 443
	// only. TLS is ours, and the pin is checked by the device.
	g.auth = &httppeeridauth.ServerPeerIDAuth{PrivKey: key, TokenTTL: o.TokenTTL, HmacKey: o.HMACKey, NoTLS: true, ValidHostnameFn: g.validHost}
	return g, nil
}

// Close ends all sessions with "going away" and waits for them.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop(&session.CloseError{Code: session.CodeGoingAway, Reason: "the node is stopping"})
	g.wg.Wait()
}

// Mount adds POST /auth and GET /v1/session to a mux.
func (g *Gate) Mount(mux *http.ServeMux) {
	mux.HandleFunc("POST "+AuthPath, g.signIn)
	mux.HandleFunc("GET "+session.Path, g.serveSession)
}

// HandlerOptions are those that every Connect handler of a node takes: gzip off,
// because ciphertext does not compress, and requests bounded.
func HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCompression("gzip", nil, nil),
		connect.WithReadMaxBytes(wire.MaxTree + wire.MaxHandshakeBody + wire.MaxWelcome + 1<<20),
	}
}
