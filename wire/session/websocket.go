package session

import (
	"context"
	"errors"
	"time"

	"github.com/coder/websocket"
)

// Subprotocol and Path of the WebSocket (docs/protocol.md 6.2).
const (
	Subprotocol = "sess.v1"
	Path        = "/v1/session"
)

// PinnedALPN is offered, beside h2 or http/1.1, by a device that pins the node's peer
// ID: it is shown the certificate that carries it, whatever others are shown
// (docs/protocol.md 7). It is never chosen.
const PinnedALPN = "entente-pinned/1"

// closeWait is how long Close leaves the peer to answer: without it, a reset
// could overtake the Close frame.
const closeWait = time.Second

type webSocket struct{ c *websocket.Conn }

// WebSocket makes a Conn of an open WebSocket; limit bounds what Read returns.
func WebSocket(c *websocket.Conn, limit int64) Conn {
	c.SetReadLimit(limit)
	return webSocket{c}
}

func (w webSocket) Read(ctx context.Context) ([]byte, error) {
	typ, b, err := w.c.Read(ctx)
	if err != nil {
		if errors.Is(err, websocket.ErrMessageTooBig) {
			return nil, malformed("a message over the limit")
		}
		return nil, err
	}
	if typ != websocket.MessageBinary {
		return nil, malformed("a text message")
	}
	return b, nil
}

func (w webSocket) Write(ctx context.Context, b []byte) error {
	return w.c.Write(ctx, websocket.MessageBinary, b)
}

func (w webSocket) Close(code int, reason string) {
	t := time.AfterFunc(closeWait, func() { _ = w.c.CloseNow() })
	defer t.Stop()
	_ = w.c.Close(websocket.StatusCode(code), reason)
}
