package gate

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/entente-im/entente/wire"
)

// ends counts the streams that the door ends until all have, or the time is over.
func (w *storm) ends(want int, within time.Duration) int {
	_ = w.c.SetReadDeadline(time.Now().Add(within))
	over := make(map[uint32]bool)
	for len(over) < want {
		f, err := w.f.ReadFrame()
		if err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			over[f.StreamID] = true
		case *http2.DataFrame, *http2.HeadersFrame:
			if f.Header().Flags.Has(http2.FlagDataEndStream) {
				over[f.Header().StreamID] = true
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				w.do(func() error { return w.f.WritePing(true, f.Data) })
			}
		}
	}
	return len(over)
}

// drip sends a byte of each of the first requests in each second, until stop is called.
func (w *storm) drip(requests int) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Second):
			}
			for i := range requests {
				w.do(func() error { return w.f.WriteData(uint32(2*i+1), false, []byte{0}) })
			}
		}
	}()
	return func() { close(over); <-done }
}

// A client that keeps its connection alive and takes no answer, or never ends its question,
// holds none of its 64 places for longer than a write may take.
func TestAClientThatStallsHoldsNoRequestForLong(t *testing.T) {
	for name, x := range map[string]struct {
		path    string
		window0 bool
		drips   bool
	}{
		"a short answer, window 0":       {"/work", true, false},
		"a long answer, window 0":        {"/much", true, false},
		"a question without its end":     {"/work", false, false},
		"a question that drips for ever": {"/work", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t)
			w := newStorm(t, d.addr, false)
			defer w.c.Close()
			if x.window0 {
				w.do(func() error { return w.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize}) })
			}
			const requests = 64
			w.path = x.path
			for i := range requests {
				w.opens(i, x.window0)
			}
			began := time.Now()
			if x.drips {
				defer w.drip(requests)()
			}
			if n := w.ends(requests, wire.WriteTimeout+5*time.Second); n != requests {
				t.Errorf("%d of %d requests were ended", n, requests)
			}
			for end := time.Now().Add(patience); d.running.Load() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d requests still run", d.running.Load())
				}
			}
			t.Logf("all were over after %s", time.Since(began).Round(time.Millisecond))
			d.asks(t)
		})
	}
}

// An answer whose reader is slow but reads, and one that is long in coming, arrive whole.
func TestASlowReaderGetsItsAnswer(t *testing.T) {
	d := openDoor(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+d.addr+"/much", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.honest.Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := 0
	for buf := make([]byte, much/12); ; time.Sleep(wire.WriteTimeout / 8) {
		n, err := io.ReadFull(resp.Body, buf)
		got += n
		if err != nil {
			break
		}
	}
	if got != much {
		t.Errorf("%d bytes of %d arrived", got, much)
	}
}

// A handler may hand the question's body to somebody who reads on when it has returned.
func TestABodyThatIsReadAfterItsHandlerSetsNothing(t *testing.T) {
	read := make(chan struct{})
	returned := make(chan struct{})
	s := httptest.NewUnstartedServer(unstalled(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		go func() {
			<-returned
			_, _ = r.Body.Read(make([]byte, 1)) // whatever it gives: the stream is not ours any more
			close(read)
		}()
	})))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	a, err := s.Client().Post(s.URL, "text/plain", strings.NewReader(strings.Repeat("x", 100)))
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	time.Sleep(50 * time.Millisecond) // the server has taken the stream back
	close(returned)
	<-read
}
