package federation

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Protocols of docs/protocol.md 5.
const (
	DeliverProtocol protocol.ID = "/entente/deliver/1"
	QueryProtocol   protocol.ID = "/entente/query/1"
	LobbyProtocol   protocol.ID = "/entente/lobby/1"
)

// Clock tells the time; store.Clock is one.
type Clock interface{ Now() time.Time }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// Settlement is what a partner answered for an item for good.
type Settlement struct {
	Number uint64
	Status *pb.Status
}

// Outbox is what waits for partners, in rising numbers for each of them.
type Outbox interface {
	// List names up to n items whose numbers are above after, in order.
	List(org wire.OrganizationID, after uint64, n int) ([]Listed, error)
	// Open returns the named items in the order asked for, each with its number; what
	// has left the outbox is left out. A copy that is damaged is an item with nothing
	// but its number: it is refused as malformed by whoever gets it.
	Open(org wire.OrganizationID, numbers []uint64) ([]*pb.Item, error)
	// Settle removes items for good, with the consequences of their statuses, in one
	// durable transaction. Items that are gone already are no error.
	Settle(ctx context.Context, org wire.OrganizationID, settled []Settlement) error
	// Refuse removes what the partner will never get, because it has suspended the
	// agreement: messages, and what waits for it as a hub, with the consequences of the
	// status. Handshakes that fan out and control stay.
	Refuse(ctx context.Context, org wire.OrganizationID, status *pb.Status) error
	// Wait returns when the partner's outbox may hold a number above after, or with
	// ctx's error.
	Wait(ctx context.Context, org wire.OrganizationID, after uint64) error
}

// Listed is an item of an outbox as it waits there.
type Listed struct {
	Number  uint64
	Room    wire.RoomID // zero for what has none
	Size    int         // bytes
	Message bool        // of class message
}

// Handler is what partners reach.
type Handler interface {
	// Deliver commits items in one store transaction and returns one status for each.
	// Just before the commit it calls record with the batch and the statuses, which
	// adds the marks that make the items duplicates from then on. An item whose status
	// is to be tried again later must have left no trace; what follows it in its room
	// is best refused for now as well, because the partner keeps a room's order.
	Deliver(ctx context.Context, from wire.OrganizationID, items []*pb.Item, record func(*store.Batch, []*pb.Status) error) []*pb.Status
	// Query answers a question of a partner in force. Manifest queries do not arrive here.
	Query(ctx context.Context, from wire.OrganizationID, q *pb.QueryRequest) *pb.QueryResponse
}

// Limits are what each partner may use; zero values take those of wire/limits.go.
type Limits struct {
	Items   float64 // a second
	Burst   int     // items
	Bytes   int     // a second; the burst is twice that
	Queries float64 // a second; the burst is ten times that
	Files   int     // bytes of files a second that are handed out; the burst is twice that
}

// QueryRate is the number of questions that a partner may ask in a second.
const QueryRate = 50

// Options of a federation. Key, Organization, NodeCertificate, AgreementKey, Store,
// Outbox and Handler are required.
type Options struct {
	Key             ed25519.PrivateKey    // the node's peer key
	Listen          []multiaddr.Multiaddr // none: this node only dials
	Announce        []multiaddr.Multiaddr // none: those it listens on
	Organization    *identity.Organization
	NodeCertificate string       // note that lets Key speak for Organization
	AgreementKey    wire.NoteKey // "<organization>/node": signs agreements
	Store           *store.Store
	Outbox          Outbox
	Handler         Handler
	Signs           func() error                                             // nil, or why no agreement may be signed now (a status); nil: always
	Rename          func(context.Context, wire.OrganizationID, string) error // nil, or refuses to follow a partner's new name
	TwoRoots        func(id wire.OrganizationID, known, shown []string)      // nil, or told of manifests that fork; must not block
	Newer           func(*identity.Organization)                             // nil, or told that a partner knows newer manifests of ours; must not block
	Screen          func(*identity.Organization) error                       // nil, or refuses an organization that we would make an agreement with
	Linked          func(wire.OrganizationID)                                // nil, or told of every link that comes up; must not block
	Amended         func(wire.OrganizationID)                                // nil, or told of every agreement or amendment that comes into force here; must not block
	Answered        func(wire.OrganizationID)                                // nil, or told when a partner's node has taken or refused a link; must not block
	SetBack         func(id wire.OrganizationID, from, to uint64)            // nil, or told that a partner's agreement was lost and taken back, from and to which version; must not block
	StoppedAgain    func(id wire.OrganizationID, state string, at time.Time) // nil, or told of a partner that was suspended or quarantined again, as a restored node had lost; must not block
	Called          func() bool                                              // whether partners need not be waited for that have not said what they hold of us; nil: always
	Mode            Mode                                                     // empty: ModeAgreement
	Clock           Clock                                                    // nil: the system's
	Incarnation     uint64                                                   // of this node's numbers; raised after a restore
	Limits          Limits
	Logger          *slog.Logger          // nil: none
	Registerer      prometheus.Registerer // nil: none
	NewHost         NewHost               // nil: libp2p over QUIC and TCP
	HostGossips     bool                  // a host of NewHost has what gossipsub needs as well: ConnManager, Network.Peers and Connectedness
	Hearing         Hearing               // nil, or a host of one's own: this node takes no part in gossip
}

// NewHost makes the host that partners are reached by, with the gate in front of its
// connections. A simulated network needs no more of host.Host than ID, Addrs, Connect,
// NewStream, SetStreamHandler, Close and, of its Network, Notify and ClosePeer.
type NewHost func(key ed25519.PrivateKey, gate Gate) (host.Host, error)

// Gate says which peers may connect, and is told of connections that come and go.
type Gate interface {
	connmgr.ConnectionGater
	network.Notifiee
}

func (o *Options) fill() error {
	if o.Organization == nil || o.NodeCertificate == "" || o.Store == nil || o.Outbox == nil || o.Handler == nil {
		return errors.New("federation: organization, node certificate, store, outbox and handler are required")
	}
	if len(o.AgreementKey.Private) != ed25519.PrivateKeySize {
		return errors.New("federation: the key that signs agreements is missing")
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Signs == nil {
		o.Signs = func() error { return nil }
	}
	if o.Mode == "" {
		o.Mode = ModeAgreement
	}
	if o.Answered == nil {
		o.Answered = func(wire.OrganizationID) {}
	}
	if o.SetBack == nil {
		o.SetBack = func(wire.OrganizationID, uint64, uint64) {}
	}
	if o.StoppedAgain == nil {
		o.StoppedAgain = func(wire.OrganizationID, string, time.Time) {}
	}
	if o.Called == nil {
		o.Called = func() bool { return true }
	}
	if o.Amended == nil {
		o.Amended = func(wire.OrganizationID) {}
	}
	if o.Linked == nil {
		o.Linked = func(wire.OrganizationID) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &o.Limits
	if l.Items <= 0 {
		l.Items = wire.PartnerRate
	}
	if l.Burst <= 0 {
		l.Burst = wire.PartnerBurst
	}
	if l.Bytes <= 0 {
		l.Bytes = wire.PartnerBytesRate
	}
	if l.Files <= 0 {
		l.Files = wire.PartnerFiles
	}
	if l.Queries <= 0 {
		l.Queries = QueryRate
	}
	return nil
}

// Federation is a node's side of all its partnerships.
//
// Lock order: making, mu, partner.mu. gater.mu is taken inside any of them and
// takes none. partner.delivering is held while the Handler commits and is taken
// before partner.mu.
type Federation struct {
	opts    Options
	log     *slog.Logger
	clock   Clock
	self    wire.DeviceID
	host    host.Host
	gate    *gater
	metrics *metrics

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // streams and workers
	making  sync.Mutex     // one agreement is made or changed at a time

	mu       sync.Mutex
	started  bool // Run was called: workers are wanted
	closed   bool
	partners map[wire.OrganizationID]*partner
	byPeer   map[peer.ID]*partner
	byTag    map[gossipTag]*partner // all of partners

	incarnation atomic.Uint64 // raised under making

	gossip *gossip // nil: none; set before anybody is answered
}

// New opens the host, reads the partners from the store and begins to answer them.
// Run has to be called for anything to be sent. After an error nothing is left open.
func New(opts Options) (*Federation, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	f := &Federation{
		opts: opts, log: opts.Logger, clock: opts.Clock, metrics: m,
		partners: map[wire.OrganizationID]*partner{}, byPeer: map[peer.ID]*partner{}, byTag: map[gossipTag]*partner{},
	}
	f.gate = newGater(func(reason string) { m.refused.WithLabelValues(reason).Inc() })
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if err := errors.Join(f.loadIncarnation(), f.load()); err != nil {
		f.cancel()
		return nil, err
	}
	if opts.NewHost != nil {
		f.host, err = opts.NewHost(opts.Key, f.gate)
	} else {
		f.host, err = newHost(opts.Key, opts.Listen, opts.Announce, f.gate)
	}
	if err != nil {
		f.cancel()
		return nil, err
	}
	copy(f.self[:], opts.Key.Public().(ed25519.PublicKey))
	if opts.Hearing != nil && (opts.NewHost == nil || opts.HostGossips) {
		if err := f.startGossip(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	f.host.Network().Notify(f.gate)
	f.host.SetStreamHandler(DeliverProtocol, f.serve("deliver", f.serveDeliver))
	f.host.SetStreamHandler(QueryProtocol, f.serve("query", f.serveQuery))
	f.host.SetStreamHandler(LobbyProtocol, f.serve("lobby", f.serveLobby))
	return f, nil
}

// Run sends to all partners until ctx ends, then closes. It returns nil when it was
// asked to end.
func (f *Federation) Run(ctx context.Context) error {
	f.mu.Lock()
	if f.closed || f.started {
		f.mu.Unlock()
		return errors.New("federation: runs already, or is closed")
	}
	f.started = true
	all := f.allLocked()
	f.mu.Unlock()
	for _, p := range all {
		f.startWorker(p)
	}
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return f.Close()
		case <-f.ctx.Done():
			return f.Close()
		case <-sweep.C:
			f.sweep()
		}
	}
}

// sweep forgets tokens that are over and ends the links of agreements that are.
func (f *Federation) sweep() {
	if err := f.sweepTokens(f.ctx); err != nil {
		f.log.Warn("old partner tokens stay for now", "error", err.Error())
	}
	if err := f.forgetRequests(f.ctx); err != nil {
		f.log.Warn("old requests stay for now", "error", err.Error())
	}
	for _, p := range f.all() {
		if f.inForce(p) != nil {
			p.dropLinks()
		}
	}
}

// Close takes nothing new, ends every stream and returns when all of them have.
func (f *Federation) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	var err error
	if first {
		err = f.host.Close()
	}
	f.running.Wait()
	if err != nil {
		return fmt.Errorf("federation: closing the host: %w", err)
	}
	return nil
}

// enter counts a stream or worker; false means that the federation is closed.
func (f *Federation) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.running.Add(1)
	return true
}

// PeerID returns the node's libp2p peer ID in text.
func (f *Federation) PeerID() string { return f.self.String() }

// Addrs returns the addresses that partners are told, each with /p2p/ and the peer ID.
func (f *Federation) Addrs() []multiaddr.Multiaddr {
	if len(f.host.Addrs()) == 0 {
		return nil
	}
	out, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: f.host.ID(), Addrs: f.host.Addrs()})
	if err != nil {
		return nil
	}
	return out
}
