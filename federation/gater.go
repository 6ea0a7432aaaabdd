package federation

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// The lobby: what peers without an agreement may take, all of them together.
const (
	LobbyConnections = 16
	LobbyStay        = 30 * time.Second // then the connection is closed
	LobbyWaiting     = 4                // streams of one connection that wait for the one that is served
)

// gater admits the peers of partners, and as many others as the lobby holds. It is
// libp2p's connection gater and listens to connections coming and going, because a
// gater never closes a connection that is there already.
type gater struct {
	mu      sync.Mutex
	known   map[peer.ID]int // peers of partners
	dialled map[peer.ID]int // peers of tokens that are being accepted
	lobby   map[network.Conn]*guest
	refused func(reason string)
}

// guest is a connection in the lobby. One of its streams is served at a time.
type guest struct {
	leave   *time.Timer
	streams int           // waiting or served
	place   chan struct{} // holds one while a stream is served
}

func newGater(refused func(reason string)) *gater {
	return &gater{
		known: map[peer.ID]int{}, dialled: map[peer.ID]int{},
		lobby: map[network.Conn]*guest{}, refused: refused,
	}
}

// admit lets a partner's peer in. Its connections leave the lobby.
func (g *gater) admit(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known[p]++
	for c, in := range g.lobby {
		if c.RemotePeer() == p {
			in.leave.Stop()
			delete(g.lobby, c)
		}
	}
}

// expel is the inverse of admit; the caller closes the peer's connections.
func (g *gater) expel(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known[p]--; g.known[p] <= 0 {
		delete(g.known, p)
	}
}

// allowDial lets a token's peer be dialled until the function returned is called.
func (g *gater) allowDial(p peer.ID) func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dialled[p]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.dialled[p]--; g.dialled[p] <= 0 {
			delete(g.dialled, p)
		}
	}
}

// enter waits for a guest's one place; ok is false when too many of its streams wait
// already, or ctx has ended. Connections of partners have no such limit here.
func (g *gater) enter(ctx context.Context, c network.Conn) (leave func(), ok bool) {
	g.mu.Lock()
	in := g.lobby[c]
	if in == nil || in.streams > LobbyWaiting {
		g.mu.Unlock()
		return func() {}, in == nil
	}
	in.streams++
	g.mu.Unlock()
	gone := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		in.streams--
	}
	select {
	case in.place <- struct{}{}:
		return func() { <-in.place; gone() }, true
	case <-ctx.Done():
		gone()
		return nil, false
	}
}

// InterceptPeerDial lets us dial partners and the peers of tokens only.
func (g *gater) InterceptPeerDial(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[p] > 0 || g.dialled[p] > 0
}

// InterceptAddrDial has nothing to add to InterceptPeerDial.
func (g *gater) InterceptAddrDial(peer.ID, multiaddr.Multiaddr) bool { return true }

// InterceptAccept leaves addresses to the resource manager: who it is shows later.
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured refuses keys that are not Ed25519, and strangers when the lobby
// is full.
func (g *gater) InterceptSecured(dir network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	if _, err := keyOf(p); err != nil {
		g.refused("key")
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known[p] > 0 || dir == network.DirOutbound || len(g.lobby) < LobbyConnections {
		return true
	}
	g.refused("lobby")
	return false
}

// InterceptUpgraded has nothing to add: Connected counts.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// Connected gives a stranger's connection its place in the lobby, or closes it:
// several may have passed InterceptSecured for the last place.
func (g *gater) Connected(_ network.Network, c network.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known[c.RemotePeer()] > 0 || c.Stat().Direction == network.DirOutbound {
		return
	}
	if len(g.lobby) >= LobbyConnections {
		g.refused("lobby")
		go c.Close() // not here: closing tells Disconnected, which takes the lock
		return
	}
	g.lobby[c] = &guest{leave: time.AfterFunc(LobbyStay, func() { c.Close() }), place: make(chan struct{}, 1)}
}

// Disconnected frees the place.
func (g *gater) Disconnected(_ network.Network, c network.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if in := g.lobby[c]; in != nil {
		in.leave.Stop()
		delete(g.lobby, c)
	}
}

// Listen implements network.Notifiee.
func (g *gater) Listen(network.Network, multiaddr.Multiaddr) {}

// ListenClose implements network.Notifiee.
func (g *gater) ListenClose(network.Network, multiaddr.Multiaddr) {}
