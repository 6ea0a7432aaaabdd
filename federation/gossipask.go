package federation

import (
	"bytes"
	"context"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// Who comes late asks: the network of heads has no history, and drops for a minute and a
// half what it has passed on once. A node that has a link to a partner asks, by stream, for
// what that partner tells the network (docs/protocol.md 5.12).

const (
	// toldPage bounds the messages of one answer: 256 KiB at most.
	toldPage = 32
	// maxTold bounds the messages that are taken from one partner after a link came up.
	maxTold = 4_096
	// maxUntrue is how many of them may not stand, because we do not know yet what an
	// organization has signed: then the partner is heard no further.
	maxUntrue = 64
	// toldAbout bounds what of one answer is about one organization: a head and a proof.
	toldAbout = 2
	// toldPause is the least time between two such catch-ups with one partner.
	toldPause = 10 * time.Second
)

// catchUp asks a partner for what it tells, and hears it. What was asked for counts for no
// bucket: it is a head and a proof of each organization at most.
func (g *gossip) catchUp(ctx context.Context, p *partner) {
	if g == nil || !p.catchesUp(g.f.clock.Now()) {
		return
	}
	var after []byte
	untrue, about := 0, make(map[gossipTag]int)
	for range maxTold / toldPage {
		a, err := g.f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Told{Told: &pb.ToldQuery{After: after}}})
		if err != nil { // a partner of an older version does not know the question
			g.f.log.Debug("a partner has not said what it tells", "partner", p.id.String(), "error", err.Error())
			return
		}
		told := a.GetTold()
		for _, m := range told.GetMessages()[:min(len(told.GetMessages()), toldPage)] {
			result, reason := pubsub.ValidationIgnore, "limited"
			if tag, _ := gossipAbout(m); about[tag] < toldAbout {
				about[tag]++
				result, reason = g.hear(m)
			}
			g.f.metrics.gossip.WithLabelValues(reason).Inc()
			if result == pubsub.ValidationReject {
				untrue++
			}
			if untrue > maxUntrue {
				g.f.log.Warn("a partner tells what does not stand", "partner", p.id.String())
				return
			}
		}
		if len(told.GetLast()) == 0 || bytes.Compare(told.GetLast(), after) <= 0 {
			return
		}
		after = told.GetLast()
	}
}

// catchesUp reports whether a partner may be asked again.
func (p *partner) catchesUp(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.link.asked.Add(toldPause)) {
		return false
	}
	p.link.asked = now
	return true
}

// toldAnswer is a page of what this node tells, in the order of the messages' tags and
// kinds.
func (g *gossip) toldAnswer(q *pb.ToldQuery) (*pb.QueryResponse, error) {
	if len(q.After) > gossipTagLen+1 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a place of %d bytes", len(q.After))
	}
	type message struct{ place, data []byte }
	var all []message
	if g != nil {
		g.mu.Lock()
		for id, r := range g.about {
			tag := tagOf(id)
			for kind, t := range r.tellings {
				if place := append(bytes.Clone(tag[:]), byte(kind)); t.data != nil && bytes.Compare(place, q.After) > 0 {
					all = append(all, message{place, t.data})
				}
			}
		}
		g.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b message) int { return bytes.Compare(a.place, b.place) })
	a := &pb.ToldAnswer{}
	for _, m := range all[:min(len(all), toldPage)] {
		a.Messages = append(a.Messages, m.data)
		if len(all) > toldPage {
			a.Last = m.place
		}
	}
	return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, ""), Answer: &pb.QueryResponse_Told{Told: a}}, nil
}
