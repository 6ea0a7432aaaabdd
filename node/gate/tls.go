package gate

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
	"github.com/libp2p/go-libp2p/core/crypto"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

var errOtherDevice = errors.New("gate: a ticket of another device")

func isRevoked(err error) bool { return wire.StatusOf(err).Code == pb.Code_CODE_REVOKED }

// WebCertificates finds the certificate of a web CA for a connection.
type WebCertificates func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// TLS makes the configuration of the devices' door. A device that asks for it by
// session.PinnedALPN is shown a fresh certificate with the libp2p key proof of the
// node's peer ID (libp2p TLS specification), which it pins: a web CA can neither lock it
// out nor stand between. Others, browsers first, are shown that of web; with a nil web
// all see the pinned one.
func TLS(key ed25519.PrivateKey, web WebCertificates) (*tls.Config, error) {
	pinned, err := selfSigned(key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if web == nil || slices.Contains(hello.SupportedProtos, session.PinnedALPN) {
			return pinned, nil
		}
		return web(hello)
	}
	return c, nil
}

func selfSigned(key ed25519.PrivateKey) (*tls.Certificate, error) {
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("gate: node key: %w", err)
	}
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("gate: certificate key: %w", err)
	}
	proof, err := libp2ptls.GenerateSignedExtension(k, leaf.Public())
	if err != nil {
		return nil, fmt.Errorf("gate: key proof: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("gate: certificate serial: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "entente node"}, NotBefore: now.Add(-wire.NotBeforeSlack),
		NotAfter: now.Add(10 * 365 * 24 * time.Hour), ExtraExtensions: []pkix.Extension{proof}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, t, t, leaf.Public(), leaf)
	if err != nil {
		return nil, fmt.Errorf("gate: certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leaf}, nil
}

// Server returns an http.Server with timeouts: headers within 10 s,
// HTTP/2 peers that do not answer are dropped, and who stalls a request loses it
// (stalled.go). It sets no ReadTimeout or WriteTimeout: sessions have deadlines of their own.
// What net/http has to say goes to l, bounded per address; nil: nowhere.
func Server(h http.Handler, c *tls.Config, l *slog.Logger) *http.Server {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &http.Server{Handler: unstalled(h), TLSConfig: c, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: newErrorLog(l, time.Now).logger(),
		HTTP2:    &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second, MaxConcurrentStreams: 64}}
}
