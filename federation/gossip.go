package federation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// Heads of directory logs, and proofs that a log has two pasts, pass between partners by
// gossipsub (docs/protocol.md 5.12). A head is a hint: gossipsub has no history, drops under
// load and forgets. What it leads to is fetched by stream from the log's owner.

// GossipTopic is the one topic.
const GossipTopic = "/entente/heads/1"

const (
	// gossipRPC bounds what a peer sends at once.
	gossipRPC     = 64 << 10
	gossipControl = 16 << 10
	gossipQueue   = 128
	// gossipSeen is how long the network drops copies of a message, at least.
	gossipSeen = 30 * time.Second
	// gossipForgets is the time after which it passes on the same again for sure: it sweeps
	// what it has seen once a minute (go-libp2p-pubsub v0.17.0, timecache/util.go).
	gossipForgets = gossipSeen + time.Minute
	// gossipAgain is the time after which the same is told again, though nobody has joined.
	gossipAgain = 10 * time.Minute
	// gossipSettle is what the network takes to make a place for who has joined.
	gossipSettle = 3 * time.Second
	// heardHeads is how many heads of each log are remembered.
	heardHeads = 32
)

// Hearing is told what was heard about an organization: ours or a partner's. Its calls must
// not block. What they are given was verified: signed by that organization's directory key,
// or a proof that stands. HeardHead answers false when it has no room for the head now:
// it is heard when it is told again.
type Hearing interface {
	HeardHead(about wire.OrganizationID, head *identity.Checkpoint) bool
	HeardFork(about wire.OrganizationID, fork *pb.Fork)
}

// gossip is a node's place in the network of heads.
type gossip struct {
	f     *Federation
	topic *pubsub.Topic
	sub   *pubsub.Subscription
	meet  event.Emitter // tells the router of peers that may take part

	mu     sync.Mutex
	about  map[wire.OrganizationID]*rumour
	peers  map[peer.ID]*teller
	pass   *bucket   // heads that are passed on for others
	say    *bucket   // what this node tells itself
	joined time.Time // when somebody joined last
}

// rumour is what was heard about one organization.
type rumour struct {
	pass   *bucket     // heads about it that are passed on for others
	log    uint64      // that the rest is about: identity.Manifest.Log
	heads  []heardHead // the last ones, the oldest first
	forked bool        // a proof was passed on

	tellings [2]telling // by us, by kind
}

// turn forgets what was heard of another log.
func (r *rumour) turn(log uint64) {
	if r.log != log {
		r.log, r.heads, r.forked, r.tellings = log, nil, false, [2]telling{}
	}
}

// hear remembers a head; it reports whether that is news.
func (r *rumour) hear(h heardHead) bool {
	if slices.Contains(r.heads, h) {
		return false
	}
	if r.heads = append(r.heads, h); len(r.heads) > heardHeads {
		r.heads = slices.Delete(r.heads, 0, 1)
	}
	return true
}

type heardHead struct {
	size uint64
	root [32]byte
}

func newGossip(f *Federation) *gossip {
	return &gossip{f: f, about: make(map[wire.OrganizationID]*rumour), peers: make(map[peer.ID]*teller),
		pass: newBucket(allPassRate, allPassBurst), say: newBucket(sayRate, sayBurst)}
}

// startGossip joins the network of heads.
func (f *Federation) startGossip() error {
	g := newGossip(f)
	h := &gossipHost{Host: f.host, f: f, bus: eventbus.NewBus()}
	var err error
	if g.meet, err = h.bus.Emitter(new(event.EvtPeerProtocolsUpdated)); err != nil {
		return fmt.Errorf("federation: gossip: %w", err)
	}
	router, err := pubsub.NewGossipSub(f.ctx, h, g.options()...)
	if err != nil {
		return fmt.Errorf("federation: gossip: %w", err)
	}
	if err := router.RegisterTopicValidator(GossipTopic, g.validate, pubsub.WithValidatorConcurrency(gossipQueue)); err != nil {
		return fmt.Errorf("federation: gossip: %w", err)
	}
	if g.topic, err = router.Join(GossipTopic); err != nil {
		return fmt.Errorf("federation: gossip: %w", err)
	}
	if g.sub, err = g.topic.Subscribe(pubsub.WithBufferSize(gossipQueue)); err != nil {
		return fmt.Errorf("federation: gossip: %w", err)
	}
	joins, err := g.topic.EventHandler()
	if err != nil {
		return fmt.Errorf("federation: gossip: %w", err)
	}
	f.gossip = g
	f.running.Go(func() { g.drain() })
	f.running.Go(func() { g.watch(joins) })
	f.running.Go(func() { g.retell() })
	return nil
}

// drain takes what the validator has taken already out of the subscription, which keeps
// this node in the topic, until the federation closes.
func (g *gossip) drain() {
	for {
		if _, err := g.sub.Next(g.f.ctx); err != nil {
			return
		}
	}
}

func (g *gossip) options() []pubsub.Option {
	score, thresholds := g.scores()
	return []pubsub.Option{
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), // who passes a head on is not who signed it
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string { return gossipID(m.Data) }),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(GossipTopic), 4)),
		pubsub.WithPeerFilter(func(p peer.ID, _ string) bool { return g.f.gossips(p) }),
		pubsub.WithAppSpecificRpcInspector(g.inspect),
		pubsub.WithMaxMessageSize(gossipRPC),
		pubsub.WithMaxControlMessageSize(gossipControl),
		pubsub.WithPeerOutboundQueueSize(gossipQueue),
		pubsub.WithValidateQueueSize(gossipQueue),
		pubsub.WithValidateThrottle(gossipQueue),
		pubsub.WithPeerExchange(false),
		pubsub.WithSeenMessagesTTL(gossipSeen),
		pubsub.WithPeerScore(score, thresholds),
		pubsub.WithLogger(g.f.log),
	}
}

// scores fit networks of a few organizations as well as of a thousand: nobody is expected
// to deliver, and nothing counts but what is wrong. Ten invalid messages within some
// minutes end what a peer may send; so does staying over its limits (teller.score).
func (g *gossip) scores() (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	return &pubsub.PeerScoreParams{
			SkipAtomicValidation: true,
			AppSpecificScore:     g.score, AppSpecificWeight: 1,
			BehaviourPenaltyWeight: -10, BehaviourPenaltyThreshold: 6, BehaviourPenaltyDecay: pubsub.ScoreParameterDecay(10 * time.Minute),
			DecayInterval: pubsub.DefaultDecayInterval, DecayToZero: pubsub.DefaultDecayToZero,
			RetainScore: time.Hour,
			Topics: map[string]*pubsub.TopicScoreParams{GossipTopic: {
				SkipAtomicValidation: true, TopicWeight: 1, TimeInMeshQuantum: time.Second,
				InvalidMessageDeliveriesWeight: -10, InvalidMessageDeliveriesDecay: pubsub.ScoreParameterDecay(10 * time.Minute),
			}},
		}, &pubsub.PeerScoreThresholds{
			SkipAtomicValidation: true, GossipThreshold: -100, PublishThreshold: -500, GraylistThreshold: -900,
			AcceptPXThreshold: 1e6,
		}
}

// validate decides, before anything is passed on, whether a message is about an
// organization that we know, signed by it, and news.
func (g *gossip) validate(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == g.f.host.ID() {
		return pubsub.ValidationAccept // made by tell
	}
	result, reason := g.judge(from, m.Data)
	g.f.metrics.gossip.WithLabelValues(reason).Inc()
	return result
}

// judge looks at a message of the network. What is heard is not always passed on: an
// organization that signs heads without end would use up, at others, what they hear of us.
func (g *gossip) judge(from peer.ID, data []byte) (pubsub.ValidationResult, string) {
	if g.f.mayGossip(from) != nil {
		return pubsub.ValidationIgnore, "limited"
	}
	result, reason := g.hear(data)
	if reason == "head" && !g.passesOn(data) {
		return pubsub.ValidationIgnore, "kept"
	}
	return result, reason
}

// hear looks at a message, whoever has brought it.
func (g *gossip) hear(data []byte) (pubsub.ValidationResult, string) {
	tag, ok := gossipAbout(data)
	if !ok {
		return pubsub.ValidationReject, "malformed"
	}
	org := g.f.known(tag)
	if org == nil {
		return pubsub.ValidationIgnore, "unknown" // somebody whom we do not know
	}
	kind, body, err := openGossip(org.ID, data)
	if err != nil {
		return pubsub.ValidationReject, "malformed"
	}
	switch kind {
	case gossipHead:
		head, err := identity.VerifyHead(string(body), org)
		if err != nil && identity.HeadOfLaterLog(string(body), org) {
			return pubsub.ValidationIgnore, "later" // who sends it has a manifest that we have not yet
		}
		if err != nil {
			return pubsub.ValidationReject, "unsigned"
		}
		if head.Log != org.Manifest.Log() {
			return pubsub.ValidationIgnore, "ended"
		}
		return g.head(head)
	case gossipFork:
		return g.fork(org, body)
	}
	return pubsub.ValidationIgnore, "unsupported"
}

// rumourLocked returns what was heard about an organization; g.mu is held. There are no
// more than partners, and ourselves.
func (g *gossip) rumourLocked(id wire.OrganizationID) *rumour {
	r := g.about[id]
	if r == nil {
		r = &rumour{pass: newBucket(passRate, passBurst)}
		g.about[id] = r
	}
	return r
}

// head takes a head that is news: a larger one, or one that may not fit those heard.
func (g *gossip) head(head *identity.Checkpoint) (pubsub.ValidationResult, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.rumourLocked(head.Organization)
	r.turn(head.Log)
	h := heardHead{head.Size, head.Root}
	if slices.Contains(r.heads, h) {
		return pubsub.ValidationIgnore, "known"
	}
	if !g.f.opts.Hearing.HeardHead(head.Organization, head) {
		return pubsub.ValidationIgnore, "busy"
	}
	r.hear(h)
	return pubsub.ValidationAccept, "head"
}

// fork takes a proof, once for each organization.
func (g *gossip) fork(org *identity.Organization, body []byte) (pubsub.ValidationResult, string) {
	f := &pb.Fork{}
	if proto.Unmarshal(body, f) != nil || len(f.Manifests) > 0 || f.Organization != org.ID.String() {
		return pubsub.ValidationReject, "malformed"
	}
	g.mu.Lock()
	r := g.rumourLocked(org.ID)
	r.turn(org.Manifest.Log())
	known := r.forked
	g.mu.Unlock()
	if known {
		return pubsub.ValidationIgnore, "known"
	}
	// Looked at before anything is counted: what anybody can make up about an organization
	// takes no place from what it has signed.
	proved, err := identity.VerifyForkOf(f, org)
	if err != nil && identity.HeadOfLaterLog(f.Older, org) {
		return pubsub.ValidationIgnore, "later"
	}
	if err != nil {
		return pubsub.ValidationReject, "unsigned"
	}
	if proved.Older.Log != org.Manifest.Log() {
		return pubsub.ValidationIgnore, "ended"
	}
	f.Manifests = org.Notes
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.forked { // it came twice at once
		return pubsub.ValidationIgnore, "known"
	}
	r.forked = true
	g.f.opts.Hearing.HeardFork(org.ID, f)
	return pubsub.ValidationAccept, "fork"
}

// met has the router open its stream to a partner whose link is up.
func (g *gossip) met(p peer.ID) {
	if g != nil {
		_ = g.meet.Emit(event.EvtPeerProtocolsUpdated{Peer: p, Added: pubsub.GossipSubDefaultProtocols})
	}
}

// known returns the organization, our own or a partner's in force, that a tag is of.
func (f *Federation) known(tag gossipTag) *identity.Organization {
	if tag == tagOf(f.opts.Organization.ID) {
		return f.opts.Organization
	}
	f.mu.Lock()
	p := f.byTag[tag]
	f.mu.Unlock()
	if p == nil || f.inForce(p) != nil {
		return nil
	}
	return p.standing().org
}

// mayGossip refuses peers that speak for no partner in force.
func (f *Federation) mayGossip(id peer.ID) error {
	if id == f.host.ID() {
		return nil
	}
	_, err := f.admit(id)
	return err
}

func (f *Federation) gossips(id peer.ID) bool { return f.mayGossip(id) == nil }

// gossipHost is the host as the router sees it: it meets those alone whom it is told of,
// and strangers in the lobby have no stream of it.
type gossipHost struct {
	host.Host
	f   *Federation
	bus event.Bus
}

func (h *gossipHost) EventBus() event.Bus { return h.bus }

func (h *gossipHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		if !h.f.gossips(s.Conn().RemotePeer()) || s.Scope().SetService(serviceName) != nil {
			s.Reset()
			return
		}
		handle(s)
	})
}

func (h *gossipHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if err := h.f.mayGossip(p); err != nil {
		return nil, err
	}
	return h.Host.NewStream(ctx, p, ids...)
}
