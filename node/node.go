package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mailbox/blob"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Clock tells the time.
type Clock interface{ Now() time.Time }

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// ErrLocked says that another process runs on the data folder.
var ErrLocked = errors.New("node: the data folder is in use")

// ErrPassphrase says that the keys do not open.
var ErrPassphrase = identity.ErrPassphrase

// Options of Open. Dir and Passphrase are required.
type Options struct {
	Dir        string
	Passphrase []byte
	Version    string
	LogOutput  io.Writer     // nil: none
	AcceptLoss bool          // go on although the store has lost records
	Clock      store.Clock   // nil: the system's
	Configure  func(*Config) // last word on the configuration, for tests

	// A simulated network and disk come in here; nil: the machine's. Listen opens the
	// doors: "tcp" for devices and monitoring, "unix" for operators.
	Listen  func(network, address string) (net.Listener, error)
	NewHost federation.NewHost
	// HostGossips says that hosts of NewHost have what gossipsub needs too.
	HostGossips bool
	Store       func(*store.Options) // last word on the store's options
}

// Node is an organization's node: its store, directory, mailboxes, federation and
// the doors for devices and operators.
type Node struct {
	version string
	folder  string // with node.yaml
	started time.Time
	config  Config
	log     *slog.Logger
	clock   Clock
	metrics metrics

	org          *identity.Organization
	certificate  string // note: the node certificate
	peer         wire.DeviceID
	statementKey wire.NoteKey
	hubKey       ed25519.PrivateKey
	frankKey     []byte // frank
	cosignerKey  ed25519.PrivateKey
	handles      handles

	store     *store.Store
	dir       *directory.Directory
	mail      *mailbox.Mailbox
	blobs     *blob.Store
	chunks    *chunkPlaces
	fed       *federation.Federation
	gate      *gate.Gate
	rooms     *rooms
	results   *results
	numbers   *numbers
	told      *told
	mailed    *mailNumbers
	rates     *rates
	seen      seen
	resyncs   *resyncs
	complains *rates // complaints of each device of ours
	contacts  *contacts
	groups    *groups
	blocks    *blocks
	lists     *blockLists
	proofs    *proofs
	linking   linking
	chains    *chains
	heads     heads
	replicas  *replicas
	heard     *hearing
	states    states
	adopting  adopting
	placing   placecall
	validator mls.CredentialValidator
	revoking  sync.Mutex  // one revocation is followed up at a time
	underway  sync.Map    // wire.DeviceID: whoever revokes it follows that up
	manifests sync.Mutex  // the file of our manifests is written by one at a time
	stale     atomic.Bool // partners knew newer ones: they hold from the next start on
	settled   sync.Map    // wire.OrganizationID: judged, what a proof about its root comes to
	leaving   sync.Map    // wire.DeviceID: revoked, and the directory does not say so yet

	doors   doors
	apiURL  string
	apiHost string
	ready   atomic.Bool

	stopping context.Context // ends when Close begins
	stop     context.CancelFunc
	starting sync.Mutex     // nothing is added to work once stopping has ended
	work     sync.WaitGroup // background work; Close waits for it
	places   chan struct{}  // bounds background work
}

// Wrong says how this build breaks its promises on purpose, for tests; empty in every
// build for use (store/wrong.go).
const Wrong = store.Wrong

// maxBackground bounds what runs beside the calls: fetching trees and chains.
const maxBackground = 16

// Open opens everything in its order, checks it, and listens; Run serves. What was
// opened is closed again when a later step fails.
func Open(ctx context.Context, o Options) (_ *Node, err error) {
	config, err := LoadConfig(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Configure != nil {
		o.Configure(&config)
	}
	if o.LogOutput == nil {
		o.LogOutput = io.Discard
	}
	if o.Listen == nil {
		o.Listen = listen
	}
	level, err := config.level()
	if err != nil {
		return nil, err
	}
	n := &Node{version: o.Version, folder: o.Dir, started: time.Now(), config: config, clock: wallClock{}, rates: newRates(config.Limits), resyncs: newResyncs(), contacts: newContacts(),
		complains: newRates(LimitConfig{DeviceRate: wire.ComplaintsPerDevice / time.Hour.Seconds(), DeviceBurst: wire.ComplaintsPerDevice}),
		log:       slog.New(slog.NewTextHandler(o.LogOutput, &slog.HandlerOptions{Level: level})), places: make(chan struct{}, maxBackground)}
	if o.Clock != nil {
		n.clock = o.Clock
	}
	n.chains = newChains(n.clock.Now)
	n.stopping, n.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = n.Close()
		}
	}()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	keys, err := n.openIdentity(o)
	if err != nil {
		return nil, err
	}
	if err := n.openStore(ctx, o, keys, registry); err != nil {
		return nil, err
	}
	if err := n.openServices(o, keys, registry); err != nil {
		return nil, err
	}
	if o.AcceptLoss {
		if err := errors.Join(n.fed.ForgetTokens(ctx), n.fed.RaiseIncarnation(ctx)); err != nil {
			return nil, err
		}
	}
	if err := n.startRoll(o.AcceptLoss); err != nil {
		return nil, err
	}
	if err := n.eraseRevoked(ctx); err != nil {
		return nil, err
	}
	if err := n.openDoors(o, keys, registry); err != nil {
		return nil, err
	}
	return n, n.finishRevocations(ctx)
}

// openIdentity opens the sealed keys and verifies who we are.
func (n *Node) openIdentity(o Options) (*identity.NodeKeys, error) {
	keys, err := identity.OpenNodeKeys(filepath.Join(o.Dir, KeysFile), o.Passphrase)
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory() // Argon2id took 64 MiB, once
	manifests, err := readNotes(filepath.Join(o.Dir, ManifestFile))
	if err != nil {
		return nil, err
	}
	if n.org, err = identity.VerifyManifests(manifests, wire.OrganizationID{}); err != nil {
		return nil, fmt.Errorf("node: %s: %w", ManifestFile, err)
	}
	certificate, err := os.ReadFile(filepath.Join(o.Dir, CertificateFile))
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n.certificate = string(certificate)
	n.peer = wire.DeviceID(keys.Peer.Public().(ed25519.PublicKey))
	if _, err := identity.VerifyNodeCertificate(n.certificate, n.org, n.peer, n.clock.Now()); err != nil {
		return nil, fmt.Errorf("node: %s: %w", CertificateFile, err)
	}
	n.statementKey = wire.NoteKey{Owner: n.org.KeyName() + "/node", Public: n.org.Manifest.Node, Private: keys.Node}
	n.hubKey, n.cosignerKey = keys.Hub, keys.Cosigner
	if n.frankKey, err = frankKey(keys.Hub.Seed()); err != nil {
		return nil, err
	}
	n.handles, err = newHandles(keys.Handles)
	return keys, err
}

func (n *Node) openStore(ctx context.Context, o Options, keys *identity.NodeKeys, registry prometheus.Registerer) (err error) {
	disk := store.Options{
		Dir: filepath.Join(o.Dir, StoreFolder), SealKey: keys.Store, Bucket: n.config.Bucket, Clock: o.Clock,
		TrustClock: n.config.TrustClock, Logger: n.log, Registerer: registry,
	}
	if o.Store != nil {
		o.Store(&disk)
	}
	n.store, err = store.Open(ctx, disk)
	var locked *store.ErrLocked
	if errors.As(err, &locked) {
		return fmt.Errorf("%w: process %d has %s", ErrLocked, locked.PID, o.Dir)
	}
	if err != nil {
		return err
	}
	if s := n.store.Status(); s.Recovering && o.AcceptLoss {
		n.log.Warn("records were lost, by the operator's word the node goes on", "lost", s.Lost)
		if err := n.store.AcceptLoss(); err != nil {
			return err
		}
	}
	n.results, n.replicas, n.heard = newResults(n.store), newReplicas(n.store), newHearing()
	if n.numbers, err = openNumbers(n.store); err != nil {
		return err
	}
	if err := n.contacts.recount(n.store, n.clock.Now()); err != nil {
		return err
	}
	if n.groups, err = openGroups(n.store); err != nil {
		return err
	}
	if n.blocks, err = openBlocks(n.store); err != nil {
		return err
	}
	if n.told, err = openTold(n.store); err != nil {
		return err
	}
	if n.mailed, err = openMailNumbers(n.store, n.clock.Now); err != nil {
		return err
	}
	n.dir, err = directory.Open(ctx, n.store, directory.Options{Organization: n.org, Directory: keys.Directory, VRF: keys.VRF, Clock: n.clock})
	if err != nil {
		return err
	}
	if o.AcceptLoss {
		// They may have been handed out or used before the loss: never twice.
		if err := errors.Join(n.dir.DeleteKeyPackages(ctx), n.revokeLinks(ctx)); err != nil {
			return err
		}
	}
	n.validator = validator{n}
	n.rooms = newRooms(n.store, mls.PublicOptions{Validator: n.validator, Now: n.clock.Now})
	n.mail, err = mailbox.Open(ctx, mailbox.Options{Store: n.store, Clock: n.clock, Bucket: n.config.Bucket, Retention: n.config.Retention,
		Limits: mailbox.Limits{Inbox: mailbox.Quota{Envelopes: n.config.Limits.Mailbox}},
		Notify: n.notify, Logger: n.log, Registerer: registry})
	if err != nil {
		return err
	}
	return n.openBlobs(o.Dir, keys.Store)
}

func (n *Node) openServices(o Options, keys *identity.NodeKeys, registry *prometheus.Registry) (err error) {
	listen, err := multiaddrs(n.config.Federation)
	if err != nil {
		return err
	}
	announce, err := multiaddrs(n.config.Announce)
	if err != nil {
		return err
	}
	l := n.config.Limits
	n.fed, err = federation.New(federation.Options{
		Key: keys.Peer, Listen: listen, Announce: announce, Organization: n.org, NodeCertificate: n.certificate,
		AgreementKey: n.statementKey, Store: n.store, Outbox: outboxes{n.mail}, Handler: n, Signs: n.signs, Screen: n.screen, Rename: n.mayRename, TwoRoots: n.heard.HeardRoots, Newer: n.newerManifests, Linked: n.linked, Amended: n.amended, Answered: n.stateChanged, SetBack: n.agreementBack, StoppedAgain: n.stoppedAgain, Called: n.called, Clock: n.clock, Mode: federation.Mode(n.config.Mode),
		Incarnation: n.org.Incarnation(n.peer), Logger: n.log, Registerer: registry, NewHost: o.NewHost, HostGossips: o.HostGossips, Hearing: n.heard,
		Limits: federation.Limits{Items: l.PartnerRate, Burst: l.PartnerBurst, Bytes: l.PartnerBytes, Files: l.PartnerFiles},
	})
	if err != nil {
		return err
	}
	if n.proofs, err = openProofs(n.store, n.config.DNS); err != nil {
		return err
	}
	n.lists, err = openBlockLists(n.store, n.org, n.fed.Organization)
	return err
}

// Run serves until ctx ends or something that cannot go on fails.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("node: %s: %w", name, err))
			}
		})
	}
	start("mailboxes", n.mail.Run)
	start("files", n.blobs.Run)
	start("federation", n.fed.Run)
	start("trees", n.sweepTrees)
	start("clock", n.watchClock)
	start("partners", n.sweepPartners)
	start("directories", n.followPartners)
	start("heads", n.hearHeads)
	start("block lists", n.followLists)
	start("names", n.followNames)
	start("roll call", n.callPartners)
	start("notices", n.tellLater)
	start("revocations", n.retryRevocations)
	n.doors.serve(start)
	n.ready.Store(true)
	n.log.Info("ready", "organization", n.org.Manifest.Name, "id", n.org.ID, "peer", n.peer, "api", n.apiURL)
	<-ctx.Done()
	n.ready.Store(false)
	n.shut()
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// shut stops in order: nothing new is accepted, what is in flight is finished,
// federation stops. Close then syncs and closes the store.
func (n *Node) shut() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	n.doors.shut(ctx)
	if n.gate != nil {
		n.gate.Close()
	}
	n.starting.Lock()
	n.stop()
	n.starting.Unlock()
	n.work.Wait()
	if n.fed != nil {
		if err := n.fed.Close(); err != nil {
			n.log.Warn("closing federation", "error", err)
		}
	}
}

// shutdownTime bounds how long calls in flight may take to finish.
const shutdownTime = 10 * time.Second

// Close releases everything. It may follow Run or a failed Open.
func (n *Node) Close() error {
	n.shut()
	if n.store == nil {
		return nil
	}
	err := n.store.Close()
	n.store = nil
	return err
}

// background runs f beside the calls, bounded in number; when there is no place
// it is dropped, because all of it is done again when it is needed.
func (n *Node) background(f func(context.Context)) {
	select {
	case n.places <- struct{}{}:
	default:
		return
	}
	n.starting.Lock()
	defer n.starting.Unlock()
	if n.stopping.Err() != nil {
		<-n.places
		return
	}
	n.work.Go(func() {
		defer func() { <-n.places }()
		ctx, cancel := context.WithTimeout(n.stopping, time.Minute)
		defer cancel()
		f(ctx)
	})
}

// active reports whether a device is one of ours and not revoked.
func (n *Node) active(device wire.DeviceID) bool {
	_, ok := n.dir.ByDevice(device)
	_, leaving := n.leaving.Load(device)
	return ok && !leaving
}

// memberOf returns the member whose device it is; zero for others.
func (n *Node) memberOf(device wire.DeviceID) wire.MemberID {
	id, _ := n.dir.ByDevice(device)
	return id
}

// partner returns a partner's organization as last heard of.
func (n *Node) partner(id wire.OrganizationID) (*identity.Organization, bool) {
	org, err := n.fed.Organization(id)
	return org, err == nil
}

// nodeKeyOf returns the key with which an organization makes its statements.
func (n *Node) nodeKeyOf(id wire.OrganizationID) (wire.NoteKey, bool) {
	if id == n.org.ID {
		return n.statementKey, true
	}
	if org, ok := n.partner(id); ok {
		return org.NodeKey(), true
	}
	org, err := n.metBefore(id)
	if err != nil {
		return wire.NoteKey{}, false
	}
	return org.NodeKey(), true
}

// partnerMembers lists a partner's members in a room that is ordered here.
func (n *Node) partnerMembers(room wire.RoomID, partner wire.OrganizationID) []wire.MemberID {
	// Called while the room may be locked by the change that refused: read what is committed.
	seen := make(map[wire.MemberID]bool)
	var out []wire.MemberID
	for _, m := range n.rooms.committed(room) {
		if m.Organization == partner && !seen[m.Member] {
			seen[m.Member] = true
			out = append(out, m.Member)
		}
	}
	return out
}

// problems lists what an operator should look at; empty on a good day.
func (n *Node) problems() []string {
	s := n.store.Status()
	var out []string
	if Wrong != "" {
		out = append(out, "this build loses mail on purpose and is for tests only: it "+Wrong)
	}
	if n.stale.Load() {
		out = append(out, "partners knew newer manifests of ours, which are taken back: start the node again")
	}
	if s.Recovering {
		out = append(out, fmt.Sprintf("the store has lost %d records: the node takes and orders nothing until it is started with --accept-loss", s.Lost))
	}
	out = append(out, n.losses()...)
	if s.ClockHeld {
		out = append(out, "this machine's clock jumped; expiry is held until it is confirmed")
	}
	if s.Err != nil {
		out = append(out, "the disk failed: nothing is accepted until a restart: "+s.Err.Error())
	}
	if s.DamagedCount > 0 {
		out = append(out, fmt.Sprintf("%d stored records are damaged; see entente doctor", s.DamagedCount))
	}
	if s.Full {
		out = append(out, "the disk is full: only fetching and acknowledging go on")
	}
	return out
}

func (c Config) level() (slog.Level, error) {
	var l slog.Level
	return l, l.UnmarshalText([]byte(c.LogLevel))
}

// hostOf is the host and port that links carry.
func hostOf(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}

// known reports whether an organization is a partner of ours, in whatever state.
func (n *Node) known(id wire.OrganizationID) bool {
	_, err := n.fed.Organization(id)
	return err == nil
}

// hubRooms counts the rooms that are ordered here.
func (n *Node) hubRooms() uint64 {
	ids, err := n.rooms.all()
	if err != nil {
		return 0
	}
	count := uint64(0)
	for _, id := range ids {
		if row, err := n.rooms.row(id); err == nil && row.Hub == n.org.ID {
			count++
		}
	}
	return count
}
