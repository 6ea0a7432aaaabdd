package gate

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/wire/session"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pemPair writes a certificate for a name, and its key.
func pemPair(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, leafFor(name), leafFor(name), k.Public(), k)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key
}

func leafFor(name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// serveTLS accepts connections and shakes hands.
func serveTLS(t *testing.T, c *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func shown(t *testing.T, addr, name string, protocols ...string) *x509.Certificate {
	t.Helper()
	d := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true})
	must(t, err)
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got == session.PinnedALPN {
		t.Errorf("the node chose %q", got)
	}
	return conn.ConnectionState().PeerCertificates[0]
}

func TestBrowsersSeeTheCAsCertificateAndDevicesThePin(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	cert, pemKey := pemPair(t, t.TempDir(), "chat.acme.example")
	web, err := FromFiles(cert, pemKey, slog.New(slog.DiscardHandler))
	must(t, err)
	c, err := TLS(key, web)
	must(t, err)
	addr := serveTLS(t, c)
	for _, protocols := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}} {
		if got := shown(t, addr, "chat.acme.example", protocols...); len(got.DNSNames) != 1 || got.DNSNames[0] != "chat.acme.example" {
			t.Errorf("%v: a browser was shown %v", protocols, got.Subject)
		}
		got, err := libp2ptls.PubKeyFromCertChain([]*x509.Certificate{shown(t, addr, "chat.acme.example", append(protocols, session.PinnedALPN)...)})
		must(t, err)
		if raw, err := got.Raw(); err != nil || string(raw) != string(key.Public().(ed25519.PublicKey)) {
			t.Errorf("%v: a device was shown another key", protocols)
		}
	}
}

func TestTLSFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	cert, key := pemPair(t, dir, "old.acme.example")
	now := time.Now()
	f := &files{cert: cert, key: key, log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }}
	must(t, f.load())
	expect := func(what, name string) {
		t.Helper()
		got, err := f.get(nil)
		must(t, err)
		if leaf, err := x509.ParseCertificate(got.Certificate[0]); err != nil || leaf.DNSNames[0] != name {
			t.Errorf("%s: %v", what, leaf.DNSNames)
		}
	}
	expect("at first", "old.acme.example")
	must(t, os.WriteFile(cert, []byte("half a renewal"), 0o600))
	must(t, os.Chtimes(cert, now, now.Add(time.Second)))
	now = now.Add(2 * recheck)
	expect("with a file that does not parse", "old.acme.example")
	pemPair(t, dir, "new.acme.example")
	must(t, os.Chtimes(cert, now, now.Add(time.Second)))
	expect("within a minute", "old.acme.example")
	now = now.Add(recheck)
	expect("after the renewal", "new.acme.example")
	must(t, os.Remove(cert))
	now = now.Add(recheck)
	expect("without the file", "new.acme.example")
	if _, err := FromFiles(cert, key, nil); err == nil {
		t.Error("a start without the file")
	}
}
