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
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/libp2p/go-libp2p/core/crypto"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

var errOtherDevice = errors.New("gate: a ticket of another device")

func isRevoked(err error) bool { return wire.StatusOf(err).Code == pb.Code_CODE_REVOKED }

// SelfSigned makes a TLS configuration with a fresh certificate that carries the
// libp2p key proof of the node's peer ID (libp2p TLS specification): devices pin the
// ID, so every start may make another.
func SelfSigned(key ed25519.PrivateKey) (*tls.Config, error) {
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
	return tlsConfig(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leaf}), nil
}

// FromFiles makes a TLS configuration of a certificate and key in PEM files.
func FromFiles(certFile, keyFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("gate: TLS files: %w", err)
	}
	return tlsConfig(cert), nil
}

func tlsConfig(c tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}
}

// Server returns an http.Server with timeouts: headers within 10 s,
// HTTP/2 peers that do not answer are dropped. It sets no ReadTimeout or
// WriteTimeout: sessions have deadlines of their own. What net/http has to say goes
// to l, bounded per address; nil: nowhere.
func Server(h http.Handler, c *tls.Config, l *slog.Logger) *http.Server {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &http.Server{Handler: h, TLSConfig: c, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: newErrorLog(l, time.Now).logger(),
		HTTP2:    &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second, MaxConcurrentStreams: 64}}
}
