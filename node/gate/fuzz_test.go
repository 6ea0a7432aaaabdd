package gate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
	"github.com/entente-im/entente/wire/session"
)

func fuzzGate(f *testing.F) (*Gate, http.Handler) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	g, err := New(Options{Key: key, HMACKey: bytes.Repeat([]byte{3}, 32), Directory: &dir{gone: make(map[wire.DeviceID]bool)},
		Backend: func(context.Context, wire.DeviceID) (session.Backend, error) { return new(flood), nil }})
	if err != nil {
		f.Fatal(err)
	}
	mux := http.NewServeMux()
	g.Mount(mux)
	mux.Handle("/rpc", g.Bearer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	return g, g.CORS(mux)
}

// FuzzAuthorization sends what a stranger may put into the header, at sign-in and at a
// call: nobody comes in without the node's own token, and nobody is challenged at
// a call.
func FuzzAuthorization(f *testing.F) {
	_, h := fuzzGate(f)
	key := strings.Repeat("A", 43) + "="
	f.Add(`libp2p-PeerID bearer="c3RhbGU="`, "acme.example:1")
	f.Add(`libp2p-PeerID challenge-server="`+key+`", public-key="CAESIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`, "acme.example")
	f.Add(`libp2p-PeerID opaque="`+key+`", sig="`+key+`", public-key="`+key+`"`, "")
	f.Add("Bearer x", "[::1]:1")
	f.Fuzz(func(t *testing.T, header, host string) {
		for _, path := range []string{"/rpc", AuthPath} {
			r := httptest.NewRequest(http.MethodPost, "https://acme.example"+path, nil)
			r.Host = host
			r.Header.Set("Authorization", header)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			switch {
			case path == "/rpc" && (w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != ""):
				t.Fatalf("%q at a call: %d, challenge %q", header, w.Code, w.Header().Get("WWW-Authenticate"))
			case strings.Contains(w.Header().Get("Authentication-Info"), "bearer="):
				t.Fatalf("%q at sign-in: a token", header)
			}
		}
	})
}

// FuzzToken reads what a verified token says; only the HMAC, which the library checks
// before, makes it true.
func FuzzToken(f *testing.F) {
	f.Add(strings.Repeat("A", 44) + "eyJob3N0bmFtZSI6ImEiLCJjcmVhdGVkLXRpbWUiOiIyMDI2LTAxLTAxVDAwOjAwOjAwWiJ9")
	f.Fuzz(func(t *testing.T, s string) {
		if created, host := readToken(s); len(host) > len(s) || created.IsZero() && host != "" && len(s) < 44 {
			t.Errorf("%q: %v, %q", s, created, host)
		}
	})
}

// FuzzServerLine takes apart what net/http may log, which strangers have a hand in.
func FuzzServerLine(f *testing.F) {
	f.Add("http: TLS handshake error from 192.0.2.7:55: EOF")
	f.Add("http2: server: error reading preface from client [2001:db8::1%x]:55: bogus")
	f.Fuzz(func(t *testing.T, line string) {
		address, text := splitAddress(line)
		if len(address) > 64 || len(text) > len(line) {
			t.Errorf("%q: %q, %q", line, address, text)
		}
	})
}
