package gate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/entente-im/entente/wire/session"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// authority is a small ACME server (RFC 8555) that really checks the challenge of RFC
// 8737: it connects to the node and reads the certificate that it is shown.
type authority struct {
	*httptest.Server
	t    *testing.T
	node func() string // where the names lead

	mu      sync.Mutex
	account crypto.PublicKey
	name    string
	valid   bool
	chain   []byte
	issued  int
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", rand.Text())
	url := func(path string) string { return a.URL + path }
	if r.Method == http.MethodGet && r.URL.Path == "/" {
		_ = json.NewEncoder(w).Encode(map[string]string{"newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"), "revokeCert": url("/revoke"), "keyChange": url("/key")})
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	var body struct{ Protected, Payload string }
	must(a.t, json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&body))
	protected, _ := base64.RawURLEncoding.DecodeString(body.Protected)
	payload, _ := base64.RawURLEncoding.DecodeString(body.Payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	status := func() string {
		switch {
		case a.chain != nil:
			return "valid"
		case a.valid:
			return "ready"
		}
		return "pending"
	}
	order := func(code int) {
		w.Header().Set("Location", url("/order/1"))
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"status": status(), "authorizations": []string{url("/authz")}, "finalize": url("/finalize"),
			"certificate": url("/cert"), "identifiers": []any{map[string]string{"type": "dns", "value": a.name}}})
	}
	challenge := map[string]string{"type": "tls-alpn-01", "url": url("/challenge"), "token": "a-token", "status": map[bool]string{true: "valid", false: "pending"}[a.valid]}
	switch r.URL.Path {
	case "/account":
		a.account = jwk(a.t, protected)
		w.Header().Set("Location", url("/account/1"))
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"status":"valid"}`))
	case "/order":
		var o struct{ Identifiers []struct{ Value string } }
		must(a.t, json.Unmarshal(payload, &o))
		a.name, a.valid, a.chain = o.Identifiers[0].Value, false, nil
		order(http.StatusCreated)
	case "/order/1":
		order(http.StatusOK)
	case "/authz":
		_ = json.NewEncoder(w).Encode(map[string]any{"status": challenge["status"], "identifier": map[string]string{"type": "dns", "value": a.name}, "challenges": []any{challenge}})
	case "/challenge":
		a.valid = a.check() == nil
		_ = json.NewEncoder(w).Encode(challenge)
	case "/finalize":
		a.issue(payload)
		order(http.StatusOK)
	case "/cert":
		_, _ = w.Write(a.chain)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func jwk(t *testing.T, protected []byte) crypto.PublicKey {
	var h struct{ JWK struct{ X, Y string } }
	must(t, json.Unmarshal(protected, &h))
	x, _ := base64.RawURLEncoding.DecodeString(h.JWK.X)
	y, _ := base64.RawURLEncoding.DecodeString(h.JWK.Y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	must(t, err)
	return key
}

// check connects as RFC 8737 §3 says.
func (a *authority) check() error {
	thumb, err := acme.JWKThumbprint(a.account)
	if err != nil {
		return err
	}
	conn, err := tls.Dial("tcp", a.node(), &tls.Config{ServerName: a.name, NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	want := sha256.Sum256([]byte("a-token." + thumb))
	value, err := asn1.Marshal(want[:])
	if err != nil {
		return err
	}
	for _, e := range conn.ConnectionState().PeerCertificates[0].Extensions {
		if e.Id.String() == "1.3.6.1.5.5.7.1.31" && bytes.Equal(e.Value, value) {
			return nil
		}
	}
	return fmt.Errorf("no proof for %s", a.name)
}

func (a *authority) issue(payload []byte) {
	var f struct{ CSR string }
	must(a.t, json.Unmarshal(payload, &f))
	der, err := base64.RawURLEncoding.DecodeString(f.CSR)
	must(a.t, err)
	csr, err := x509.ParseCertificateRequest(der)
	must(a.t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	root := leafFor("a CA")
	leaf, err := x509.CreateCertificate(rand.Reader, leafFor(a.name), root, csr.PublicKey, key)
	must(a.t, err)
	a.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	a.issued++
}

func TestCertificatesComeByACMEAndLieSealed(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	ca := newAuthority(t)
	o := ACME{Names: []string{"chat.acme.example"}, Email: "it@acme.example", Directory: ca.URL + "/", Folder: filepath.Join(t.TempDir(), "acme"),
		Secret: bytes.Repeat([]byte{7}, 32), Client: ca.Client()}
	start := func(o ACME) string {
		web, prepare, err := FromACME(o)
		must(t, err)
		c, err := TLS(key, web)
		must(t, err)
		prepare(c)
		return serveTLS(t, c)
	}
	addr := start(o)
	ca.node = func() string { return addr }
	got := shown(t, addr, "chat.acme.example", "h2")
	if len(got.DNSNames) != 1 || got.DNSNames[0] != "chat.acme.example" || ca.issued != 1 {
		t.Fatalf("shown %v, %d issued", got.DNSNames, ca.issued)
	}
	if len(shown(t, addr, "chat.acme.example", "h2", session.PinnedALPN).DNSNames) != 0 {
		t.Error("a device was shown the CA's certificate")
	}
	for _, name := range []string{"evil.example", ""} {
		if conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, NextProtos: []string{"h2"}, InsecureSkipVerify: true}); err == nil {
			_ = conn.Close()
			t.Errorf("a certificate for %q", name)
		}
	}
	entries, err := os.ReadDir(o.Folder)
	must(t, err)
	if len(entries) == 0 {
		t.Fatal("nothing was kept")
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(o.Folder, e.Name()))
		must(t, err)
		if bytes.Contains(b, []byte("PRIVATE KEY")) || strings.Contains(e.Name(), "acme") {
			t.Errorf("%s lies open", e.Name())
		}
	}
	addr = start(o)
	if shown(t, addr, "chat.acme.example", "h2"); ca.issued != 1 {
		t.Errorf("a restart asked for another: %d", ca.issued)
	}
	o.Secret = bytes.Repeat([]byte{8}, 32)
	addr = start(o)
	if shown(t, addr, "chat.acme.example", "h2"); ca.issued != 2 {
		t.Errorf("with another secret the old certificate opened: %d", ca.issued)
	}
}

func TestSealedFilesOpenUnderTheirNameAlone(t *testing.T) {
	c, err := newSealedFiles(t.TempDir(), make([]byte, 32))
	must(t, err)
	ctx := context.Background()
	must(t, c.Put(ctx, "one", []byte("first")))
	must(t, c.Put(ctx, "two", []byte("second")))
	if b, err := c.Get(ctx, "one"); err != nil || string(b) != "first" {
		t.Errorf("%q %v", b, err)
	}
	must(t, os.Rename(c.path("two"), c.path("one")))
	for _, name := range []string{"one", "two", "three"} {
		if _, err := c.Get(ctx, name); err != autocert.ErrCacheMiss {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.Truncate(c.path("one"), 10))
	if _, err := c.Get(ctx, "one"); err != autocert.ErrCacheMiss {
		t.Errorf("cut: %v", err)
	}
	must(t, c.Delete(ctx, "one"))
	must(t, c.Delete(ctx, "one"))
}
