package federation

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// muxHand is a muxer that leaves the connection to the test, which speaks yamux by hand.
type muxHand struct{ conns chan *handConn }

func (m muxHand) NewConn(c net.Conn, _ bool, _ network.PeerScope) (network.MuxedConn, error) {
	h := &handConn{Conn: c, over: make(chan struct{})}
	m.conns <- h
	return h, nil
}

// handConn is a connection without streams of its own.
type handConn struct {
	net.Conn
	once sync.Once
	over chan struct{}
}

var errByHand = errors.New("spoken by hand")

func (c *handConn) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.Conn.Close()
}
func (c *handConn) CloseWithError(network.ConnErrorCode) error { return c.Close() }
func (c *handConn) OpenStream(context.Context) (network.MuxedStream, error) {
	return nil, errByHand
}
func (c *handConn) AcceptStream() (network.MuxedStream, error) { <-c.over; return nil, errByHand }
func (c *handConn) As(any) bool                                { return false }
func (c *handConn) IsClosed() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// frame is a header of yamux (its specification, "Framing").
func (c *handConn) frame(kind byte, flags uint16, stream, length uint32, data ...byte) error {
	b := binary.BigEndian.AppendUint16([]byte{0, kind}, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	b = binary.BigEndian.AppendUint32(b, length)
	_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	_, err := c.Write(append(b, data...))
	return err
}

const (
	muxData, muxWindow, muxPing, muxGoAway = 0, 1, 2, 3
	muxSYN, muxACK, muxFIN, muxRST         = 1, 2, 4, 8
)

// muxStorms are storms of frames: what the i-th one sends.
var muxStorms = map[string]struct {
	times  int
	unread bool
	blow   func(c *handConn, i int) error
}{
	"streams opened and reset at once": {times: 20_000, blow: func(c *handConn, i int) error {
		id := uint32(2*i + 1)
		return errors.Join(c.frame(muxWindow, muxSYN, id, 0), c.frame(muxWindow, muxRST, id, 0))
	}},
	"streams opened, a protocol begun, and reset": {times: 5_000, blow: func(c *handConn, i int) error {
		id := uint32(2*i + 1)
		begun := []byte("\x13/multistream/1.0.0\n")
		return errors.Join(c.frame(muxWindow, muxSYN, id, 0), c.frame(muxData, 0, id, uint32(len(begun)), begun...), c.frame(muxWindow, muxRST, id, 0))
	}},
	"streams opened and left": {times: 5_000, blow: func(c *handConn, i int) error { return c.frame(muxWindow, muxSYN, uint32(2*i+1), 0) }},
	"data beyond the window": {times: 200, blow: func(c *handConn, i int) error {
		if i == 0 {
			return c.frame(muxWindow, muxSYN, 1, 0)
		}
		return c.frame(muxData, 0, 1, 256<<10, make([]byte, 256<<10)...)
	}},
	"data that is said to be 4 GiB": {times: 100, blow: func(c *handConn, i int) error {
		return errors.Join(c.frame(muxWindow, muxSYN, uint32(2*i+1), 0), c.frame(muxData, 0, uint32(2*i+1), 1<<32-1, make([]byte, 64<<10)...))
	}},
	"windows of 4 GiB": {times: 5_000, blow: func(c *handConn, i int) error {
		if i < 32 {
			return c.frame(muxWindow, muxSYN, uint32(2*i+1), 1<<32-1)
		}
		return c.frame(muxWindow, 0, uint32(2*(i%32)+1), 1<<32-1)
	}},
	"pings, answers unread":     {times: 50_000, unread: true, blow: func(c *handConn, i int) error { return c.frame(muxPing, muxSYN, 0, uint32(i)) }},
	"frames that there are not": {times: 100, blow: func(c *handConn, i int) error { return c.frame(9, 0xffff, uint32(i), 1<<32-1) }},
}

// byHand makes a host with somebody's key whose connections are spoken by hand.
func byHand(t testing.TB, key crypto.PrivKey) (host.Host, muxHand) {
	t.Helper()
	mux := muxHand{make(chan *handConn, 8)}
	return bareHost(t, key, libp2p.Muxer(yamux.ID, mux)), mux
}

func bareHost(t testing.TB, key crypto.PrivKey, more libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.NoTransports, libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}), more)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// hostileKeys are those of a stranger, and of a partner that has gone bad.
func hostileKeys(t testing.TB, a *node) map[string]crypto.PrivKey {
	t.Helper()
	b := newNode(t, "initech.example")
	befriend(t, a, b)
	b.linked(a)
	partner := b.fed.host.Peerstore().PrivKey(b.fed.host.ID())
	b.halt()
	other, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.PrivKey{"a partner": partner, "a stranger": other}
}

func TestStormsOfStreamsAndWindowsAreEnduredAndHonestPartnersGoOn(t *testing.T) {
	for name, storm := range muxStorms {
		t.Run(name, func(t *testing.T) {
			a, c := pair(t)
			keys := hostileKeys(t, a)
			x := underAttack(a, c)
			took := time.Duration(0)
			for who, key := range keys {
				h, mux := byHand(t, key)
				ended, most, sent := 0, 0, 0
				meanwhile := make(chan time.Duration, 1)
				for i, again := 0, 0; i < storm.times && again < 10; again++ { // connections that acme ends are made anew
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					err := h.Connect(ctx, peer.AddrInfo{ID: a.fed.host.ID(), Addrs: a.fed.host.Addrs()})
					cancel()
					var conn *handConn
					select {
					case conn = <-mux.conns:
					default:
					}
					if conn == nil {
						t.Logf("%s is not let in again: %v", who, err)
						break
					}
					if !storm.unread {
						go func() { _, _ = io.Copy(io.Discard, conn) }()
					}
					for err = nil; i < storm.times && err == nil; i++ {
						err = storm.blow(conn, i)
						sent++
						if i%64 == 0 {
							x.looks()
							most = max(most, x.streams(h.ID()))
						}
						if sent == 30 {
							go func() { meanwhile <- x.goes(t) }()
						}
					}
					if err != nil {
						ended++
					}
					_ = h.Network().ClosePeer(a.fed.host.ID())
				}
				select {
				case d := <-meanwhile:
					took = max(took, d)
				case <-time.After(patience):
				}
				_ = h.Close()
				t.Logf("%s: %d times, %d connections ended by acme, at most %d streams at once", who, sent, ended, most)
				if most > MaxPeerStreams {
					t.Errorf("%s held %d streams", who, most)
				}
			}
			x.endured(t, took)
		})
	}
}

// A partner that lets acme write a GiB ahead, asks for much, and reads nothing.
func TestAPartnerWithLargeWindowsThatReadsNothingIsGivenUp(t *testing.T) {
	a, c := pair(t)
	keys := hostileKeys(t, a)
	a.handler.set(func(h *handler) {
		h.query = func(*pb.QueryRequest) *pb.QueryResponse {
			leaves := &pb.LeavesAnswer{Leaves: make([]byte, 512<<10)}
			return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, ""), Answer: &pb.QueryResponse_Leaves{Leaves: leaves}}
		}
	})
	x := underAttack(a, c)
	muxer := *yamux.DefaultTransport
	muxer.Config().InitialStreamWindowSize, muxer.Config().MaxStreamWindowSize = 1<<30, 1<<31
	h := bareHost(t, keys["a partner"], libp2p.Muxer(yamux.ID, &muxer))
	if err := h.Connect(t.Context(), peer.AddrInfo{ID: a.fed.host.ID(), Addrs: a.fed.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for range 2 * MaxPeerStreams {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		s, err := h.NewStream(ctx, a.fed.host.ID(), QueryProtocol)
		cancel()
		if err != nil {
			continue
		}
		f := newFrames(s)
		if f.write(&pb.QueryRequest{Version: wire.ProtocolVersion, Query: &pb.QueryRequest_Leaves{Leaves: &pb.LeavesQuery{To: 8_192}}}, maxQuestion, time.Second) == nil {
			asked++
		}
	}
	if n := x.streams(h.ID()); n > MaxPeerStreams {
		t.Errorf("the partner holds %d streams", n)
	}
	took := x.goes(t)
	t.Logf("%d questions whose answers nobody reads", asked)
	_ = h.Close()
	x.endured(t, took)
}

// The same over QUIC, whose streams libp2p opens and resets.
func TestStreamsOfQUICOpenedAndResetAreEndured(t *testing.T) {
	a, c := prepareNode(t, "acme.example"), newNode(t, "globex.example")
	udp := multiaddr.StringCast(fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", freePort(t)))
	a.listen = append(a.listen, udp)
	a.start()
	befriend(t, a, c)
	a.linked(c)
	c.linked(a)
	keys := hostileKeys(t, a)
	x := underAttack(a, c)
	took := time.Duration(0)
	for who, key := range keys {
		h, err := libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.NoTransports, libp2p.Transport(quic.NewTransport),
			libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.Connect(t.Context(), peer.AddrInfo{ID: a.fed.host.ID(), Addrs: []multiaddr.Multiaddr{udp}}); err != nil {
			t.Fatal(err)
		}
		conn := h.Network().ConnsToPeer(a.fed.host.ID())[0]
		opened, most := 0, 0
		for i := range 3_000 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			s, err := conn.NewStream(ctx)
			cancel()
			if err != nil {
				continue // no more at once
			}
			opened++
			_, _ = s.Write([]byte("\x13/multistream/1.0.0\n"))
			_ = s.Reset()
			if i%64 == 0 {
				x.looks()
				most = max(most, x.streams(h.ID()))
			}
		}
		took = max(took, x.goes(t))
		t.Logf("%s: %d streams, at most %d at once", who, opened, most)
		if opened < 1_000 || most > MaxPeerStreams {
			t.Errorf("%s opened %d streams, and held %d", who, opened, most)
		}
		_ = h.Close()
	}
	x.endured(t, took)
}
