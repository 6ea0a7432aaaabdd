package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// chains is the device's seat as MLS's authentication service: it lets a leaf in
// when its member's whole certificate chain, from the organization ID that this
// device remembers, stands and names the leaf's device, certificate and key
// (docs/protocol.md 1.5). It never waits for the network: what it misses it says,
// the caller fetches that and tries again.
type chains struct {
	d       *Device
	mu      sync.Mutex
	members map[memberKey]*identity.Member
	asked   map[askedFor]time.Time
	changes uint64 // counts what was learned
}

// askedFor is what a member's chain was fetched anew for: the hash of a certificate, or of a
// revocation.
type askedFor struct {
	memberKey
	hash [32]byte
}

type memberKey struct {
	Org    wire.OrganizationID
	Member wire.MemberID
}

// chainNeeded says whose chain is missing, or for what one is to be fetched anew.
type chainNeeded struct{ askedFor }

func needed(k memberKey) error { return &chainNeeded{askedFor{memberKey: k}} }

func (e *chainNeeded) Error() string { return "device: the certificates of a member are needed" }

// ErrIdentityChanged says that a name stands for another organization than before.
var ErrIdentityChanged = errors.New("device: the organization behind this name is another than before")

func pinKey(org string) string { return "pin/" + org }

func nameKey(a wire.Address) string { return "name/" + a.String() }

func chainKey(k memberKey) []byte {
	return append(append([]byte("chain/"), k.Org[:]...), k.Member[:]...)
}

// ValidateLeaf implements mls.CredentialValidator.
func (c *chains) ValidateLeaf(check mls.LeafCheck) error {
	cred, err := policy.CheckLeaf(check)
	if err != nil {
		return err
	}
	m, err := c.get(memberKey{cred.Organization, cred.Member})
	if err != nil {
		return err
	}
	err = identity.CheckCredential(cred, check.New.SignatureKey, m, c.d.now())
	if _, known := m.Devices[cred.Device]; err != nil && (!known || m.Devices[cred.Device].Hash != cred.Certificate) && !revoked(m, cred.Device) {
		if err := c.ask(askedFor{memberKey{cred.Organization, cred.Member}, cred.Certificate}); err != nil {
			return err // newer than what we know
		}
	}
	if err != nil {
		return c.former(check, cred, m, err)
	}
	return nil
}

func revoked(m *identity.Member, d wire.DeviceID) bool {
	for _, r := range m.Revoked {
		if r == d {
			return true
		}
	}
	return false
}

// ValidateExtensions implements mls.ExtensionsValidator.
func (c *chains) ValidateExtensions(_ []byte, old, next []mls.Extension) error {
	return policy.CheckExtensions(old, next)
}

// get returns a verified member from memory or the vault.
func (c *chains) get(k memberKey) (*identity.Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[k]; m != nil {
		return m, nil
	}
	var raw []byte
	err := c.d.vault.view(func(t *txn) (err error) { raw, err = t.meta(chainKey(k)); return err })
	if err != nil {
		return nil, needed(k)
	}
	var chain pb.MemberChain
	if proto.Unmarshal(raw, &chain) != nil {
		return nil, needed(k)
	}
	m, err := identity.VerifyChain(&chain, k.Org, c.d.now())
	if err != nil || m.ID != k.Member {
		return nil, needed(k)
	}
	c.keep(k, m)
	return m, nil
}

func (c *chains) keep(k memberKey, m *identity.Member) {
	if c.members == nil || len(c.members) > 10_000 {
		c.members = make(map[memberKey]*identity.Member)
	}
	c.members[k] = m
}

// refetch is how long an answer that does not bear something out is taken for the last word.
const refetch = 10 * time.Second

// ask returns a chainNeeded for something that the chain we have does not bear out, and nil
// when the member's organization was just asked for the same.
func (c *chains) ask(k askedFor) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.d.now()
	if since := now.Sub(c.asked[k]); since >= 0 && since <= refetch {
		return nil
	}
	if c.asked == nil || len(c.asked) >= 10_000 {
		c.asked = make(map[askedFor]time.Time)
	}
	c.asked[k] = now
	return &chainNeeded{k}
}

// unanswered has the same asked for again at once: nobody has said anything to it.
func (c *chains) unanswered(k askedFor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, k)
}

// fetch gets a member's chain from the home node and stores it when it stands.
func (d *Device) fetch(ctx context.Context, k memberKey) (*identity.Member, error) {
	a, err := call(ctx, d.home.Device.Chain, &pb.ChainRequest{Organization: k.Org[:], Member: k.Member[:]})
	if err != nil {
		return nil, err
	}
	m, err := d.learn(k.Org, a.Chain)
	if err == nil && m.ID != k.Member {
		err = errors.New("device: the chain of another member")
	}
	return m, err
}

// learned is a chain that stands.
type learned struct {
	memberKey
	member *identity.Member
	known  *identity.Member // what it follows; nil: the first that we see
	raw    []byte
	head   *identity.Checkpoint // that the record was proved with; nil: it was not
	at     time.Time
}

// learn verifies and stores a chain. The organization's name is pinned to its ID: a
// name that comes with another ID than before is refused.
func (d *Device) learn(org wire.OrganizationID, chain *pb.MemberChain) (*identity.Member, error) {
	l, err := d.verifyChain(org, chain)
	if err != nil {
		return nil, err
	}
	if err := d.vault.update(func(t *txn) error { return t.putChain(l) }); err != nil {
		return nil, err
	}
	d.chains.learned(l)
	return l.member, nil
}

// learnAll verifies and stores what stands of many chains, in one transaction.
func (d *Device) learnAll(keys []memberKey, chains []*pb.MemberChain) {
	var stand []*learned
	for i, chain := range chains {
		if chain == nil {
			continue
		}
		if l, err := d.verifyChain(keys[i].Org, chain); err == nil && l.memberKey == keys[i] {
			stand = append(stand, l)
		}
	}
	stored := stand[:0]
	err := d.vault.update(func(t *txn) error {
		for _, l := range stand {
			switch err := t.putChain(l); {
			case err == nil:
				stored = append(stored, l)
			case !errors.Is(err, ErrIdentityChanged) && !errors.Is(err, ErrForked):
				return err
			}
		}
		return nil
	})
	if err == nil {
		d.chains.learned(stored...)
	}
}

func (d *Device) verifyChain(org wire.OrganizationID, chain *pb.MemberChain) (*learned, error) {
	m, err := identity.VerifyChain(chain, org, d.now())
	if err != nil {
		return nil, err
	}
	head, err := d.checkCurrency(m, chain)
	if err != nil {
		return nil, err
	}
	lasting := proto.CloneOf(chain)
	lasting.Currency = nil // of one moment
	raw, err := proto.Marshal(lasting)
	if err != nil {
		return nil, fmt.Errorf("device: a chain: %w", err)
	}
	k := memberKey{org, m.ID}
	known, err := d.chains.get(k)
	if err != nil {
		return &learned{k, m, nil, raw, head, d.now()}, nil
	}
	if err := m.Supersedes(known); err != nil {
		return nil, err
	}
	return &learned{k, m, known, raw, head, d.now()}, nil
}

func (t *txn) putChain(l *learned) error {
	var pinned wire.OrganizationID
	name := l.member.Organization.Manifest.Name
	switch b, err := t.meta([]byte(pinKey(name))); {
	case errors.Is(err, errNoRecord):
		if err := t.putMetaJSON(pinKey(name), l.Org); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(b, &pinned); err != nil {
			return err
		}
		if pinned != l.Org {
			if err := t.givenUp(name, pinned, l.at); err != nil {
				return err
			}
			if err := t.putMetaJSON(pinKey(name), l.Org); err != nil {
				return err
			}
		}
	}
	if err := t.noteChanges(l); err != nil {
		return err
	}
	if err := t.putMetaJSON(nameKey(l.member.Address()), l.memberKey); err != nil {
		return err
	}
	if l.known != nil {
		if err := t.noteFormer(l.known, l.member); err != nil {
			return err
		}
	}
	if err := t.keepProof(l); err != nil {
		return err
	}
	return t.putMeta(chainKey(l.memberKey), l.raw)
}

// givenUp refuses a name that stands for another organization than before, unless that one
// has called itself otherwise for so long that nobody finds it under this name any more.
func (t *txn) givenUp(name string, by wire.OrganizationID, now time.Time) error {
	var called orgNameRow
	if err := t.metaJSON(orgNameKey(by), &called); err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	if called.Name == "" || called.Name == name || now.Before(called.Issued.Add(identity.FormerName)) {
		return fmt.Errorf("%w: %s", ErrIdentityChanged, name)
	}
	return nil
}

func (c *chains) learned(list ...*learned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range list {
		c.keep(l.memberKey, l.member)
		c.changes++
	}
}

// remembered is the member behind an address as this device last knew it: good for
// writing on in a room that exists while the partner cannot be asked.
func (d *Device) remembered(a wire.Address) (*identity.Member, error) {
	var k memberKey
	if err := d.vault.view(func(t *txn) error { return t.metaJSON(nameKey(a), &k) }); err != nil {
		return nil, err
	}
	if d.roomWith(k) == nil {
		return nil, errNoRecord
	}
	return d.chains.get(k)
}

// withChains runs f and fetches what its validation misses, as often as it takes.
func (d *Device) withChains(ctx context.Context, f func() error) error {
	for range wire.MaxRoomDevices {
		err := f()
		var organization *organizationNeeded
		if errors.As(err, &organization) {
			if err := d.fetchOrganization(ctx, organization.Org); err != nil {
				d.chains.unanswered(organization.askedFor)
				return err
			}
			continue
		}
		var need *chainNeeded
		if !errors.As(err, &need) {
			return err
		}
		if _, err := d.fetch(ctx, need.memberKey); err != nil {
			d.chains.unanswered(need.askedFor)
			return err
		}
	}
	return errors.New("device: certificates did not come to an end")
}
