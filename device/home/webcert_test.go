package home

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entente-im/entente/node/gate"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// webFiles are a web certificate and its key in PEM files.
func webFiles(t *testing.T) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"chat.acme.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, k.Public(), k)
	ok(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	ok(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ok(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key
}

// connects is an HTTP proxy that opens tunnels, as offices have them.
func connects(t *testing.T) (at *url.URL, count *atomic.Int64) {
	count = new(atomic.Int64)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				r, err := http.ReadRequest(in)
				if err != nil || r.Method != http.MethodConnect {
					return
				}
				to, err := net.Dial("tcp", r.Host)
				if err != nil {
					return
				}
				count.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				go func() { _, _ = io.Copy(to, in); _ = to.Close() }()
				_, _ = io.Copy(c, to)
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return &url.URL{Scheme: "http", Host: l.Addr().String()}, count
}

// A device pins the node's peer ID. Which certificate browsers see, from files or from a
// CA, and whether that CA can be had, changes nothing for its session, which goes by
// WebSocket and not by a detour, also through an office's proxy.
func TestADeviceHoldsASessionWhicheverCertificateBrowsersSee(t *testing.T) {
	cert, key := webFiles(t)
	files, err := gate.FromFiles(cert, key, slog.New(slog.DiscardHandler))
	ok(t, err)
	ca, prepare, err := gate.FromACME(gate.ACME{Names: []string{"chat.acme.example"}, Directory: "https://127.0.0.1:1/", Folder: t.TempDir(), Secret: make([]byte, 32)})
	ok(t, err)
	for name, c := range map[string]nodeConfig{"none": {}, "files": {web: files}, "ACME": {web: ca, prepare: prepare}} {
		for _, through := range []string{"directly", "through a proxy"} {
			t.Run(name+" "+through, func(t *testing.T) {
				n := startNode(t, c)
				h, _ := n.device(t, func(o *Options) { o.Detour = func(why error) { t.Errorf("a detour: %v", why) } })
				if through != "directly" {
					at, count := connects(t)
					h.base.Proxy, h.upward.Proxy = http.ProxyURL(at), http.ProxyURL(at)
					defer func() {
						if count.Load() == 0 {
							t.Error("the proxy was not used")
						}
					}()
				}
				n.box.put(1, []byte("hello"))
				r := runSession(t, h, nil)
				r.connected(t)
				n.box.until(t, "the acknowledgement", func() bool { return n.box.acked == 1 })
			})
		}
	}
}
