package gate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that hands out one decoded line at a time.
type lines chan map[string]any

func (l lines) Write(b []byte) (int, error) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return 0, err
	}
	l <- m
	return len(b), nil
}

func (l lines) next(t *testing.T) map[string]any {
	t.Helper()
	select {
	case m := <-l:
		return m
	case <-time.After(patience):
		t.Fatal("no line")
		return nil
	}
}

func newLines() (lines, *slog.Logger) {
	l := make(lines, 4096)
	return l, slog.New(slog.NewJSONHandler(l, nil))
}

func TestFailedHandshakesAreInTheStructuredLogOnceAMinuteAndAddress(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := TLS(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, logger := newLines()
	mux := http.NewServeMux()
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("a bug") })
	srv, done := Server(mux, conf, logger), make(chan struct{})
	c := &clock{now: time.Now()}
	srv.ErrorLog = newErrorLog(logger, c.Now).logger()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	defer func() {
		_ = srv.Close()
		<-done
	}()
	garbage := func() { // returns when the server has logged it and hung up
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// Not HTTP: to that net/http answers and hangs up before it logs.
		_, _ = conn.Write([]byte("neither TLS nor HTTP\r\n"))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, _ = new(bytes.Buffer).ReadFrom(conn)
		_ = conn.Close()
	}
	garbage()
	if m := out.next(t); m["msg"] != "a connection failed" || m["address"] != "127.0.0.1" || !strings.Contains(fmt.Sprint(m["error"]), "TLS handshake error") || m["unsaid"] != 0.0 {
		t.Errorf("%v", m)
	}
	for range 5 {
		garbage()
	}
	c.add(logEvery)
	garbage()
	if m := out.next(t); m["unsaid"] != 5.0 {
		t.Errorf("a minute and five failures later: %v", m)
	}
	// A panic is another thing: never held back.
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	for range 2 {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+l.Addr().String()+"/panic", nil)
		if resp, err := tr.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
		if m := out.next(t); m["level"] != "ERROR" || !strings.Contains(fmt.Sprint(m["error"]), "a bug") {
			t.Errorf("%v", m)
		}
	}
	if len(out) != 0 {
		t.Errorf("%d more lines: %v", len(out), <-out)
	}
}

// A stranger with many addresses neither fills the memory nor the log.
func TestAddressesThatAreLoggedAreBounded(t *testing.T) {
	out, logger := newLines()
	c := &clock{now: time.Now()}
	e := newErrorLog(logger, c.Now)
	fail := func(peer string) { fmt.Fprintf(e, "http: TLS handshake error from %s: EOF\n", peer) }
	for i := range 3 * maxLoggedAddrs {
		fail(fmt.Sprintf("10.0.%d.%d:99", i>>8, i&255))
	}
	if n := len(out); n != maxLoggedAddrs+1 || len(e.by) != maxLoggedAddrs+1 {
		t.Errorf("%d lines, %d addresses kept", n, len(e.by))
	}
	for len(out) > 0 {
		<-out
	}
	c.add(logEvery)
	fail("10.9.9.9:99")
	if m := out.next(t); m["address"] != "10.9.9.9" || len(e.by) != 1 {
		t.Errorf("%v, %d addresses kept", m, len(e.by))
	}
}

func TestALineOfTheServerIsTakenApart(t *testing.T) {
	for line, want := range map[string][2]string{
		"http: TLS handshake error from 192.0.2.7:55: remote error: tls: bad certificate": {"192.0.2.7", "http: TLS handshake error: remote error: tls: bad certificate"},
		"http2: server: error reading preface from client 192.0.2.7:55: bogus":            {"192.0.2.7", "http2: server: error reading preface: bogus"},
		"http: TLS handshake error from [2001:db8:1:2:3:4:5:6]:55: EOF":                   {"2001:db8:1:2::/64", "http: TLS handshake error: EOF"},
		"http: TLS handshake error from [fe80::1%eth0]:55: EOF":                           {"fe80::/64", "http: TLS handshake error: EOF"},
		"http: TLS handshake error from [::ffff:192.0.2.7]:55: EOF":                       {"192.0.2.7", "http: TLS handshake error: EOF"},
		"http: superfluous response.WriteHeader call from github.com/x.(*y).z (a.go:1)":   {"", "http: superfluous response.WriteHeader call from github.com/x.(*y).z (a.go:1)"},
		"http: Accept error: accept tcp [::]:1: too many open files; retrying in 5ms":     {"", "http: Accept error: accept tcp [::]:1: too many open files; retrying in 5ms"},
		"":                                      {"", ""},
		"http: TLS handshake error from @: EOF": {"", "http: TLS handshake error from @: EOF"},
	} {
		if a, text := splitAddress(line); [2]string{a, text} != want {
			t.Errorf("%q: %q, %q", line, a, text)
		}
	}
}

func TestALongLineIsCut(t *testing.T) {
	out, logger := newLines()
	e := newErrorLog(logger, time.Now)
	var wg sync.WaitGroup
	for range 4 { // net/http writes from many goroutines
		wg.Go(func() {
			fmt.Fprintf(e, "http: TLS handshake error from 192.0.2.7:55: %s\n", strings.Repeat("x", 1<<20))
		})
	}
	wg.Wait()
	if m := out.next(t); len(fmt.Sprint(m["error"])) > maxLoggedText || len(out) != 0 {
		t.Errorf("%d bytes, %d more lines", len(fmt.Sprint(m["error"])), len(out))
	}
}
