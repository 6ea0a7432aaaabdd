package device

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/device/home"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Suite is the cipher suite of rooms for which none is named.
const Suite = mls.SuiteX25519AES128

// account is who this device is; meta record "account".
type account struct {
	Organization wire.OrganizationID
	OrgName      string
	Member       wire.MemberID
	Name         string
	DeviceKey    ed25519.PrivateKey
	MemberKey    ed25519.PrivateKey
	Genesis      string // note
	Reset        string `json:",omitempty"` // note: the half of a reset, while enrolment is not confirmed
	Certificate  string // note of the device certificate
	Hash         [32]byte
	URL          string
	Pin          wire.DeviceID
	Web          bool   // the node's TLS is that of a web CA
	Link         string // while enrolment is not confirmed; holds the secret
	Enroled      bool
}

const accountKey = "account"

// Device is an open device. Its methods may be called at once; those that change
// state are serialized.
type Device struct {
	vault   *vault
	account account
	home    *home.Home
	dial    home.DialFunc // nil: the machine's network
	signer  ed25519.PrivateKey
	chains  *chains
	now     func() time.Time

	mu    lock // guards all below and every write to the vault
	rooms map[wire.RoomID]*room
	// outcomes are the hub's answers to Commits that somebody waits for, by counter.
	outcomes map[uint64]*pb.Status
	events   chan struct{} // poked when something to show was stored
	// opened is the submission counter that the files had; compared, that the node had
	// no higher one.
	guards    map[wire.RoomID]guard // what holdsFormer found
	onCode    func(code string)
	onSession atomic.Pointer[func(state, reason string)]
	clockOff  atomic.Bool // what was said last: compareClock
	opened    uint64
	compared  bool
	submitted uint64        // the highest counter of a message that has left
	overtook  uint64        // the highest counter of a handshake (counters.go)
	untaken   []untaken     // mailbox numbers below the mark that were not taken yet: waits.go
	slow      slow          // who is not asked now
	ahead     time.Duration // the home node's clock, of ours
	looked    time.Time     // when complaints were looked after: undecided

	agreements watch
	blocked    blocked
	verified   map[string]*verifiedRow // by address
	mustVerify bool                    // the own organization wants people of others verified
	looks      looks
	resolved   map[wire.Address]resolved // what the home node said a moment ago
	askSelf    bool                      // own KeyPackages, keys or devices have changed: upkeep
}

// Option of Open and Enroll.
type Option func(*Device)

// Dialing has the device reach its home node by dial instead of the machine's network.
func Dialing(dial home.DialFunc) Option { return func(d *Device) { d.dial = dial } }

// Open opens an enrolled device.
func Open(dir string, passphrase []byte, options ...Option) (*Device, error) {
	d, err := openFolder(dir, passphrase, options)
	if err != nil {
		return nil, err
	}
	if !d.account.Enroled {
		d.Close()
		return nil, fmt.Errorf("%w: %s (enrolment was not finished: repeat it with the same link)", ErrNotEnroled, dir)
	}
	if err := d.vault.rotateIfOld(); err != nil {
		d.Close()
		return nil, err
	}
	if err := errors.Join(d.loadRooms(), d.loadUntaken()); err != nil {
		d.Close()
		return nil, err
	}
	if err := errors.Join(d.sweep(), d.loadBlocked()); err != nil {
		d.Close()
		return nil, err
	}
	gone, err := d.expireMLS()
	if gone {
		err = d.vault.rotate()
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	err = d.vault.view(func(t *txn) (err error) { d.opened, err = t.number(counterName); return err })
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func openFolder(dir string, passphrase []byte, options []Option) (*Device, error) {
	v, err := openVault(dir, passphrase, time.Now)
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory() // what Argon2id took
	d := &Device{vault: v, mu: make(lock, 1), now: time.Now, rooms: make(map[wire.RoomID]*room), outcomes: make(map[uint64]*pb.Status), guards: make(map[wire.RoomID]guard), events: make(chan struct{}, 1)}
	for _, set := range options {
		set(d)
	}
	err = v.view(func(t *txn) error { return t.metaJSON(accountKey, &d.account) })
	if err != nil && !errors.Is(err, errNoRecord) {
		v.close()
		return nil, err
	}
	if err := d.loadVerified(); err != nil {
		v.close()
		return nil, err
	}
	d.signer = d.account.DeviceKey
	if err == nil {
		err = d.connect()
	} else {
		err = nil
	}
	if err != nil {
		v.close()
	}
	return d, err
}

// OnSession sets what is called when the way to the home node changes: "calls" when no
// WebSocket gets through (reason) and "websocket" when one does again; for a device that
// stays, also "offline" (reason) and "online". It is called from the session's goroutines
// and must not block; nil: nobody is told.
func (d *Device) OnSession(tell func(state, reason string)) { d.onSession.Store(&tell) }

func (d *Device) tellSession(state string, why error) {
	tell := d.onSession.Load()
	if tell == nil || *tell == nil {
		return
	}
	reason := ""
	if why != nil {
		reason = why.Error()
	}
	(*tell)(state, reason)
}

func (d *Device) detoured(why error) {
	if why == nil {
		d.tellSession("websocket", nil)
		return
	}
	d.tellSession("calls", why)
}

func (d *Device) connect() (err error) {
	d.home, err = home.New(home.Options{URL: d.account.URL, Pin: d.account.Pin, WebPKI: d.account.Web, Key: d.account.DeviceKey, Detour: d.detoured, Dial: d.dial})
	d.chains = &chains{d: d}
	return err
}

// Close closes the device's files.
func (d *Device) Close() {
	if d.home != nil {
		d.home.Close()
	}
	d.vault.close()
}

// Home is the client of the home node, for programs that measure what lies below MLS. What
// is submitted through it bypasses this device's own counter.
func (d *Device) Home() *home.Home { return d.home }

// Mark is the highest number of its mailbox that this device has stored.
func (d *Device) Mark() uint64 { return d.mark() }

// ID is the device's ID.
func (d *Device) ID() wire.DeviceID {
	return wire.DeviceID(d.account.DeviceKey.Public().(ed25519.PublicKey))
}

// Address is the member's address.
func (d *Device) Address() wire.Address {
	return wire.Address{Name: d.account.Name, Organization: d.account.OrgName}
}

func (d *Device) credential() mls.Credential {
	c := wire.Credential{Organization: d.account.Organization, Member: d.account.Member, Device: d.ID(), Certificate: d.account.Hash}
	return mls.Credential{Type: mls.CredentialEntente, Identity: c.Encode()}
}

func (d *Device) config() group.Config {
	return group.Config{Validator: d.chains, Signer: d.signer, Now: func() time.Time { return d.now() }}
}

// Enroll makes this folder a device of the member that the link is for. The keys
// are stored before the node is asked, so that a lost answer costs nothing: repeat
// the call with the same link.
func Enroll(ctx context.Context, dir string, passphrase []byte, text string, options ...Option) (*Device, error) {
	link, err := identity.ParseLink(text)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, masterFile)); errors.Is(err, os.ErrNotExist) {
		if err := createVault(dir, passphrase); err != nil {
			return nil, err
		}
	}
	d, err := openFolder(dir, passphrase, options)
	if err != nil {
		return nil, err
	}
	if err := d.enroll(ctx, link, text); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Device) enroll(ctx context.Context, link identity.Link, text string) error {
	if d.account.Enroled {
		return fmt.Errorf("device: this folder is a device of %s already: name another one", d.Address())
	}
	if link.Device {
		return d.join(ctx, link, text)
	}
	client, err := home.New(home.Options{URL: "https://" + link.Host, Pin: link.Pin, WebPKI: link.Web, Dial: d.dial})
	if err != nil {
		return err
	}
	defer client.Close()
	id := link.ID()
	described, err := client.Describe(ctx, id[:])
	if err != nil {
		return err
	}
	org, err := identity.VerifyManifests(described.Manifests, wire.OrganizationID{})
	if err != nil {
		return err
	}
	if !slices.Contains(org.Names(), link.Organization) || described.Name != link.Name {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the node belongs to %s, the link to %s", org.Manifest.Name, link.Organization)
	}
	if _, err := identity.VerifyNodeCertificate(described.NodeCertificate, org, link.Pin, d.now()); err != nil {
		return err
	}
	if d.account.Link != text || !d.account.certified(d.now()) {
		if err := d.prepare(org, link, text, described.Reset_); err != nil {
			return err
		}
	}
	failpoint("enroll-prepared")
	genesis := d.account.Genesis
	if d.account.Reset != "" {
		genesis = "" // the directory has it
	}
	answer, err := client.Enroll(ctx, &pb.EnrollRequest{LinkId: id[:], Secret: link.Secret[:], Genesis: genesis, Reset_: d.account.Reset, Device: d.account.Certificate})
	if err != nil {
		return err
	}
	failpoint("enroll-answered")
	return d.confirm(ctx, answer)
}

// prepare makes and stores the keys of a new member and device, or, of a member who is reset,
// the new ones.
func (d *Device) prepare(org *identity.Organization, link identity.Link, text string, reset *pb.MemberChain) error {
	a := account{Organization: org.ID, OrgName: org.Manifest.Name, Name: link.Name, URL: "https://" + link.Host, Pin: link.Pin, Web: link.Web, Link: text}
	var err error
	if _, a.DeviceKey, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	if _, a.MemberKey, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	now := d.now()
	if reset != nil {
		err = a.comeBack(org, link, reset, now)
	} else {
		a.Genesis, a.Member, err = identity.NewGenesis(org.ID, link.Name, a.MemberKey, now)
	}
	if err != nil {
		return err
	}
	device := wire.DeviceID(a.DeviceKey.Public().(ed25519.PublicKey))
	c, err := identity.SignDeviceCertificate(org.ID, a.Member, device, a.MemberKey, now)
	if err != nil {
		return err
	}
	a.Certificate, a.Hash = c.Note, c.Hash
	d.account, d.signer = a, a.DeviceKey
	return d.vault.update(func(t *txn) error {
		if err := t.putMetaJSON(pinKey(org.Manifest.Name), org.ID); err != nil {
			return err
		}
		return t.putMetaJSON(accountKey, a)
	})
}

// certified reports whether the certificate that was prepared is in force. One that was signed
// when this machine's clock was far ahead no node has taken; it is signed anew.
func (a *account) certified(now time.Time) bool {
	if len(a.MemberKey) == 0 {
		return false
	}
	c, err := identity.VerifyDeviceCertificate(a.Certificate, a.Member, a.MemberKey.Public().(ed25519.PublicKey))
	return err == nil && c.InForce(now)
}

// comeBack makes this the account of a member who is reset: the member's ID with a new key.
func (a *account) comeBack(org *identity.Organization, link identity.Link, reset *pb.MemberChain, now time.Time) error {
	m, err := identity.VerifyChain(reset, org.ID, now)
	if err != nil {
		return err
	}
	if m.Name != link.Name {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the link is for %s, and would reset %s", link.Name, m.Address())
	}
	a.Member, a.Genesis = m.ID, reset.Genesis
	a.Reset, err = identity.SignReset(m, a.MemberKey, identity.Rotation{Issued: now})
	return err
}

// confirm checks the node's answer against what was sent, stores it, and publishes
// KeyPackages.
func (d *Device) confirm(ctx context.Context, answer *pb.EnrollResponse) error {
	m, err := identity.VerifyChain(answer.Chain, d.account.Organization, d.now())
	if err != nil {
		return err
	}
	c := wire.Credential{Organization: d.account.Organization, Member: d.account.Member, Device: d.ID(), Certificate: d.account.Hash}
	if err := identity.CheckCredential(c, c.Device[:], m, d.now()); err != nil {
		return err
	}
	if err := d.connect(); err != nil {
		return err
	}
	d.account.Enroled, d.account.Link, d.account.Reset = true, "", ""
	if err := d.vault.update(func(t *txn) error { return t.putMetaJSON(accountKey, d.account) }); err != nil {
		return err
	}
	failpoint("enroll-confirmed")
	return d.replenish(ctx)
}

// Account asks the home node how it sees this device, and looks up the own member as
// others do (Alarms).
func (d *Device) Account(ctx context.Context) (*pb.AccountResponse, error) {
	a, err := call(ctx, d.home.Device.Account, &pb.AccountRequest{})
	if err == nil {
		err = d.watch(ctx, a.Chain)
	}
	return a, err
}
