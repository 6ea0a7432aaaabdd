package gate

import (
	"bytes"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// What strangers may write into the log: a line a minute and address, of so many
// addresses; all further ones share a line.
const (
	logEvery       = time.Minute
	maxLoggedAddrs = 1024
	maxLoggedText  = 256
	maxLoggedPanic = 8 << 10
	otherAddresses = "others"
)

// errorLog turns the lines of an http.Server into those of the structured log. What
// a stranger can cause, such as a TLS handshake that fails, is counted and said
// once a minute for an address; a handler's panic is always said.
type errorLog struct {
	log   *slog.Logger
	clock func() time.Time

	mu    sync.Mutex
	by    map[string]*heard
	swept time.Time
}

type heard struct {
	said   time.Time
	unsaid int // lines since
}

func newErrorLog(l *slog.Logger, clock func() time.Time) *errorLog {
	return &errorLog{log: l, clock: clock, by: make(map[string]*heard)}
}

// logger is what an http.Server takes.
func (e *errorLog) logger() *log.Logger { return log.New(e, "", 0) }

// Write takes one line of net/http.
func (e *errorLog) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b[:min(len(b), maxLoggedPanic)]))
	if strings.HasPrefix(line, "http: panic serving ") {
		e.log.Error("a handler panicked", "error", line)
		return len(b), nil
	}
	address, text := splitAddress(line)
	if unsaid, ok := e.take(address); ok {
		e.log.Info("a connection failed", "address", address, "error", text[:min(len(text), maxLoggedText)], "unsaid", unsaid)
	}
	return len(b), nil
}

// take reports whether an address may have a line now, and how many it did not get
// since its last.
func (e *errorLog) take(address string) (unsaid int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock()
	h := e.by[address]
	if h == nil && len(e.by) >= maxLoggedAddrs && !e.sweep(now) {
		address = otherAddresses
		h = e.by[address]
	}
	switch {
	case h == nil:
		e.by[address] = &heard{said: now}
		return 0, true
	case now.Sub(h.said) < logEvery:
		h.unsaid++
		return 0, false
	}
	unsaid = h.unsaid
	h.said, h.unsaid = now, 0
	return unsaid, true
}

// sweep forgets addresses whose minute is over and reports whether there is room. It
// looks at all of them once a second at most.
func (e *errorLog) sweep(now time.Time) bool {
	if now.Sub(e.swept) < time.Second {
		return false
	}
	e.swept = now
	for a, h := range e.by {
		if now.Sub(h.said) >= logEvery {
			delete(e.by, a)
		}
	}
	return len(e.by) < maxLoggedAddrs
}

// splitAddress finds whom a line is about: "http: TLS handshake error from
// 192.0.2.1:4711: EOF" and "... from client 192.0.2.1:4711: ..." are net/http's
// forms. An IPv6 address counts with its /64, which is one subscriber.
func splitAddress(line string) (address, text string) {
	what, rest, found := strings.Cut(line, " from ")
	if !found {
		return "", line
	}
	rest = strings.TrimPrefix(rest, "client ")
	peer, why, found := strings.Cut(rest, ": ")
	host, _, err := net.SplitHostPort(peer)
	if !found || err != nil {
		return "", line
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", line
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String(), what + ": " + why
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return "", line
	}
	return p.String(), what + ": " + why
}
