package directory

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

const (
	linkPrefix = "ln/"
	// maxLinks bounds the links that wait, so that nobody fills the disk with them.
	maxLinks = 10_000
	linkPage = 1_000
)

// linkRow is an enrolment link on disk: a hash of its secret, never the secret.
type linkRow struct {
	Version int       `json:"version"`
	Hash    []byte    `json:"hash"`
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"`
	State   string    `json:"state"`             // open, used, revoked
	Genesis string    `json:"genesis,omitempty"` // of the member that used it; of a reset, the new key's half
	Reset   []byte    `json:"reset,omitempty"`   // the member that is reset by it
}

// LinkInfo is what an operator sees of a link.
type LinkInfo struct {
	ID      [16]byte
	Name    string
	Expires time.Time
	State   string         // open, used, revoked, expired
	Reset   *wire.MemberID // who is reset by it; nil: it makes a new member
}

// CreatedLink is a new link; only here its secret is known.
type CreatedLink struct {
	LinkInfo
	Secret [32]byte
}

func linkKey(id [16]byte) []byte { return append([]byte(linkPrefix), id[:]...) }

// CreateLink makes an enrolment link for a name that nobody has: one use, for ttl.
func (d *Directory) CreateLink(ctx context.Context, name string, ttl time.Duration) (CreatedLink, error) {
	if err := wire.CheckMemberName(name); err != nil {
		return CreatedLink{}, wire.Refuse(pb.Code_CODE_MALFORMED, "%v", err)
	}
	if ttl <= 0 || ttl > wire.LinkLifetime {
		return CreatedLink{}, wire.Refuse(pb.Code_CODE_MALFORMED, "a link is good for at most %s", wire.LinkLifetime)
	}
	d.write.Lock()
	defer d.write.Unlock()
	if _, err := d.Lookup(name); err == nil {
		return CreatedLink{}, wire.Refuse(pb.Code_CODE_NAME_TAKEN, "%s is a member already", name)
	}
	return d.createLink(ctx, linkRow{Name: name}, ttl)
}

// createLink makes a link; d.write is held.
func (d *Directory) createLink(ctx context.Context, row linkRow, ttl time.Duration) (CreatedLink, error) {
	if err := d.roomForLink(ctx); err != nil {
		return CreatedLink{}, err
	}
	var l CreatedLink
	if _, err := rand.Read(l.Secret[:]); err != nil {
		return l, fmt.Errorf("directory: randomness: %w", err)
	}
	hash := identity.LinkHash(l.Secret)
	row.Version, row.Hash, row.State = rowVersion, hash[:], "open"
	row.Expires = d.opts.Clock.Now().Add(ttl).UTC().Truncate(time.Second)
	l.LinkInfo = d.info(identity.LinkID(l.Secret), row)
	err := d.putLink(ctx, l.ID, row)
	if err == nil {
		d.waiting.open[l.ID] = l.Expires
	}
	return l, err
}

func (d *Directory) putLink(ctx context.Context, id [16]byte, row linkRow) error {
	var b store.Batch
	if err := addLink(&b, id, row); err != nil {
		return err
	}
	_, err := d.store.Commit(ctx, &b)
	return err
}

func addLink(b *store.Batch, id [16]byte, row linkRow) error {
	v, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("directory: a link: %w", err)
	}
	b.Put(linkKey(id), v)
	return nil
}

func (d *Directory) link(id [16]byte) (linkRow, error) {
	var row linkRow
	b, err := d.store.Get(linkKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return row, wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "")
	}
	if err == nil {
		err = json.Unmarshal(b, &row)
	}
	if err != nil {
		return row, fmt.Errorf("directory: a link: %w", err)
	}
	return row, nil
}

// usable says why a link does not admit, if so.
func (d *Directory) usable(row linkRow) error {
	switch {
	case row.State == "revoked":
		return wire.Refuse(pb.Code_CODE_LINK_USED, "the link was revoked: ask for a new one")
	case row.State == "used":
		return wire.Refuse(pb.Code_CODE_LINK_USED, "")
	case !d.opts.Clock.Now().Before(row.Expires):
		return wire.Refuse(pb.Code_CODE_LINK_EXPIRED, "")
	}
	return nil
}

// DescribeLink tells the holder of a link's ID what it is for.
func (d *Directory) DescribeLink(id [16]byte) (LinkInfo, error) {
	row, err := d.link(id)
	if err != nil {
		return LinkInfo{}, err
	}
	return d.info(id, row), nil
}

func (d *Directory) info(id [16]byte, row linkRow) LinkInfo {
	state := row.State
	if state == "open" && !d.opts.Clock.Now().Before(row.Expires) {
		state = "expired"
	}
	out := LinkInfo{ID: id, Name: row.Name, Expires: row.Expires, State: state}
	if m, err := wire.Bytes32(row.Reset); err == nil {
		out.Reset = (*wire.MemberID)(&m)
	}
	return out
}

// Links lists all links.
func (d *Directory) Links() (out []LinkInfo, err error) {
	err = d.eachLink(func(l LinkInfo) { out = append(out, l) })
	return out, err
}

func (d *Directory) eachLink(f func(LinkInfo)) error {
	var after []byte
	for {
		page, err := d.store.Scan([]byte(linkPrefix), after, linkPage)
		if err != nil {
			return fmt.Errorf("directory: listing links: %w", err)
		}
		for _, kv := range page {
			var row linkRow
			if after = kv.Key; len(kv.Key) != len(linkPrefix)+16 || json.Unmarshal(kv.Value, &row) != nil {
				return errors.New("directory: a link that does not parse")
			}
			f(d.info([16]byte(kv.Key[len(linkPrefix):]), row))
		}
		if len(page) < linkPage {
			return nil
		}
	}
}

// RevokeLink makes a link useless; a used one stays used.
func (d *Directory) RevokeLink(ctx context.Context, id [16]byte) error {
	d.write.Lock()
	defer d.write.Unlock()
	row, err := d.link(id)
	if err != nil {
		return err
	}
	if row.State == "used" {
		return wire.Refuse(pb.Code_CODE_LINK_USED, "the link was used already: revoke the device instead")
	}
	row.State = "revoked"
	err = d.putLink(ctx, id, row)
	if err == nil {
		delete(d.waiting.open, id)
	}
	return err
}

// waiting are the links that still admit somebody, with their ends; under write.
type waiting struct {
	open  map[[16]byte]time.Time // nil: not read yet
	swept time.Time
}

// linkSweep is how often all links are gone over: an organization that enrols many people
// has many used ones, which stay for a month so that a lost answer can be asked for again.
const linkSweep = time.Hour

// roomForLink removes links that ended a month ago, and bounds those that wait.
func (d *Directory) roomForLink(ctx context.Context) error {
	now := d.opts.Clock.Now()
	if since := now.Sub(d.waiting.swept); d.waiting.open == nil || since >= linkSweep || since < 0 {
		if err := d.sweepLinks(ctx, now); err != nil {
			return err
		}
	}
	if len(d.waiting.open) < maxLinks {
		return nil
	}
	maps.DeleteFunc(d.waiting.open, func(_ [16]byte, ends time.Time) bool { return !now.Before(ends) })
	if n := len(d.waiting.open); n >= maxLinks {
		return wire.Refuse(pb.Code_CODE_FULL, "%d links wait: revoke some", n)
	}
	return nil
}

func (d *Directory) sweepLinks(ctx context.Context, now time.Time) error {
	open := make(map[[16]byte]time.Time)
	var b store.Batch
	err := d.eachLink(func(l LinkInfo) {
		switch {
		case now.Sub(l.Expires) > 30*24*time.Hour:
			b.Delete(linkKey(l.ID))
		case l.State == "open":
			open[l.ID] = l.Expires
		}
	})
	if err == nil && b.Len() > 0 {
		_, err = d.store.Commit(ctx, &b)
	}
	if err == nil {
		d.waiting = waiting{open, now}
	}
	return err
}

// Enrolment is what the holder of a link hands over.
type Enrolment struct {
	Secret      [32]byte
	Genesis     string   // note; of a reset none
	Reset       string   // note: the new key's half of a reset
	Device      string   // note
	KeyPackages [][]byte // of FirstSuite; checked by the caller
}

// Enroll redeems a link: the member, its first device, its KeyPackages and the
// link's use become durable in one transaction, with what also adds to it (nil:
// nothing). Repeating it with the same notes is a success, so that a lost answer
// can be asked for again.
func (d *Directory) Enroll(ctx context.Context, e Enrolment, also func(*store.Batch, wire.DeviceID)) (*pb.MemberChain, error) {
	d.write.Lock()
	defer d.write.Unlock()
	id := identity.LinkID(e.Secret)
	row, err := d.link(id)
	if err != nil {
		return nil, err
	}
	hash := identity.LinkHash(e.Secret)
	if subtle.ConstantTimeCompare(hash[:], row.Hash) != 1 {
		return nil, wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "")
	}
	if row.State == "used" && row.Genesis == e.Genesis+e.Reset { // one of the two is empty
		return d.enrolledBefore(e, row)
	}
	if err := d.usable(row); err != nil {
		return nil, err
	}
	rec, member, device, err := d.checkLinked(e, row)
	if err != nil {
		return nil, err
	}
	var b store.Batch
	shown, err := d.put(&b, *rec, *member)
	if err != nil {
		return nil, err
	}
	row.State, row.Genesis = "used", e.Genesis+e.Reset
	if err := addLink(&b, id, row); err != nil {
		return nil, err
	}
	for i, kp := range e.KeyPackages {
		d.putKeyPackage(&b, device, FirstSuite, uint64(i), kp)
	}
	if also != nil {
		also(&b, device)
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return nil, fmt.Errorf("directory: enrolling: %w", err)
	}
	shown()
	delete(d.waiting.open, id)
	return d.Chain(rec.Member)
}

// enrolledBefore answers a repetition: the chain, as long as the device is in it.
func (d *Directory) enrolledBefore(e Enrolment, row linkRow) (*pb.MemberChain, error) {
	id, err := wire.Bytes32(row.Reset)
	if err != nil {
		_, id, err = identity.VerifyGenesis(e.Genesis)
	}
	if err != nil {
		return nil, err
	}
	chain, err := d.Chain(id)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(chain.Devices, e.Device) {
		return nil, wire.Refuse(pb.Code_CODE_LINK_USED, "")
	}
	return chain, nil
}

// checkLinked makes the record, and what the member's row begins with, that an enrolment asks
// for by a link of either kind.
func (d *Directory) checkLinked(e Enrolment, row linkRow) (*identity.MemberRecord, *memberRow, wire.DeviceID, error) {
	if len(row.Reset) > 0 {
		return d.checkReset(e, row)
	}
	if e.Reset != "" {
		return nil, nil, wire.DeviceID{}, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the link is for a new member")
	}
	rec, device, err := d.checkEnrolment(e, row)
	return rec, &memberRow{Genesis: e.Genesis, Devices: []string{e.Device}}, device, err
}

// checkEnrolment verifies the notes against the link and makes the first record.
func (d *Directory) checkEnrolment(e Enrolment, row linkRow) (*identity.MemberRecord, wire.DeviceID, error) {
	g, member, err := identity.VerifyGenesis(e.Genesis)
	if err != nil || g.Organization != d.opts.Organization.ID {
		return nil, wire.DeviceID{}, wire.Refuse(pb.Code_CODE_MALFORMED, "a genesis record that does not stand")
	}
	if g.Name != row.Name {
		return nil, wire.DeviceID{}, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the link is for %s", row.Name)
	}
	if _, err := d.Lookup(g.Name); err == nil {
		return nil, wire.DeviceID{}, wire.Refuse(pb.Code_CODE_NAME_TAKEN, "%s is a member already", g.Name)
	}
	c, err := identity.VerifyDeviceCertificate(e.Device, member, g.Key)
	if err != nil || c.Organization != d.opts.Organization.ID || !c.InForce(d.opts.Clock.Now()) {
		return nil, wire.DeviceID{}, wire.Refuse(pb.Code_CODE_MALFORMED, "a device certificate that does not stand: is the device's clock right?")
	}
	if _, taken := d.ByDevice(c.Device); taken {
		return nil, wire.DeviceID{}, wire.Refuse(pb.Code_CODE_EXISTS, "the device is enrolled already")
	}
	if err := checkSizes(e.KeyPackages); err != nil {
		return nil, wire.DeviceID{}, err
	}
	return &identity.MemberRecord{Organization: d.opts.Organization.ID, Member: member, Name: g.Name, Version: 1, Key: g.Key,
		Issued: d.opts.Clock.Now(), Devices: []identity.DeviceEntry{{Device: c.Device, Certificate: c.Hash}}}, c.Device, nil
}
