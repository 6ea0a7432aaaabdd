package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/store"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// bucket is the deadline bucket of the nodes, and retention how long they keep what
// nobody fetches.
const (
	bucket    = 30 * time.Second
	retention = 20 * time.Minute
)

var passphrase = []byte("simulated")

// world is one run: a network, its nodes and its devices, and what they were shown.
type world struct {
	seed   uint64
	rng    *rand.Rand // of the schedule; used by the run's own goroutine alone
	root   string
	began  time.Time
	net    *network
	fabric *fabric
	sites  []*site
	people []*person
	ledger *ledger

	linkedTo []*person // further devices of people
	logs     *lines
	copies   int
}

// bootClock goes by the bubble's clock.
type bootClock struct{ began time.Time }

func (bootClock) Now() time.Time        { return time.Now() }
func (c bootClock) Boot() time.Duration { return time.Since(c.began) }

// skewed is a clock that a machine's owner has set otherwise.
type skewed struct {
	bootClock
	skew *atomic.Int64
}

func (c skewed) Now() time.Time { return c.bootClock.Now().Add(time.Duration(c.skew.Load())) }

func newWorld(seed uint64, root string) *world {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x5eed)), root: root, began: time.Now(),
		net: newNetwork(seed), ledger: newLedger(seed), logs: &lines{}}
	w.fabric = &fabric{net: w.net, hosts: make(map[peer.ID]*simHost), faces: make(map[peer.ID]*simHost), sees: make(map[string]bool)}
	return w
}

// site is an organization: its node, run from a folder.
type site struct {
	w        *world
	name     string
	dir      string
	node     *node.Node
	stop     func() error
	alter    func(protocol.ID, []byte) [][]byte // of a hostile node
	face     string                             // of the second node of an organization: before its addresses
	gossips  bool
	set      func(*node.Config) // nil: nothing is set otherwise
	skew     atomic.Int64       // of its clock: nanoseconds
	before   []string           // folders of lives that a kill ended
	stale    string             // an earlier copy that the next kill goes back to
	operator ententev1connect.OperatorServiceClient
	calls    *http.Transport
}

// config of an organization's node. Its names stand for addresses.
func config(name string) node.Config {
	c := node.DefaultConfig()
	c.Listen, c.Federation = name+":8443", []string{"/dns4/" + name + "/tcp/4801"}
	c.Bucket, c.Retention, c.TrustClock, c.LogLevel = bucket, retention, true, "warn"
	return c
}

// prepare makes the folders of organizations once, for all runs: who they are is the
// same in every run. It has to be called in a bubble, so that the dates of what is
// signed are those of the runs.
func prepare(root string, names ...string) error {
	for _, name := range names {
		dir := filepath.Join(root, name)
		if _, err := node.Init(dir, name, passphrase, config(name)); err != nil {
			return err
		}
		path := filepath.Join(dir, node.KeysFile)
		sealed, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		plain, err := identity.Unseal(passphrase, sealed, "entente.im/node-keys/v1")
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, sealCheaply(plain, "entente.im/node-keys/v1"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sealCheaply is identity.Seal at the lowest cost that identity.Unseal takes (RFC 9106
// §3.1): a run opens some forty sealed files. Salt and nonce are zeros.
func sealCheaply(plain []byte, label string) []byte {
	b := []byte("entente-sealed-v1\n")
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, 8)
	b = append(b, 1)
	b = append(b, make([]byte, 16+chacha20poly1305.NonceSizeX)...)
	key := argon2.IDKey(passphrase, make([]byte, 16), 1, 8, 1, chacha20poly1305.KeySize)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	header := append([]byte(nil), b...)
	return aead.Seal(b, nonce, plain, append(header, label...))
}

// site copies an organization's folder and starts its node.
func (w *world) site(templates, name string, alter func(protocol.ID, []byte) [][]byte) (*site, error) {
	s := &site{w: w, name: name, dir: filepath.Join(w.root, name), alter: alter}
	if err := os.CopyFS(s.dir, os.DirFS(filepath.Join(templates, name))); err != nil {
		return nil, err
	}
	w.sites = append(w.sites, s)
	return s, s.start()
}

// start opens the node on its folder and runs it.
func (s *site) start() error {
	newHost := s.w.fabric.newHost(s.name, s.alter)
	if s.face != "" {
		newHost = s.w.fabric.newFace(s.name, s.alter)
	}
	n, err := node.Open(context.Background(), node.Options{
		Dir: s.dir, Passphrase: passphrase, Version: "sim", LogOutput: s.w.logs, Clock: skewed{bootClock{s.w.began}, &s.skew},
		Configure: func(c *node.Config) {
			l := &c.Limits
			l.DeviceRate, l.DeviceBurst, l.PartnerRate, l.PartnerBurst, l.PartnerBytes = 10_000, 10_000, 10_000, 10_000, 1<<30
			if s.set != nil {
				s.set(c)
			}
		},
		Listen:  func(_, addr string) (net.Listener, error) { return s.w.net.listen(s.name, s.face+addr) },
		NewHost: newHost, HostGossips: s.gossips,
		Store: func(o *store.Options) { o.SegmentSize, o.Reserve = store.MinSegmentSize, -1 },
	})
	if err != nil {
		return fmt.Errorf("sim: %s: %w", s.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	s.node = n
	door := filepath.Join(s.dir, node.OperatorSocket)
	s.calls = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.w.net.dial(ctx, s.name, s.face+door)
	}}
	s.operator = ententev1connect.NewOperatorServiceClient(&http.Client{Transport: s.calls}, "http://operator")
	s.stop = func() error {
		s.calls.CloseIdleConnections()
		cancel()
		return errors.Join(<-ran, n.Close())
	}
	return nil
}

// halt stops the node in order.
func (s *site) halt() error {
	if s.stop == nil {
		return nil
	}
	stop := s.stop
	s.stop, s.operator = nil, nil
	return stop()
}

// kill ends the node as a kill does: its connections are gone, and what it goes on from
// is its files as they were at that moment. Nothing of what it does afterwards counts.
func (s *site) kill() error {
	if s.stop == nil {
		return nil
	}
	synctest.Wait()
	next, err := s.w.snapshot(s.dir)
	if err != nil {
		return err
	}
	if s.stale != "" { // a broken disk, for a check of the checks
		next = s.stale
	}
	s.before = append(s.before, s.dir)
	s.w.net.isolate(s.name)
	s.w.fabric.isolate(s.name)
	_ = s.halt() // whatever it says: it does not live any more
	s.dir = next
	return nil
}

// snapshot copies a folder.
func (w *world) snapshot(dir string) (string, error) {
	w.copies++
	base := strings.SplitN(filepath.Base(dir), "~", 2)[0]
	next := filepath.Join(filepath.Dir(dir), fmt.Sprintf("%s~%d", base, w.copies))
	return next, copyFiles(next, dir)
}

// copyFiles copies a folder's regular files; a lock belongs to its process.
func copyFiles(to, from string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
}

// agree makes two organizations partners.
func agree(ctx context.Context, a, b *site) error {
	invited, err := a.operator.InvitePartner(ctx, connect.NewRequest(&pb.InvitePartnerRequest{Name: b.name, Contact: "open"}))
	if err != nil {
		return fmt.Errorf("sim: %s invites: %w", a.name, err)
	}
	if _, err := b.operator.AcceptPartner(ctx, connect.NewRequest(&pb.AcceptPartnerRequest{Token: invited.Msg.Token})); err != nil {
		return fmt.Errorf("sim: %s accepts: %w", b.name, err)
	}
	return nil
}

// lines collects what nodes log, for a run that fails.
type lines struct {
	mu sync.Mutex
	b  []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.b) < 1<<20 {
		l.b = append(l.b, b...)
	}
	return len(b), nil
}
