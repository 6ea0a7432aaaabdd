package federation

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/entente-im/entente/wire"
)

// Resources that libp2p may take for us, whatever the machine has.
const (
	MaxConnections       = 1_024
	MaxStreams           = 8_192
	MaxMemory            = 512 << 20
	MaxPeerConnections   = 8
	MaxPeerStreams       = 64
	MaxPeerMemory        = 96 << 20
	MaxSubnetConnections = 64 // of one IPv4 address or one IPv6 /56
)

// newHost opens the libp2p host: Ed25519 only, QUIC and TCP with noise, the
// addresses that were announced and no others; no relay, no NAT mapping, no
// address learned from strangers.
func newHost(key ed25519.PrivateKey, listen, announce []multiaddr.Multiaddr, gate *gater) (host.Host, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("federation: the node's peer key is not an Ed25519 key")
	}
	priv, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("federation: the node's peer key: %w", err)
	}
	resources, err := newResources()
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(
		libp2p.Identity(priv),
		libp2p.NoListenAddrs, // listenOn does; a node without any dials
		libp2p.NoTransports,
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), // else two nodes get half of one port's connections each
		libp2p.Transport(quic.NewTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionGater(gate),
		libp2p.AddrsFactory(addresses(announce)),
		libp2p.ForceReachabilityPublic(), // nobody is asked how we look from outside
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.Ping(false),
		libp2p.UserAgent("entente"),
	)
	if err != nil {
		resources.Close()
		return nil, fmt.Errorf("federation: making the host: %w", err)
	}
	if err := listenOn(h, listen); err != nil {
		_ = h.Close()
		return nil, err
	}
	return h, nil
}

// listenOn listens on every address, or says on which it cannot: the library goes on when
// one of several is left.
func listenOn(h host.Host, listen []multiaddr.Multiaddr) error {
	for _, a := range listen {
		if err := h.Network().Listen(a); err != nil {
			return fmt.Errorf("federation: listening for partners on %s: %w", a, err)
		}
	}
	return nil
}

// CanListen reports what a start would run into on an address that partners are to dial: an
// address of another machine, or a port that is taken.
func CanListen(a multiaddr.Multiaddr) error {
	proto, at, err := manet.DialArgs(a)
	if err != nil {
		return nil // not ours to look at: a start says
	}
	var l io.Closer
	if strings.HasPrefix(proto, "udp") {
		l, err = net.ListenPacket(proto, at)
	} else {
		l, err = net.Listen(proto, at)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// addresses answers with the announced ones; without any, with those listened on.
func addresses(announce []multiaddr.Multiaddr) func([]multiaddr.Multiaddr) []multiaddr.Multiaddr {
	return func(listening []multiaddr.Multiaddr) []multiaddr.Multiaddr {
		if len(announce) > 0 {
			return announce
		}
		return listening
	}
}

// newResources sets every limit to a number. The library's defaults allow 8
// connections and one new one in 5 s from an address, which a few organizations
// behind one office's NAT exceed; loopback is exempt there, so tests never show it.
func newResources() (network.ResourceManager, error) {
	perV4 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: MaxSubnetConnections}}
	perV6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: MaxSubnetConnections}}
	arrivals := rate.Limit{RPS: 4, Burst: MaxSubnetConnections}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(resourceLimits()),
		rcmgr.WithLimitPerSubnet(perV4, perV6),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("::1/128")},
			},
			GlobalLimit: rate.Limit{RPS: 64, Burst: 256},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: arrivals}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: arrivals}},
			},
		}))
}

func resourceLimits() rcmgr.ConcreteLimitConfig {
	all := limits(MaxStreams, MaxConnections, MaxMemory)
	onePeer := limits(MaxPeerStreams, MaxPeerConnections, MaxPeerMemory)
	partial := rcmgr.PartialLimitConfig{
		System:               all,
		Transient:            limits(512, 128, 64<<20),
		AllowlistedSystem:    all,
		AllowlistedTransient: limits(512, 128, 64<<20),
		ServiceDefault:       all,
		ServicePeerDefault:   onePeer,
		ProtocolDefault:      all,
		ProtocolPeerDefault:  onePeer,
		PeerDefault:          onePeer,
		Conn:                 limits(MaxPeerStreams, 1, MaxPeerMemory),
		Stream:               limits(1, 1, 2*wire.MaxDeliverFrame+1<<20),
	}
	return partial.Build(rcmgr.DefaultLimits.Scale(MaxMemory, 1_024))
}

func limits(streams, conns int, memory int64) rcmgr.ResourceLimits {
	return rcmgr.ResourceLimits{
		Streams: rcmgr.LimitVal(streams), StreamsInbound: rcmgr.LimitVal(streams), StreamsOutbound: rcmgr.LimitVal(streams),
		Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(conns), ConnsOutbound: rcmgr.LimitVal(conns),
		FD: rcmgr.LimitVal(conns), Memory: rcmgr.LimitVal64(memory),
	}
}

// PeerOf returns the libp2p peer of an Ed25519 key.
func PeerOf(id wire.DeviceID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(id[:])
	if err != nil {
		return "", fmt.Errorf("federation: a peer's key: %w", err)
	}
	return peer.IDFromPublicKey(key)
}

// keyOf is the inverse of PeerOf; peers of other key types have no key here.
func keyOf(p peer.ID) (wire.DeviceID, error) {
	return wire.ParseDeviceID(p.String())
}
