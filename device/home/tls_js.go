//go:build js

package home

import (
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/entente-im/entente/wire/session"
)

const dialTimeout = 20 * time.Second

// transport is the browser's: its certificate check is all there is before the
// sign-in shows the pin.
func transport(Options, bool) *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

func dialOptions(*Home) *websocket.DialOptions {
	return &websocket.DialOptions{Subprotocols: []string{session.Subprotocol}}
}
