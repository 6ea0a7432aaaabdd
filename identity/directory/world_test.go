package directory

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handClock is moved by hand.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is an organization with its directory over a real store.
type world struct {
	t     testing.TB
	dir   string
	clock *handClock
	org   *identity.Organization
	root  *identity.RootKeys
	keys  *identity.NodeKeys
	store *store.Store
	*Directory
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &handClock{now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}}
	var err error
	w.root, w.keys, err = identity.NewKeys()
	w.must(err)
	w.org, _, err = identity.CreateOrganization(identity.Creation{Name: "acme.example", Root: w.root, Keys: w.keys, Now: w.clock.Now()})
	w.must(err)
	w.open()
	t.Cleanup(func() { w.store.Close() })
	return w
}

func (w *world) openStore() {
	w.t.Helper()
	var err error
	w.store, err = store.Open(context.Background(), store.Options{Dir: w.dir, SealKey: w.keys.Store, Bucket: 5 * time.Second, TrustClock: true,
		SegmentSize: 4 << 20, Slack: 1 << 20, Reserve: -1})
	w.must(err)
}

func (w *world) openDirectory() (*Directory, error) {
	return Open(context.Background(), w.store, Options{Organization: w.org, Directory: w.keys.Directory, VRF: w.keys.VRF, Clock: w.clock})
}

func (w *world) open() {
	w.t.Helper()
	w.openStore()
	var err error
	w.Directory, err = w.openDirectory()
	w.must(err)
}

// restart closes the store and opens everything from disk.
func (w *world) restart() {
	w.t.Helper()
	w.must(w.store.Close())
	w.open()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(name string) CreatedLink {
	w.t.Helper()
	l, err := w.CreateLink(context.Background(), name, wire.LinkLifetime)
	w.must(err)
	return l
}

// person is a member with key and device.
type person struct {
	id     wire.MemberID
	key    ed25519.PrivateKey
	device wire.DeviceID
	enrol  Enrolment
}

// applicant makes what a device hands over when it redeems a link.
func (w *world) applicant(name string, secret [32]byte) *person {
	w.t.Helper()
	p := &person{key: newKey(w.t)}
	p.device = wire.DeviceID(newKey(w.t).Public().(ed25519.PublicKey))
	genesis, id, err := identity.NewGenesis(w.org.ID, name, p.key, w.clock.Now())
	w.must(err)
	c, err := identity.SignDeviceCertificate(w.org.ID, id, p.device, p.key, w.clock.Now())
	w.must(err)
	p.id, p.enrol = id, Enrolment{Secret: secret, Genesis: genesis, Device: c.Note}
	return p
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// enrolled is a member who has redeemed a link.
func (w *world) enrolled(name string) *person {
	w.t.Helper()
	p := w.applicant(name, w.link(name).Secret)
	_, err := w.Enroll(context.Background(), p.enrol, nil)
	w.must(err)
	return p
}

// packages are n distinguishable opaque KeyPackages.
func packages(n int, tag byte) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = binary.BigEndian.AppendUint32([]byte{tag}, uint32(i))
	}
	return out
}

// code fails unless err carries this status.
func code(t testing.TB, err error, want pb.Code) {
	t.Helper()
	var s *wire.StatusError
	if !errors.As(err, &s) || s.Status.Code != want {
		t.Errorf("answered %v, want %s", err, wire.CodeName(want))
	}
}

// Publish, KeyPackages and Claim are those of the first suite.
func (w *world) Publish(c context.Context, device wire.DeviceID, one [][]byte, last []byte, replace bool) (int, error) {
	stock, err := w.Directory.Publish(c, device, []Offer{{Suite: FirstSuite, OneTime: one, LastResort: last}}, replace)
	return stock[FirstSuite], err
}

func (w *world) KeyPackages(device wire.DeviceID) int {
	return w.Directory.KeyPackages(device, FirstSuite)
}

func (w *world) Claim(c context.Context, from wire.OrganizationID, requester []byte, member wire.MemberID) ([]*pb.ClaimedKeyPackage, error) {
	return w.Directory.Claim(c, from, requester, member, FirstSuite)
}
