package gate

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
	"github.com/libp2p/go-libp2p/core/peer"
	httppeeridauth "github.com/libp2p/go-libp2p/p2p/http/auth"
)

// AuthPath is the only place of the libp2p HTTP Peer ID Auth handshake.
const AuthPath = "/auth"

// maxAuthorization bounds the header: a token of the library has 279 bytes.
const maxAuthorization = 2048

func (g *Gate) validHost(host string) bool {
	return len(host) <= 255 && (len(g.o.Hosts) == 0 || slices.Contains(g.o.Hosts, host))
}

// signIn runs the handshake. A request without the header is answered 401 here, and
// one with a body 400: the library would run it or take it for a challenge.
func (g *Gate) signIn(w http.ResponseWriter, r *http.Request) {
	h := r.Header.Get("Authorization")
	switch {
	case r.ContentLength != 0 || len(h) > maxAuthorization:
		http.Error(w, "sign-in takes no body", http.StatusBadRequest)
	case !httppeeridauth.HasAuthHeader(r):
		http.Error(w, "no handshake", http.StatusUnauthorized)
	default:
		g.auth.ServeHTTPWithNextHandler(w, r, func(id peer.ID, w http.ResponseWriter, _ *http.Request) {
			device, err := wire.ParseDeviceID(id.String())
			if err == nil {
				if _, active := g.o.Directory.ByDevice(device); active {
					w.WriteHeader(http.StatusOK)
					return
				}
			}
			// The header stays: it proves who refuses. Its token opens nothing, as
			// every call asks the directory.
			http.Error(w, "not an active device here", http.StatusForbidden)
		})
	}
}

// Caller is who a bearer token stands for.
type Caller struct {
	Device  wire.DeviceID
	Member  wire.MemberID
	Expires time.Time // of the token
}

type callerKey struct{}

// CallerOf returns the caller that Bearer put into the context.
func CallerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Bearer lets a request pass that carries a valid token of a device that is active
// now, and tells next who it is (CallerOf). All others get a Connect error, and
// never a challenge: the library's client would answer that with the call itself.
func (g *Gate) Bearer(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := g.check(r)
		if err != nil {
			if refuse.IsSupported(r) {
				_ = refuse.Write(w, r, session.ConnectError(err))
				return
			}
			http.Error(w, "sign in first", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
	})
}

func (g *Gate) check(r *http.Request) (Caller, error) {
	unauthenticated := wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, "")
	h := r.Header.Get("Authorization")
	rest, ok := strings.CutPrefix(h, httppeeridauth.PeerIDAuthScheme+` bearer="`)
	token, end, found := strings.Cut(rest, `"`)
	if len(h) > maxAuthorization || !ok || !found || end != "" {
		return Caller{}, unauthenticated
	}
	// The library verifies; whatever it would answer is thrown away.
	var c Caller
	valid := false
	g.auth.ServeHTTPWithNextHandler(discard{}, r, func(id peer.ID, _ http.ResponseWriter, _ *http.Request) {
		device, err := wire.ParseDeviceID(id.String())
		c.Device, valid = device, err == nil
	})
	if !valid {
		return Caller{}, unauthenticated
	}
	created, host := readToken(token)
	if host != r.Host || created.IsZero() {
		return Caller{}, unauthenticated // a token of another host, replayed here
	}
	c.Expires = created.Add(g.o.TokenTTL)
	member, active := g.o.Directory.ByDevice(c.Device)
	if !active {
		return Caller{}, wire.Refuse(pb.Code_CODE_REVOKED, "")
	}
	c.Member = member
	return c, nil
}

// readToken reads what a verified token says beside the peer: HMAC-SHA256, then
// JSON, in URL base64 (libp2p HTTP Peer ID Auth leaves tokens to the server;
// go-libp2p does not compare the host name, so we do).
func readToken(token string) (created time.Time, host string) {
	b, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(b) < sha256.Size {
		return time.Time{}, ""
	}
	var t struct {
		Hostname string    `json:"hostname"`
		Created  time.Time `json:"created-time"`
	}
	if err := json.Unmarshal(b[sha256.Size:], &t); err != nil {
		return time.Time{}, ""
	}
	return t.Created, t.Hostname
}

// discard swallows an answer.
type discard struct{}

func (discard) Header() http.Header         { return make(http.Header) }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
