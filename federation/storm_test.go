package federation

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
)

// storm is a partner gone bad that speaks gossipsub by hand to another.
type storm struct {
	t    *testing.T
	from *node
	to   *node
	s    network.Stream
	sent int
	cut  int // streams that were taken away
}

// send writes one RPC, on a new stream where the last one was taken away.
func (w *storm) send(rpc *pubsubpb.RPC) {
	w.t.Helper()
	b, err := proto.Marshal(rpc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.raw(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
}

func (w *storm) raw(b []byte) {
	if w.s == nil {
		s, err := w.from.fed.host.NewStream(w.t.Context(), w.to.fed.host.ID(), pubsub.GossipSubID_v12)
		if err != nil {
			w.cut++
			return
		}
		go io.Copy(io.Discard, s)
		w.s = s
	}
	_ = w.s.SetWriteDeadline(time.Now().Add(2 * time.Second))
	if _, err := w.s.Write(b); err != nil {
		w.s.Reset()
		w.s = nil
		w.cut++
	}
	w.sent++
}

func ids(n, at int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%032d", at*n+i))
	}
	return out
}

// stormKinds are the storms that are known of gossipsub (docs/threat-model.md).
func stormKinds(a, b *node, old []byte) map[string]func(w *storm, i int) {
	topic := proto.String(GossipTopic)
	control := func(c *pubsubpb.ControlMessage) *pubsubpb.RPC { return &pubsubpb.RPC{Control: c} }
	publish := func(data []byte) *pubsubpb.RPC {
		return &pubsubpb.RPC{Publish: []*pubsubpb.Message{{Data: data, Topic: topic}}}
	}
	return map[string]func(w *storm, i int){
		"GRAFT and PRUNE by turns": func(w *storm, _ int) {
			w.send(control(&pubsubpb.ControlMessage{Graft: []*pubsubpb.ControlGraft{{TopicID: topic}}, Prune: []*pubsubpb.ControlPrune{{TopicID: topic}}}))
		},
		"GRAFT of topics that there are not": func(w *storm, i int) {
			c := &pubsubpb.ControlMessage{}
			for _, id := range ids(50, i) {
				c.Graft = append(c.Graft, &pubsubpb.ControlGraft{TopicID: &id})
			}
			w.send(control(c))
		},
		"PRUNE with peers, and a back-off that overflows": func(w *storm, _ int) {
			p := &pubsubpb.ControlPrune{TopicID: topic, Backoff: proto.Uint64(math.MaxUint64)}
			for range 30 {
				p.Peers = append(p.Peers, &pubsubpb.PeerInfo{PeerID: []byte("nobody"), SignedPeerRecord: make([]byte, 100)})
			}
			w.send(control(&pubsubpb.ControlMessage{Prune: []*pubsubpb.ControlPrune{p}}))
		},
		"IHAVE of what there is not": func(w *storm, i int) {
			w.send(control(&pubsubpb.ControlMessage{Ihave: []*pubsubpb.ControlIHave{{TopicID: topic, MessageIDs: ids(100, i)}}}))
		},
		"IWANT again and again": func(w *storm, _ int) {
			w.send(control(&pubsubpb.ControlMessage{Iwant: []*pubsubpb.ControlIWant{{MessageIDs: slices.Repeat([]string{gossipID(old)}, 100)}}}))
		},
		"IDONTWANT without end": func(w *storm, i int) {
			w.send(control(&pubsubpb.ControlMessage{Idontwant: []*pubsubpb.ControlIDontWant{{MessageIDs: ids(100, i)}}}))
		},
		"subscriptions to anything": func(w *storm, i int) {
			rpc := &pubsubpb.RPC{}
			for _, id := range ids(50, i) {
				rpc.Subscriptions = append(rpc.Subscriptions, &pubsubpb.RPC_SubOpts{Subscribe: proto.Bool(true), Topicid: &id})
			}
			w.send(rpc)
		},
		"an RPC of a GiB": func(w *storm, _ int) { w.raw(binary.AppendUvarint(nil, 1<<30)) },
		"garbage":         func(w *storm, _ int) { w.raw([]byte{4, 0xff, 0xff, 0xff, 0xff}) },
		"heads that nobody has signed": func(w *storm, i int) {
			head := fmt.Appendf(nil, "entente.im/log/v1/x\n%d\n", i)
			data, err := sealGossip(b.org.ID, gossipHead, head)
			if err == nil {
				w.send(publish(data))
			}
		},
		"an old head again and again":  func(w *storm, _ int) { w.send(publish(old)) },
		"messages that are no message": func(w *storm, i int) { w.send(publish(fmt.Appendf(nil, "%d", i))) },
	}
}

func TestStormsOfAPartnerAreEnduredAndHonestHeadsPass(t *testing.T) {
	for name := range stormKinds(nil, nil, nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, c := line(t)
			hears := func(size uint64) time.Duration {
				t.Helper()
				began := time.Now()
				a.told(a.head(size, 1), func() bool { return slices.Contains(c.ears.sizes(a), size) })
				c.told(c.head(size, 1), func() bool { return slices.Contains(a.ears.sizes(c), size) })
				return time.Since(began)
			}
			quiet := hears(4)
			old, err := sealGossip(a.org.ID, gossipHead, []byte(a.head(4, 1).Note))
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			w := &storm{t: t, from: b, to: a}
			blow := stormKinds(a, b, old)[name]
			for i := range 400 {
				blow(w, i)
			}
			windy := hears(6)
			for i := range 100 {
				blow(w, i)
			}
			// Mail of the others goes on.
			n := a.sends(c, 1, "meanwhile")
			a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
			runtime.GC()
			runtime.ReadMemStats(&after)
			grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			t.Logf("%d RPCs, %d streams taken away; honest heads in %s, quiet in %s; memory %+d KiB", w.sent, w.cut, windy, quiet, grown>>10)
			if windy > 10*time.Second+10*quiet {
				t.Errorf("honest heads take %s, in quiet %s", windy, quiet)
			}
			if grown > 64<<20 { // another storm blows at the same time
				t.Errorf("the storm has left %d MiB", grown>>20)
			}
		})
	}
}

// A liar who floods its partners with heads of its own is not heard any better for it, and
// does not keep from them what others have been shown of it.
func TestALiarsFloodDoesNotMuteWhatOthersSayOfIt(t *testing.T) {
	for _, x := range []struct {
		name   string
		at     func(b, c *node) *node
		copies bool // what the other tells is sent in the flood as well, where it is over the limit
	}{
		{"at who is to hear", func(_, c *node) *node { return c }, false},
		{"at who is to hear, with copies of what the other tells", func(_, c *node) *node { return c }, true},
		{"at who tells", func(b, _ *node) *node { return b }, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			a, b, c := line(t)
			a.linked(c)
			at := x.at(b, c)
			proof, err := identity.ProveFork(a.org, a.head(4, 1), a.head(4, 2), nil)
			if err != nil {
				t.Fatal(err)
			}
			copied, err := sealGossip(a.org.ID, gossipHead, []byte(a.head(7, 7).Note))
			if err != nil {
				t.Fatal(err)
			}
			w := &storm{t: t, from: a, to: at}
			publish := func(data []byte) {
				w.send(&pubsubpb.RPC{Publish: []*pubsubpb.Message{{Data: data, Topic: proto.String(GossipTopic)}}})
			}
			flood := func(i uint64) {
				data, err := sealGossip(a.org.ID, gossipHead, []byte(a.head(1_000+i, 1).Note))
				if err != nil {
					t.Fatal(err)
				}
				publish(data)
				if x.copies && i > 2*aboutBurst {
					publish(copied)
				}
			}
			tick := time.NewTicker(60 * time.Millisecond) // under what a peer may send
			defer tick.Stop()
			begun, heard, proved := time.Now(), time.Duration(0), time.Duration(0)
			for i := uint64(0); time.Since(begun) < patience && (heard == 0 || proved == 0 || i < 350); i++ {
				<-tick.C
				flood(i)
				if i == 83 { // after 5 s
					if err := b.fed.TellHead(a.head(7, 7)); err != nil {
						t.Fatal(err)
					}
					if err := b.fed.TellFork(a.org.ID, proof); err != nil {
						t.Fatal(err)
					}
				}
				if heard == 0 && slices.Contains(c.ears.sizes(a), 7) {
					heard = time.Since(begun)
				}
				if proved == 0 && c.ears.proofs() > 0 {
					proved = time.Since(begun)
				}
			}
			n := len(at.ears.sizes(a))
			t.Logf("the other head after %s, the proof after %s; %d heads of the flood were heard of %d; scored %.0f and %.0f",
				heard, proved, n, w.sent, at.fed.gossip.score(a.fed.host.ID()), c.fed.gossip.score(b.fed.host.ID()))
			if heard == 0 || proved == 0 {
				t.Error("the liar has muted what others say of it")
			}
			if n > 2*aboutBurst+10 {
				t.Errorf("%d heads of the flood were heard", n)
			}
			if at.fed.gossip.score(a.fed.host.ID()) > -900 {
				t.Error("who floods is still listened to")
			}
			if c.fed.gossip.score(b.fed.host.ID()) < 0 {
				t.Error("who passes on is scored down for the flood")
			}
		})
	}
}
