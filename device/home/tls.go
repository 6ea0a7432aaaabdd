//go:build !js

package home

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/entente-im/entente/wire/session"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

const dialTimeout = 20 * time.Second

// transport makes HTTPS connections that are the pinned node's (libp2p TLS
// specification: the certificate carries the proof), or those of a web CA.
func transport(o Options, h2 bool) *http.Transport {
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if !o.WebPKI {
		// Not insecure: the key proof below replaces names and authorities.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(cs tls.ConnectionState) error { return checkPin(cs.PeerCertificates, o) }
	}
	if !h2 {
		c.NextProtos = []string{"http/1.1"} // a WebSocket upgrade needs it
	} else {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	if !o.WebPKI {
		c.NextProtos = append(c.NextProtos, session.PinnedALPN)
	}
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{DialContext: d.DialContext, TLSClientConfig: c, ForceAttemptHTTP2: h2, TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout: time.Minute, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10, Proxy: http.ProxyFromEnvironment}
	if o.Dial != nil {
		t.DialContext, t.Proxy = o.Dial, nil
	}
	if h2 {
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
	}
	return t
}

func checkPin(chain []*x509.Certificate, o Options) error {
	key, err := libp2ptls.PubKeyFromCertChain(chain)
	if err != nil {
		return ErrPin
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != len(o.Pin) || [32]byte(raw) != [32]byte(o.Pin) {
		return ErrPin
	}
	return nil
}

// ownALPN sends upgrades with the transport's own list of protocols. net/http takes the
// list off the handshake of a request that it knows as an upgrade (Transport.addTLS,
// onlyH1), and the node would not learn that a device asks: it would show the certificate
// that is for browsers. DialTLSContext is no way round, because it is not asked behind a
// proxy. Names of headers are equal in any case (RFC 9110 5.1), and net/http looks for the
// canonical one.
type ownALPN struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t ownALPN) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for _, name := range []string{"Connection", "Upgrade"} {
		r.Header[strings.ToLower(name)] = r.Header[name]
		delete(r.Header, name)
	}
	return t.next.RoundTrip(r)
}

func dialOptions(h *Home) *websocket.DialOptions {
	o := &websocket.DialOptions{HTTPClient: &http.Client{Transport: ownALPN{h.upward}, CheckRedirect: noRedirect}, Subprotocols: []string{session.Subprotocol}}
	if h.o.Origin != "" {
		o.HTTPHeader = http.Header{"Origin": {h.o.Origin}}
	}
	return o
}
