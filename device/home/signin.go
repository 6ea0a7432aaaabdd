package home

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/libp2p/go-libp2p/core/crypto"
	httppeeridauth "github.com/libp2p/go-libp2p/p2p/http/auth"
)

// ErrPin means that the server is not the pinned node. Nothing was sent to it
// beyond the opening of a sign-in.
var ErrPin = errors.New("home: the server does not hold the pinned peer ID")

const authPath = "/auth"

// signer is the round tripper of calls: it signs in at /auth with empty bodies,
// checks who answered, and only then lets a call leave, with the bearer token.
type signer struct {
	o    Options
	key  crypto.PrivKey
	next http.RoundTripper

	turn   chan struct{} // holds one during a sign-in: calls wait for one token
	bearer string        // of whose turn it is
}

func newSigner(o Options, next http.RoundTripper) (*signer, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("home: device key: %w", err)
	}
	return &signer{o: o, key: key, next: next, turn: make(chan struct{}, 1)}, nil
}

// token returns the current token, or a new one when the current is the stale one.
func (s *signer) token(ctx context.Context, stale string) (string, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.bearer != "" && s.bearer != stale {
		return s.bearer, nil
	}
	resp, err := handshake(ctx, s.o, s.key, s.next)
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusForbidden {
		return "", wire.Refuse(pb.Code_CODE_REVOKED, "this device is not active at its home node")
	}
	bearer := bearerOf(resp.Header.Get("Authentication-Info"))
	if resp.StatusCode != http.StatusOK || bearer == "" {
		return "", wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, "the sign-in was answered with %d", resp.StatusCode)
	}
	s.bearer = bearer
	return bearer, nil
}

// handshake signs in with a key and returns the answer of the pinned node, its body
// closed; any other server is ErrPin.
func handshake(ctx context.Context, o Options, key crypto.PrivKey, next http.RoundTripper) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL+authPath, nil)
	if err != nil {
		return nil, fmt.Errorf("home: sign-in: %w", err)
	}
	// A client of the library per sign-in: with a remembered token it would repeat
	// requests behind our back.
	auth := httppeeridauth.ClientPeerIDAuth{PrivKey: key}
	id, resp, err := auth.AuthenticateWithRoundTripper(refusing{next}, req)
	if err != nil {
		return nil, signInError(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	_ = resp.Body.Close()
	if id.String() != o.Pin.String() {
		return nil, ErrPin
	}
	return resp, nil
}

// proveNode makes the server show that it holds the pin, with a key made for
// this. Behind pinned TLS that is shown already.
func proveNode(ctx context.Context, o Options, next http.RoundTripper) error {
	if !o.WebPKI {
		return nil
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return fmt.Errorf("home: %w", err)
	}
	_, err = handshake(ctx, o, key, next)
	return err
}

// refusedError carries the node's refusal past the library, which would complain
// about a missing signature.
type refusedError struct{ status int }

func (e *refusedError) Error() string { return fmt.Sprintf("home: sign-in refused with %d", e.status) }

// refusing ends the handshake when the server leaves it.
type refusing struct{ next http.RoundTripper }

func (r refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err == nil && resp.StatusCode >= 300 && resp.Header.Get("WWW-Authenticate") == "" && resp.Header.Get("Authentication-Info") == "" {
		_ = resp.Body.Close()
		return nil, &refusedError{resp.StatusCode}
	}
	return resp, err
}

func signInError(err error) error {
	var re *refusedError
	var lost *net.OpError
	switch {
	case errors.Is(err, ErrPin), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &re):
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, "the sign-in was answered with %d", re.status)
	case errors.As(err, &lost) && lost.Op == "dial":
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, "the home node is not there: %v", lost)
	}
	return fmt.Errorf("home: sign-in: %w", err)
}

// bearerOf takes the token out of an Authentication-Info header.
func bearerOf(h string) string {
	_, rest, ok := strings.Cut(h, `bearer="`)
	token, _, found := strings.Cut(rest, `"`)
	if !ok || !found || len(token) > 2048 {
		return ""
	}
	return token
}

// RoundTrip sends a call once, and once more with a new token if the node
// answered 401: it does so before its handler runs.
func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	token := ""
	for try := 0; ; try++ {
		fresh, err := s.token(req.Context(), token)
		if err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
		token = fresh
		out := req.Clone(req.Context())
		out.Header.Set("Authorization", httppeeridauth.PeerIDAuthScheme+` bearer="`+token+`"`)
		if try > 0 {
			if out.Body, err = req.GetBody(); err != nil {
				return nil, fmt.Errorf("home: sending again: %w", err)
			}
		}
		resp, err := s.next.RoundTrip(out)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || try > 0 || req.Body != nil && req.GetBody == nil {
			return resp, err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
		_ = resp.Body.Close()
	}
}
