package federation

import (
	"maps"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// What one peer has us hear is bounded, of all organizations and of each, so that nobody
// speaks so much about an organization, itself above all, that others are not heard on it
// (docs/protocol.md 5.12). It is bounded before the network remembers a message: what is
// over the limit is as if it had not come, and heard when another tells it.
//
// Whoever keeps to the rates of saying and passing on stays below those of hearing: an
// organization that signs without end uses up its own bucket at its own partners, and not
// that of who passes it on.
const (
	// hearRate and hearBurst bound the messages that one peer has us look at.
	hearRate, hearBurst = 20, 200
	// aboutRate and aboutBurst bound one peer's heads of one organization. Proofs are free
	// of it: they are heard once.
	aboutRate, aboutBurst = 1, 30
	// maxAbout bounds the organizations that are counted of one peer: more than a peer's
	// rate keeps busy at once.
	maxAbout = 256

	// passRate and passBurst bound the heads of one organization that are passed on,
	// allPassRate and allPassBurst those of all.
	passRate, passBurst       = 0.5, 14
	allPassRate, allPassBurst = 8, 80
	// sayRate and sayBurst bound what a node tells itself, sayPause is the least time
	// between two heads of one organization.
	sayRate, sayBurst = 10, 100
	sayPause          = 2 * time.Second

	// overGrace is how many messages over its limits a peer may have sent, one a second
	// being forgiven, before each of the others costs it overWeight. overMost bounds
	// how long it takes to be forgiven: eight minutes.
	overGrace, overWeight, overMost = 60, 5, 500
)

// teller is what one peer has told.
type teller struct {
	all   *bucket
	about map[gossipTag]*bucket
	over  float64 // messages over the limits, as of at
	at    time.Time
}

// inspect takes out of what a peer sends all that is over its limits.
func (g *gossip) inspect(from peer.ID, rpc *pubsub.RPC) error {
	if err := g.f.mayGossip(from); err != nil {
		return err
	}
	n := len(rpc.GetPublish())
	if n == 0 {
		return nil
	}
	rpc.Publish = slices.DeleteFunc(rpc.Publish, func(m *pubsubpb.Message) bool { return !g.admits(from, m.GetData()) })
	g.f.metrics.gossip.WithLabelValues("limited").Add(float64(n - len(rpc.Publish)))
	return nil
}

// admits counts a message of a peer.
func (g *gossip) admits(from peer.ID, data []byte) bool {
	now := g.f.clock.Now()
	g.mu.Lock()
	t := g.tellerLocked(from)
	within := t.all.take(now, 1) == 0
	if !within {
		t.exceed(now)
	}
	g.mu.Unlock()
	if !within {
		return false
	}
	tag, ok := gossipAbout(data)
	if !ok {
		return true // for hear to reject
	}
	org := g.f.known(tag)
	if org == nil {
		return true
	}
	if kind, _, err := openGossip(org.ID, data); err != nil || kind != gossipHead {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.tells(tag, now) {
		return true
	}
	t.exceed(now)
	return false
}

// tellerLocked returns what a peer has told; g.mu is held. There are no more than partners'
// nodes, and those who have been quiet for long are forgotten.
func (g *gossip) tellerLocked(from peer.ID) *teller {
	t := g.peers[from]
	if t == nil {
		if len(g.peers) >= MaxConnections {
			now := g.f.clock.Now()
			maps.DeleteFunc(g.peers, func(_ peer.ID, t *teller) bool { return t.all.full(now) && t.left(now) == 0 })
		}
		t = &teller{all: newBucket(hearRate, hearBurst), about: make(map[gossipTag]*bucket)}
		g.peers[from] = t
	}
	return t
}

// tells takes a head of an organization from the peer's bucket for it.
func (t *teller) tells(tag gossipTag, now time.Time) bool {
	b := t.about[tag]
	if b == nil {
		if len(t.about) >= maxAbout {
			maps.DeleteFunc(t.about, func(_ gossipTag, b *bucket) bool { return b.full(now) })
		}
		if len(t.about) >= maxAbout {
			return false
		}
		b = newBucket(aboutRate, aboutBurst)
		t.about[tag] = b
	}
	return b.take(now, 1) == 0
}

// exceed counts a message over the limits.
func (t *teller) exceed(now time.Time) {
	t.over, t.at = min(t.left(now)+1, overMost), now
}

// left is what has not been forgiven.
func (t *teller) left(now time.Time) float64 {
	return max(0, t.over-max(0, now.Sub(t.at).Seconds()))
}

// score is what a peer's place in the network costs it for staying over its limits: after
// a minute's worth its heads are not passed on, then it is not listened to.
func (g *gossip) score(p peer.ID) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.peers[p]
	if t == nil {
		return 0
	}
	return -overWeight * max(0, t.left(g.f.clock.Now())-overGrace)
}

// passesOn counts a head that is passed on.
func (g *gossip) passesOn(data []byte) bool {
	tag, _ := gossipAbout(data)
	org := g.f.known(tag)
	if org == nil {
		return false
	}
	now := g.f.clock.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rumourLocked(org.ID).pass.take(now, 1) == 0 && g.pass.take(now, 1) == 0
}
