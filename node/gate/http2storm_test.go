package gate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// storm is a client that speaks HTTP/2 by hand to the devices' door.
type storm struct {
	mu      sync.Mutex // of what is written
	t       *testing.T
	c       *tls.Conn
	f       *http2.Framer
	headers bytes.Buffer
	enc     *hpack.Encoder
	path    string
	sent    int
	over    error         // of writing: the door takes no more
	closed  chan struct{} // the door has closed
}

// newStorm connects; read says whether what the door writes is read.
func newStorm(t *testing.T, addr string, read bool) *storm {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	if p := c.ConnectionState().NegotiatedProtocol; p != "h2" {
		t.Fatalf("the door speaks %q", p)
	}
	w := &storm{t: t, path: "/work", c: c, f: http2.NewFramer(c, c), closed: make(chan struct{})}
	w.f.AllowIllegalWrites = true
	w.enc = hpack.NewEncoder(&w.headers)
	w.do(func() error { _, err := io.WriteString(c, http2.ClientPreface); return err })
	w.do(func() error { return w.f.WriteSettings() })
	if read {
		go func() {
			defer close(w.closed)
			_, _ = io.Copy(io.Discard, c)
		}()
	}
	return w
}

// do writes something, unless the connection is over.
func (w *storm) do(write func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over != nil {
		return
	}
	_ = w.c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	if w.over = write(); w.over == nil {
		w.sent++
	}
}

// ended reports whether the door has closed the connection; wait says that it has to.
func (w *storm) ended(wait bool) bool {
	within := time.Duration(0)
	if wait {
		within = patience
	}
	select {
	case <-w.closed:
		return true
	case <-time.After(within):
		return w.over != nil
	}
}

func (w *storm) header(more ...hpack.HeaderField) []byte {
	w.headers.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "node.example"}, {Name: ":path", Value: w.path}}, more...) {
		_ = w.enc.WriteField(f)
	}
	return w.headers.Bytes()
}

// opens begins the i-th request.
func (w *storm) opens(i int, end bool) uint32 {
	id := uint32(2*i + 1)
	w.do(func() error {
		return w.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.header(), EndStream: end, EndHeaders: true})
	})
	return id
}

// doorStorms are what was published of HTTP/2 (docs/threat-model.md).
var doorStorms = map[string]struct {
	unread bool // what the door answers is not read
	times  int
	blow   func(w *storm, i int)
	closes bool // the door has to close the connection
}{
	"CVE-2023-44487: requests that are reset at once": {times: 3_000, blow: func(w *storm, i int) {
		id := w.opens(i, true)
		w.do(func() error { return w.f.WriteRSTStream(id, http2.ErrCodeCancel) })
	}},
	"CVE-2025-8671: requests that have the server reset them": {times: 3_000, blow: func(w *storm, i int) {
		id := w.opens(i, false)
		w.do(func() error { return w.f.WriteWindowUpdate(id, 0) })
	}},
	"CVE-2023-45288: CONTINUATION without end": {times: 1_000, closes: true, blow: func(w *storm, i int) {
		if i == 0 {
			w.do(func() error {
				return w.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.header()})
			})
		}
		w.headers.Reset()
		_ = w.enc.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: string(bytes.Repeat([]byte("v"), 12<<10)), Sensitive: true})
		w.do(func() error { return w.f.WriteContinuation(1, false, w.headers.Bytes()) })
	}},
	"CVE-2016-6581: a header that is said again and again by its index": {times: 20, blow: func(w *storm, i int) {
		big := hpack.HeaderField{Name: "x", Value: string(bytes.Repeat([]byte("v"), 3<<10))}
		again := make([]hpack.HeaderField, 4_000)
		for k := range again {
			again[k] = big
		}
		w.do(func() error {
			return w.f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: w.header(again...), EndStream: true, EndHeaders: true})
		})
	}},
	"CVE-2019-9512: PING without end, answers unread": {unread: true, times: 60_000, blow: func(w *storm, i int) {
		w.do(func() error { return w.f.WritePing(false, [8]byte{byte(i)}) })
	}},
	"CVE-2019-9515: SETTINGS without end, answers unread": {unread: true, times: 60_000, blow: func(w *storm, _ int) {
		w.do(func() error { return w.f.WriteSettings() })
	}},
	"CVE-2019-9518: empty frames without end": {times: 10_000, blow: func(w *storm, i int) {
		if i == 0 {
			w.opens(0, false)
		}
		w.do(func() error { return w.f.WriteData(1, false, nil) })
	}},
	"CVE-2019-9511: answers that are never taken, window 0": {times: 300, blow: func(w *storm, i int) {
		if i == 0 {
			w.do(func() error { return w.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize}) })
		}
		w.opens(i, true)
	}},
}

// much is the length of an answer that fits into no window.
const much = 12 << 20

// door is the devices' door with work behind it, counted.
type door struct {
	addr    string
	running atomic.Int64
	most    atomic.Int64
	honest  *http.Client
}

func openDoor(t *testing.T) *door {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := TLS(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{}
	mux := http.NewServeMux()
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		n := d.running.Add(1)
		defer d.running.Add(-1)
		for m := d.most.Load(); n > m && !d.most.CompareAndSwap(m, n); m = d.most.Load() {
		}
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(300 * time.Millisecond) // what has begun is not stopped by a reset
		_, _ = io.WriteString(w, "done")
	})
	mux.HandleFunc("/much", func(w http.ResponseWriter, _ *http.Request) {
		d.running.Add(1)
		defer d.running.Add(-1)
		_, _ = w.Write(make([]byte, much))
	})
	mux.HandleFunc("/honest", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	srv, done := Server(mux, conf, nil), make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	d.honest = &http.Client{Transport: tr, Timeout: patience}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = srv.Close()
		<-done
	})
	return d
}

// asks is an honest device's call.
func (d *door) asks(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+d.addr+"/honest", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.honest.Do(req)
	if err != nil {
		t.Fatalf("an honest device is not served: %v", err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "in" || resp.ProtoMajor != 2 {
		t.Fatalf("an honest device is answered %q over %s: %v", b, resp.Proto, err)
	}
	return time.Since(began)
}

func TestStormsAtTheDoorAreEnduredAndHonestDevicesAreServed(t *testing.T) {
	const connections = 2
	for name, x := range doorStorms {
		t.Run(name, func(t *testing.T) {
			d := openDoor(t)
			d.asks(t)
			var before, during, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			storms := make([]*storm, connections)
			for i := range storms {
				storms[i] = newStorm(t, d.addr, !x.unread)
			}
			defer func() {
				for _, w := range storms {
					_ = w.c.Close()
					if !x.unread {
						<-w.closed
					}
				}
			}()
			var blowing sync.WaitGroup
			for _, w := range storms {
				blowing.Go(func() {
					for i := 0; i < x.times && w.over == nil; i++ {
						x.blow(w, i)
					}
				})
			}
			slowest := time.Duration(0)
			for range 20 {
				slowest = max(slowest, d.asks(t))
				time.Sleep(20 * time.Millisecond)
			}
			blowing.Wait()
			runtime.ReadMemStats(&during)
			sent, closed := 0, 0
			for _, w := range storms {
				sent += w.sent
				if w.ended(x.closes && !x.unread) {
					closed++
				}
				_ = w.c.Close()
			}
			for end := time.Now().Add(patience); d.running.Load() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d requests of clients that are gone still run", d.running.Load())
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			grown, left := (int64(during.HeapAlloc)-int64(before.HeapAlloc))>>20, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20
			t.Logf("%d frames, %d of %d connections closed by the door; at most %d requests at once; an honest device waits %s at most; memory %+d MiB, afterwards %+d MiB",
				sent, closed, connections, d.most.Load(), slowest, grown, left)
			if x.closes && closed != connections {
				t.Errorf("%d of %d connections were closed", closed, connections)
			}
			if n := d.most.Load(); n > 64*connections {
				t.Errorf("%d requests ran at once", n)
			}
			if slowest > 5*time.Second {
				t.Errorf("an honest device waited %s", slowest)
			}
			if grown > 96 || left > 16 {
				t.Errorf("the storm took %d MiB, and left %d MiB", grown, left)
			}
		})
	}
}
