package sim

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/wire"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	netcore "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
)

// fabric is where the nodes' hosts find each other.
type fabric struct {
	net   *network
	mu    sync.Mutex
	hosts map[peer.ID]*simHost
	faces map[peer.ID]*simHost // second nodes of organizations with two faces
	sees  map[string]bool      // the places that meet those, and not the first ones
}

// sentBy is how many bytes a place's node has written into streams.
func (f *fabric) sentBy(s *site) (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.hosts {
		if h.place == s.name {
			n += h.sent.Load()
		}
	}
	return n
}

// at returns the host that a place meets under an ID; f.mu is held.
func (f *fabric) at(place string, id peer.ID) *simHost {
	if h := f.faces[id]; h != nil && f.sees[place] {
		return h
	}
	return f.hosts[id]
}

// meets reports whether two hosts are shown to each other.
func (f *fabric) meets(a, b *simHost) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at(a.place, b.id) == b && f.at(b.place, a.id) == a
}

// newFace is newHost of an organization's second node.
func (f *fabric) newFace(place string, alter func(protocol.ID, []byte) [][]byte) federation.NewHost {
	return func(key ed25519.PrivateKey, gate federation.Gate) (host.Host, error) {
		h, err := f.makeHost(key, gate, place, alter)
		if err == nil {
			f.mu.Lock()
			f.faces[h.id] = h
			f.mu.Unlock()
		}
		return h, err
	}
}

// makeHost makes a host that nobody meets yet.
func (f *fabric) makeHost(key ed25519.PrivateKey, gate federation.Gate, place string, alter func(protocol.ID, []byte) [][]byte) (*simHost, error) {
	id, err := federation.PeerOf(wire.DeviceID(key.Public().(ed25519.PublicKey)))
	if err != nil {
		return nil, err
	}
	return &simHost{f: f, place: place, id: id, gate: gate, alter: alter,
		handlers: make(map[protocol.ID]netcore.StreamHandler), conns: make(map[*conn]bool)}, nil
}

// simHost stands in for a node's libp2p host: connections with proven peers, and
// streams over them. What federation.NewHost does not name is not there and panics.
type simHost struct {
	host.Host // nil
	f         *fabric
	sent      atomic.Int64 // bytes written into streams
	place     string
	id        peer.ID
	gate      federation.Gate
	// alter rewrites what a hostile node writes to a stream; nil: nothing is.
	alter func(protocol.ID, []byte) [][]byte

	mu       sync.Mutex
	handlers map[protocol.ID]netcore.StreamHandler
	conns    map[*conn]bool
	closed   bool
	serving  sync.WaitGroup
}

// newHost is a federation.NewHost of a place.
func (f *fabric) newHost(place string, alter func(protocol.ID, []byte) [][]byte) federation.NewHost {
	return func(key ed25519.PrivateKey, gate federation.Gate) (host.Host, error) {
		h, err := f.makeHost(key, gate, place, alter)
		if err == nil {
			f.mu.Lock()
			f.hosts[h.id] = h
			f.mu.Unlock()
		}
		return h, err
	}
}

func (h *simHost) ID() peer.ID { return h.id }

func (h *simHost) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }

func (h *simHost) Addrs() []multiaddr.Multiaddr {
	return []multiaddr.Multiaddr{multiaddr.StringCast("/dns4/" + h.place + "/tcp/4801")}
}

func (h *simHost) Network() netcore.Network { return simSwarm{h: h} }

func (h *simHost) SetStreamHandler(p protocol.ID, handle netcore.StreamHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[p] = handle
}

// to returns an open connection to a peer.
func (h *simHost) to(id peer.ID) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		if c.remote.id == id {
			return c
		}
	}
	return nil
}

// Connect makes sure that there is a connection; both gates have their say.
func (h *simHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if h.to(info.ID) != nil {
		return nil
	}
	if !h.gate.InterceptPeerDial(info.ID) {
		return errors.New("sim: gated")
	}
	h.f.mu.Lock()
	other := h.f.at(h.place, info.ID)
	h.f.mu.Unlock()
	if other == nil || !h.f.meets(h, other) {
		return errors.New("sim: connection refused")
	}
	l := h.f.net.between(h.place, other.place)
	if err := l.reaches(ctx); err != nil {
		return err
	}
	if !other.gate.InterceptSecured(netcore.DirInbound, h.id, nil) || !h.gate.InterceptSecured(netcore.DirOutbound, info.ID, nil) {
		return errors.New("sim: gated")
	}
	ours := &conn{h: h, remote: other, link: l, direction: netcore.DirOutbound, streams: make(map[*stream]bool)}
	theirs := &conn{h: other, remote: h, link: l, direction: netcore.DirInbound, streams: make(map[*stream]bool)}
	ours.other, theirs.other = theirs, ours
	if !h.keep(ours) || !other.keep(theirs) {
		_ = ours.Close()
		return errors.New("sim: connection refused")
	}
	l.mu.Lock()
	l.conns[ours] = true
	l.mu.Unlock()
	other.gate.Connected(nil, theirs)
	h.gate.Connected(nil, ours)
	return nil
}

func (h *simHost) keep(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.conns[c] = true
	}
	return !h.closed
}

// NewStream opens a stream over the connection that there is.
func (h *simHost) NewStream(ctx context.Context, id peer.ID, protocols ...protocol.ID) (netcore.Stream, error) {
	c := h.to(id)
	if c == nil {
		return nil, errors.New("sim: not connected")
	}
	if err := c.link.reaches(ctx); err != nil {
		return nil, err
	}
	a, b := c.link.connect(h.place, c.remote.place)
	ours := &stream{end: a, conn: c, proto: protocols[0]}
	theirs := &stream{end: b, conn: c.other, proto: protocols[0]}
	if !c.other.serve(theirs) {
		a.sever()
		b.sever()
		return nil, errors.New("sim: the connection is closed")
	}
	if !c.add(ours) {
		a.sever()
		b.sever()
		return nil, errors.New("sim: the connection is closed")
	}
	return ours, nil
}

// Close ends every connection and waits for the handlers.
func (h *simHost) Close() error {
	h.f.mu.Lock()
	if h.f.hosts[h.id] == h {
		delete(h.f.hosts, h.id)
	}
	if h.f.faces[h.id] == h {
		delete(h.f.faces, h.id)
	}
	h.f.mu.Unlock()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	for _, c := range h.open() {
		_ = c.Close()
	}
	h.serving.Wait()
	return nil
}

// isolate ends what a place's host has and can make: it was killed.
func (f *fabric) isolate(place string) {
	f.mu.Lock()
	var hosts []*simHost
	for id, h := range f.hosts {
		if h.place == place {
			hosts = append(hosts, h)
			delete(f.hosts, id)
		}
	}
	f.mu.Unlock()
	for _, h := range hosts {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		for _, c := range h.open() {
			_ = c.Close()
		}
	}
}

func (h *simHost) open() (list []*conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		list = append(list, c)
	}
	return list
}

// simSwarm is the part of host.Host.Network that federation uses.
type simSwarm struct {
	netcore.Network // nil
	h               *simHost
}

// Notify: the gate is told by the host itself.
func (simSwarm) Notify(netcore.Notifiee) {}

// Peers and Connectedness are what gossipsub asks.
func (s simSwarm) Peers() (out []peer.ID) {
	for _, c := range s.h.open() {
		out = append(out, c.remote.id)
	}
	return out
}

func (s simSwarm) Connectedness(id peer.ID) netcore.Connectedness {
	if s.h.to(id) == nil {
		return netcore.NotConnected
	}
	return netcore.Connected
}

func (s simSwarm) ConnsToPeer(peer.ID) []netcore.Conn { return nil }

// ClosePeer ends the connections of a peer.
func (s simSwarm) ClosePeer(id peer.ID) error {
	for c := s.h.to(id); c != nil; c = s.h.to(id) {
		_ = c.Close()
	}
	return nil
}

// conn is one side of a connection between two hosts.
type conn struct {
	netcore.Conn // nil
	h, remote    *simHost
	other        *conn
	link         *link
	direction    netcore.Direction

	mu      sync.Mutex
	closed  bool
	streams map[*stream]bool
}

func (c *conn) RemotePeer() peer.ID { return c.remote.id }
func (c *conn) LocalPeer() peer.ID  { return c.h.id }
func (c *conn) Stat() netcore.ConnStats {
	return netcore.ConnStats{Stats: netcore.Stats{Direction: c.direction}}
}

// Close ends both sides and all streams.
func (c *conn) Close() error {
	c.shut()
	c.other.shut()
	return nil
}

func (c *conn) shut() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	var open []*stream
	for s := range c.streams {
		open = append(open, s)
	}
	c.mu.Unlock()
	for _, s := range open {
		s.sever()
	}
	c.h.mu.Lock()
	delete(c.h.conns, c)
	c.h.mu.Unlock()
	c.link.mu.Lock()
	delete(c.link.conns, c)
	c.link.mu.Unlock()
	c.h.gate.Disconnected(nil, c)
}

func (c *conn) add(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.streams[s] = true
	}
	return !c.closed
}

// serve hands an arriving stream to its protocol's handler.
func (c *conn) serve(s *stream) bool {
	c.h.mu.Lock()
	handle := c.h.handlers[s.proto]
	if c.h.closed || handle == nil || !c.add(s) {
		c.h.mu.Unlock()
		return false
	}
	c.h.serving.Add(1)
	c.h.mu.Unlock()
	go func() {
		defer c.h.serving.Done()
		handle(s)
	}()
	return true
}

// stream is one side of a stream: plain bytes, as they are within the encryption that
// libp2p would add, so that the search for plaintext sees what a node sees.
type stream struct {
	netcore.Stream // nil
	*end
	conn  *conn
	proto protocol.ID
}

func (s *stream) Read(b []byte) (int, error) { return s.end.Read(b) }

func (s *stream) Write(b []byte) (int, error) {
	s.conn.h.sent.Add(int64(len(b)))
	if s.conn.h.alter == nil {
		return s.end.Write(b)
	}
	for _, part := range s.conn.h.alter(s.proto, b) {
		if _, err := s.end.Write(part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (s *stream) Close() error                       { s.forget(); return s.end.Close() }
func (s *stream) CloseWrite() error                  { return s.end.CloseWrite() }
func (s *stream) CloseRead() error                   { s.end.in.end(true); return nil }
func (s *stream) Reset() error                       { s.forget(); s.sever(); return nil }
func (s *stream) SetDeadline(t time.Time) error      { return s.end.SetDeadline(t) }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.end.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.end.SetWriteDeadline(t) }
func (s *stream) Conn() netcore.Conn                 { return s.conn }
func (s *stream) Protocol() protocol.ID              { return s.proto }
func (s *stream) Scope() netcore.StreamScope         { return &netcore.NullScope{} }

func (s *stream) forget() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	delete(s.conn.streams, s)
}
