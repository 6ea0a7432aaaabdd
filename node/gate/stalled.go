package gate

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
)

// piece is what a client has to take, or to send, within wire.WriteTimeout.
const piece = 16 << 10

// unstalled bounds how long a client holds a request by doing little: every piece of its
// question and of its answer has wire.WriteTimeout. An HTTP/2 client whose window
// stays 0, or that never ends its question, would else keep its handlers for as long as it
// answers pings. What a handler does in between, such as waiting for mail, has no deadline
// here; a session takes its connection over and has its own.
func unstalled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			body := &promptBody{ReadCloser: r.Body, c: c}
			defer body.end()
			with := *r
			with.Body = body
			r = &with
		}
		next.ServeHTTP(&promptWriter{w, c}, r)
		// net/http sends what is left when this returns. It takes the deadline back itself where
		// the connection goes on; one that was taken over is closed by now.
		_ = c.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
	})
}

// promptWriter is an answer that has to be taken.
type promptWriter struct {
	http.ResponseWriter
	c *http.ResponseController
}

// Unwrap is for http.ResponseController, and for who takes the connection over.
func (w *promptWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *promptWriter) Write(b []byte) (n int, err error) {
	defer func() { _ = w.c.SetWriteDeadline(time.Time{}) }()
	for first := true; err == nil && (first || n < len(b)); first = false {
		var k int
		_ = w.c.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
		k, err = w.ResponseWriter.Write(b[n:min(len(b), n+piece)])
		n += k
	}
	return n, err
}

// FlushError implements what http.ResponseController asks for.
func (w *promptWriter) FlushError() error {
	_ = w.c.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
	defer func() { _ = w.c.SetWriteDeadline(time.Time{}) }()
	return w.c.Flush()
}

// Flush implements http.Flusher.
func (w *promptWriter) Flush() { _ = w.FlushError() }

// promptBody is a question that has to come.
type promptBody struct {
	io.ReadCloser
	c    *http.ResponseController
	n    int           // of the piece
	took time.Duration // waited for it; what the handler does in between does not count

	mu    sync.Mutex
	ended bool // the handler has returned: who still reads, as a proxy does, has no stream to set
}

func (b *promptBody) Read(p []byte) (int, error) {
	began := time.Now()
	b.deadline(began.Add(wire.WriteTimeout - b.took))
	defer b.deadline(time.Time{})
	n, err := b.ReadCloser.Read(p)
	b.n += n
	b.took += time.Since(began)
	if b.n >= piece {
		b.n, b.took = 0, 0
	}
	return n, err
}

func (b *promptBody) deadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		_ = b.c.SetReadDeadline(t)
	}
}

func (b *promptBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}
