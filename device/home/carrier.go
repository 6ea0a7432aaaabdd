package home

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/entente-im/entente/wire/session"
)

// How long a session by calls lasts before the WebSocket is tried again, and how long
// the try may take then: whoever swallows upgrades holds nothing up for long.
const (
	callsLast    = 10 * time.Minute
	upgradeAgain = 5 * time.Second
)

// errTryUpgrade ends a session by calls that has nothing under way.
var errTryUpgrade = &session.CloseError{Code: session.CodeGoingAway, Reason: "trying the WebSocket again"}

// carrier remembers what became of the last upgrade.
type carrier struct {
	mu   sync.Mutex
	why  error // the session goes by calls since; nil: by WebSocket
	mute bool  // the last WebSocket ended without a single message
}

// errMute is why calls are used when an upgrade succeeds and nothing comes through.
var errMute = errors.New("home: the WebSocket was opened and nothing came over it")

// open gets a conn: a WebSocket, or calls when something between here and the node
// does not let one through. The sign-in before has succeeded, so HTTPS works. Who is
// in the way learns and changes nothing: calls go to the same pinned node.
func (h *Home) open(ctx context.Context) (session.Conn, error) {
	h.carrier.mu.Lock()
	mute, again := h.carrier.mute, h.carrier.why != nil
	h.carrier.mute = false
	h.carrier.mu.Unlock()
	err := errMute
	if !mute {
		limit := dialTimeout
		if again {
			limit = upgradeAgain
		}
		var c session.Conn
		if c, err = h.upgrade(ctx, limit); err == nil {
			return &heard{Conn: c, h: h}, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrPin) {
			return nil, err
		}
	}
	return newCalls(h, err), nil
}

// detour notes why the session goes by calls, nil: that it does not, and tells whoever
// asked to know of a change.
func (h *Home) detour(why error) {
	h.carrier.mu.Lock()
	changed := (h.carrier.why == nil) != (why == nil)
	h.carrier.why = why
	h.carrier.mu.Unlock()
	if changed && h.o.Detour != nil {
		h.o.Detour(why)
	}
}

// heard is a WebSocket that notes whether anything comes over it.
type heard struct {
	session.Conn
	h     *Home
	spoke bool // Read's goroutine only
}

func (c *heard) Read(ctx context.Context) ([]byte, error) {
	b, err := c.Conn.Read(ctx)
	switch {
	case c.spoke, err != nil && errors.Is(ctx.Err(), context.Canceled): // the device leaves
	case err != nil:
		c.h.carrier.mu.Lock()
		c.h.carrier.mute = true
		c.h.carrier.mu.Unlock()
	default:
		c.h.detour(nil)
	}
	c.spoke = true
	return b, err
}
