package federation

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	identifypb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	"github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

// identifyKinds are what a peer can say of itself without end (CVE-2023-40583,
// CVE-2026-57497; docs/threat-model.md): ten messages of 8 KiB at once.
var identifyKinds = map[string]func(t testing.TB, h host.Host, round int) []*identifypb.Identify{
	"protocols without end": func(_ testing.TB, _ host.Host, round int) (out []*identifypb.Identify) {
		for part := range 10 {
			m := &identifypb.Identify{}
			for i := range 700 {
				m.Protocols = append(m.Protocols, fmt.Sprintf("/%x/%x/%x", round, part, i))
			}
			out = append(out, m)
		}
		return out
	},
	"protocols of 8 KiB": func(_ testing.TB, _ host.Host, round int) (out []*identifypb.Identify) {
		for part := range 10 {
			out = append(out, &identifypb.Identify{Protocols: []string{fmt.Sprint("/", round, part, strings.Repeat("x", 8_000))}})
		}
		return out
	},
	"addresses without end": func(_ testing.TB, _ host.Host, round int) (out []*identifypb.Identify) {
		for part := range 10 {
			m := &identifypb.Identify{}
			for i := range 600 {
				m.ListenAddrs = append(m.ListenAddrs, address(round, part, i).Bytes())
			}
			out = append(out, m)
		}
		return out
	},
	"signed records of many addresses": func(t testing.TB, h host.Host, round int) []*identifypb.Identify {
		rec := &peer.PeerRecord{PeerID: h.ID(), Seq: uint64(time.Now().UnixNano())}
		for i := range 450 {
			rec.Addrs = append(rec.Addrs, address(round, 0, i))
		}
		signed, err := record.Seal(rec, h.Peerstore().PrivKey(h.ID()))
		if err != nil {
			t.Error(err)
			return nil
		}
		b, err := signed.Marshal()
		if err != nil {
			t.Error(err)
		}
		return []*identifypb.Identify{{SignedPeerRecord: b}}
	},
	"names of 8 KiB, observed addresses, keys that are none": func(_ testing.TB, _ host.Host, round int) []*identifypb.Identify {
		return []*identifypb.Identify{
			{AgentVersion: proto.String(fmt.Sprint(round, strings.Repeat("a", 8_000)))},
			{ProtocolVersion: proto.String(fmt.Sprint(round, strings.Repeat("p", 8_000)))},
			{ObservedAddr: address(round, 1, 1).Bytes(), PublicKey: make([]byte, 7_000)},
		}
	},
}

func address(round, part, i int) multiaddr.Multiaddr {
	return multiaddr.StringCast(fmt.Sprintf("/ip4/10.%d.%d.%d/tcp/%d", round%256, part, i%256, 1_000+i))
}

// speaks writes what a kind has a peer say of itself.
func speaks(t testing.TB, kind string, h host.Host, round int, to io.Writer) {
	for _, m := range identifyKinds[kind](t, h, round) {
		b, err := proto.Marshal(m)
		if err != nil || len(b) > 8<<10 {
			t.Errorf("%s: a message of %d bytes: %v", kind, len(b), err)
		}
		if _, err := to.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)); err != nil {
			return
		}
	}
}

// answersIdentify has a host answer with what a kind says.
func answersIdentify(t testing.TB, kind string, h host.Host) {
	round := 0
	var mu sync.Mutex
	h.SetStreamHandler(identify.ID, func(s network.Stream) {
		mu.Lock()
		round++
		now := round
		mu.Unlock()
		speaks(t, kind, h, now, s)
		_ = s.Close()
	})
}

// pushes has a host say it of its own accord, many times.
func pushes(t testing.TB, kind string, h host.Host, to *node, times int) {
	const atOnce = 16
	var wg sync.WaitGroup
	for worker := range atOnce {
		wg.Go(func() {
			for i := range times / atOnce {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				s, err := h.NewStream(ctx, to.fed.host.ID(), identify.IDPush)
				cancel()
				if err != nil {
					continue // refused is as well
				}
				_ = s.SetDeadline(time.Now().Add(patience))
				speaks(t, kind, h, worker*times+i, s)
				_ = s.CloseWrite()
				_, _ = io.Copy(io.Discard, s)
				_ = s.Close()
			}
		})
	}
	wg.Wait()
}

// remembers checks what a node keeps of a peer's word.
func (n *node) remembers(t *testing.T, p peer.ID) {
	t.Helper()
	store := n.fed.host.Peerstore()
	if list, err := store.GetProtocols(p); err != nil || len(list) > 128 {
		t.Errorf("%d protocols of a peer are kept: %v", len(list), err)
	}
	if list := store.Addrs(p); len(list) > 500 {
		t.Errorf("%d addresses of a peer are kept", len(list))
	}
	if book, ok := peerstore.GetCertifiedAddrBook(store); ok && book.GetPeerRecord(p) != nil {
		t.Error("a peer's signed record is kept")
	}
}

func TestWhatPeersSayOfThemselvesWithoutEndIsBounded(t *testing.T) {
	for kind := range identifyKinds {
		t.Run(kind, func(t *testing.T) {
			a, c := pair(t)
			x := underAttack(a, c)
			took := make(chan time.Duration, 1)
			go func() { took <- x.goes(t) }()
			// Strangers come, say it, and make room for others.
			for range 4 {
				h := stranger(t, crypto.Ed25519)
				answersIdentify(t, kind, h)
				if err := dial(t, h, a); err != nil {
					t.Fatal(err)
				}
				pushes(t, kind, h, a, 16)
				a.remembers(t, h.ID())
				_ = h.Close()
			}
			// A partner gone bad.
			b := newNode(t, "initech.example")
			befriend(t, a, b)
			b.linked(a)
			answersIdentify(t, kind, b.fed.host)
			pushes(t, kind, b.fed.host, a, 64)
			a.remembers(t, b.fed.host.ID())
			for range 5 {
				_ = b.fed.host.Network().ClosePeer(a.fed.host.ID())
				if err := dial(t, b.fed.host, a); err != nil {
					t.Fatal(err)
				}
			}
			a.remembers(t, b.fed.host.ID())
			b.halt()
			x.endured(t, max(<-took, x.goes(t)))
		})
	}
}
