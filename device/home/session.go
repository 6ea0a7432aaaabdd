package home

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// Session returns a client of the session, to be run with its Run. Mark, Handler
// and the callbacks of o are the device's; Dial, Ticket and Timing are filled in.
func (h *Home) Session(o session.ClientOptions) (*session.Client, error) {
	if h.auth == nil {
		return nil, errors.New("home: a session needs the device key")
	}
	if o.Mark == nil || o.Handler == nil {
		return nil, errors.New("home: a session needs Mark and Handler")
	}
	o.Dial, o.Ticket, o.Timing = h.dial, h.freshTicket, h.o.Timing
	return session.NewClient(o), nil
}

func (h *Home) ticket(ctx context.Context) ([]byte, error) {
	r, err := h.Device.OpenSession(ctx, connect.NewRequest(&pb.OpenSessionRequest{Origin: h.o.Origin}))
	if err != nil {
		return nil, session.FromConnect(err)
	}
	return r.Msg.Ticket, nil
}

// freshTicket signs in anew first: a ticket lasts no longer than its sign-in.
func (h *Home) freshTicket(ctx context.Context) ([]byte, error) {
	old, err := h.auth.token(ctx, "")
	if err != nil {
		return nil, err
	}
	if _, err := h.auth.token(ctx, old); err != nil {
		return nil, err
	}
	return h.ticket(ctx)
}

func (h *Home) dial(ctx context.Context) (session.Conn, []byte, error) {
	ticket, err := h.freshTicket(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err := h.open(ctx)
	return c, ticket, err
}

// upgrade opens a WebSocket.
func (h *Home) upgrade(ctx context.Context, limit time.Duration) (session.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(h.o.URL, "https")+session.Path, dialOptions(h))
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("home: the WebSocket was answered with %d", resp.StatusCode)
		}
		return nil, fmt.Errorf("home: opening a WebSocket: %w", err)
	}
	if ws.Subprotocol() != session.Subprotocol {
		_ = ws.CloseNow()
		return nil, errors.New("home: the server does not speak " + session.Subprotocol)
	}
	return session.WebSocket(ws, session.MaxMessage), nil
}
