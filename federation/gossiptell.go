package federation

import (
	"bytes"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// A network without history: what was told before somebody came is told again when they
// have come, and now and then.

// telling is what we tell of an organization.
type telling struct {
	data []byte // sealed; nil: nothing
	due  bool
	at   time.Time // when it was told last
	last time.Time // when anything of this kind was
}

// TellHead tells the network of a head that this node has verified with all that leads to
// it: its own, or a partner's. It is told again now and then, and when somebody joins.
func (f *Federation) TellHead(head *identity.Checkpoint) error {
	if f.gossip == nil {
		return nil
	}
	bare, err := identity.MergeCosignatures(head, head.Note, nil)
	if err != nil {
		return err
	}
	return f.gossip.tell(head.Organization, gossipHead, head.Log, []byte(bare), func(r *rumour) { r.hear(heardHead{head.Size, head.Root}) })
}

// TellFork tells the network of a proof that a log has two pasts.
func (f *Federation) TellFork(about wire.OrganizationID, fork *pb.Fork) error {
	if f.gossip == nil {
		return nil
	}
	proved, err := identity.VerifyFork(fork)
	if err != nil {
		return err
	}
	short := proto.CloneOf(fork)
	short.Manifests = nil // who knows the organization has them
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(short)
	if err != nil {
		return fmt.Errorf("federation: a proof: %w", err)
	}
	return f.gossip.tell(about, gossipFork, proved.Older.Log, body, func(r *rumour) { r.forked = true })
}

// tell notes what is to be told of an organization, and tells it when somebody listens.
func (g *gossip) tell(about wire.OrganizationID, kind byte, log uint64, body []byte, note func(*rumour)) error {
	data, err := sealGossip(about, kind, body)
	if err != nil {
		return err
	}
	if org := g.f.known(tagOf(about)); org != nil && org.Manifest.Log() != log {
		return nil // of a log that has ended
	}
	g.mu.Lock()
	r := g.rumourLocked(about)
	r.turn(log)
	note(r)
	t := &r.tellings[kind-1]
	if !bytes.Equal(t.data, data) {
		*t = telling{data: data, due: true, last: t.last}
	} else if time.Since(t.at) >= gossipAgain {
		t.due = true
	}
	g.mu.Unlock()
	g.tellDue()
	return nil
}

// tellDue tells what is due, once the network has had the time to take in those who came,
// at a pace that stays below what others hear of one peer.
func (g *gossip) tellDue() {
	if len(g.topic.ListPeers()) == 0 {
		return
	}
	now := time.Now()
	var out [][]byte
	g.mu.Lock()
	for _, r := range g.about {
		for i := range r.tellings {
			t := &r.tellings[i]
			if t.due && now.Sub(g.joined) >= gossipSettle && now.Sub(t.at) >= gossipForgets && now.Sub(t.last) >= sayPause && g.say.take(now, 1) == 0 {
				t.due, t.at, t.last = false, now, now
				out = append(out, t.data)
			}
		}
	}
	g.mu.Unlock()
	for _, data := range out {
		if err := g.topic.Publish(g.f.ctx, data); err != nil && g.f.ctx.Err() == nil {
			g.f.log.Debug("a head is not told", "error", err.Error())
		}
	}
}

// retell tells what has become due, until the federation closes.
func (g *gossip) retell() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-g.f.ctx.Done():
			return
		case <-tick.C:
			g.tellDue()
		}
	}
}

// watch makes everything due again when somebody joins, until the federation closes.
func (g *gossip) watch(joins *pubsub.TopicEventHandler) {
	for {
		e, err := joins.NextPeerEvent(g.f.ctx)
		if err != nil {
			return
		}
		if e.Type != pubsub.PeerJoin {
			continue
		}
		g.mu.Lock()
		g.joined = time.Now()
		for _, r := range g.about {
			for i := range r.tellings {
				r.tellings[i].due = r.tellings[i].data != nil
			}
		}
		g.mu.Unlock()
	}
}
