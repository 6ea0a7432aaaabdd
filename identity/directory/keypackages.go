package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

const (
	onePrefix   = "kp/one/"
	lastPrefix  = "kp/last/"
	suitePrefix = "kp/suite/"
	// keyPackageSlack is how long before its end a KeyPackage is no longer handed out.
	keyPackageSlack = 24 * time.Hour
)

// FirstSuite is the MLS cipher suite whose KeyPackages stand under the keys of version
// 0.1.0; others have a pool of their own each.
const FirstSuite = 1

// poolKey begins the keys of a device's one-time KeyPackages of a suite.
func poolKey(device wire.DeviceID, suite uint16) []byte {
	if suite == FirstSuite {
		return append([]byte(onePrefix), device[:]...)
	}
	return append(binary.BigEndian.AppendUint16(append([]byte(suitePrefix), device[:]...), suite), 'o')
}

func oneKey(device wire.DeviceID, suite uint16, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(poolKey(device, suite), seq)
}

func lastKey(device wire.DeviceID, suite uint16) []byte {
	if suite == FirstSuite {
		return append([]byte(lastPrefix), device[:]...)
	}
	return append(binary.BigEndian.AppendUint16(append([]byte(suitePrefix), device[:]...), suite), 'l')
}

func (d *Directory) putKeyPackage(b *store.Batch, device wire.DeviceID, suite uint16, seq uint64, kp []byte) {
	row := binary.BigEndian.AppendUint64(nil, uint64(d.opts.Clock.Now().Unix()))
	b.Put(oneKey(device, suite, seq), append(row, kp...))
}

// Offer is KeyPackages of one MLS cipher suite.
type Offer struct {
	Suite      uint16
	OneTime    [][]byte
	LastResort []byte // may be empty: that which is there stays
}

// MaxSuites bounds the suites of which a device offers KeyPackages.
const MaxSuites = 8

// Publish adds KeyPackages to a device's pools, up to wire.KeyPackagePool in each (the
// oldest go first), and replaces last-resort ones. With replace, nothing of what was there
// before stays, of any suite. It returns the stock of each suite offered.
func (d *Directory) Publish(ctx context.Context, device wire.DeviceID, offers []Offer, replace bool) (map[uint16]int, error) {
	if err := checkOffers(offers); err != nil {
		return nil, err
	}
	d.write.Lock()
	defer d.write.Unlock()
	if _, ok := d.ByDevice(device); !ok {
		return nil, wire.Refuse(pb.Code_CODE_REVOKED, "")
	}
	var b store.Batch
	if replace {
		if err := d.dropKeyPackages(&b, device); err != nil {
			return nil, err
		}
	}
	stock := make(map[uint16]int)
	for _, o := range offers {
		n, err := d.offer(&b, device, o, replace)
		if err != nil {
			return nil, err
		}
		stock[o.Suite] = n
	}
	if b.Len() > 0 {
		if _, err := d.store.Commit(ctx, &b); err != nil {
			return nil, fmt.Errorf("directory: publishing KeyPackages: %w", err)
		}
	}
	return stock, nil
}

func (d *Directory) offer(b *store.Batch, device wire.DeviceID, o Offer, replace bool) (stock int, err error) {
	have, err := d.pool(device, o.Suite)
	if err != nil {
		return 0, err
	}
	for drop := len(have) + len(o.OneTime) - wire.KeyPackagePool; drop > 0; drop-- {
		b.Delete(have[0].Key)
		have = have[1:]
	}
	next := uint64(d.opts.Clock.Now().UnixNano()) // above all that were there before
	if len(have) > 0 {
		last := have[len(have)-1].Key
		next = binary.BigEndian.Uint64(last[len(last)-8:]) + 1
	}
	for i, kp := range o.OneTime {
		d.putKeyPackage(b, device, o.Suite, next+uint64(i), kp)
	}
	if len(o.LastResort) > 0 {
		row := binary.BigEndian.AppendUint64(nil, uint64(d.opts.Clock.Now().Unix()))
		b.Put(lastKey(device, o.Suite), append(binary.BigEndian.AppendUint64(row, 0), o.LastResort...))
	}
	if replace {
		return len(o.OneTime), nil
	}
	return len(have) + len(o.OneTime), nil
}

func checkOffers(offers []Offer) error {
	if len(offers) > MaxSuites {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "KeyPackages of %d suites: at most %d", len(offers), MaxSuites)
	}
	for i, o := range offers {
		if slices.ContainsFunc(offers[:i], func(x Offer) bool { return x.Suite == o.Suite }) {
			return wire.Refuse(pb.Code_CODE_MALFORMED, "a suite is offered twice")
		}
		if err := checkSizes(o.OneTime, o.LastResort); err != nil {
			return err
		}
	}
	return nil
}

// checkSizes bounds a pool, and other KeyPackages beside it.
func checkSizes(packages [][]byte, others ...[]byte) error {
	if len(packages) > wire.KeyPackagePool {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "%d KeyPackages: at most %d are kept", len(packages), wire.KeyPackagePool)
	}
	for _, kp := range slices.Concat(packages, others) {
		if len(kp) > wire.KeyPackageMax {
			return wire.Refuse(pb.Code_CODE_TOO_LARGE, "a KeyPackage of %d bytes: at most %d", len(kp), wire.KeyPackageMax)
		}
	}
	return nil
}

// pool returns a device's one-time KeyPackages of a suite, oldest first.
func (d *Directory) pool(device wire.DeviceID, suite uint16) ([]store.KV, error) {
	kvs, err := d.store.Scan(poolKey(device, suite), nil, 2*wire.KeyPackagePool)
	if err != nil {
		return nil, fmt.Errorf("directory: KeyPackages: %w", err)
	}
	return kvs, nil
}

// KeyPackages counts a device's one-time KeyPackages of a suite.
func (d *Directory) KeyPackages(device wire.DeviceID, suite uint16) int {
	kvs, err := d.pool(device, suite)
	if err != nil {
		return 0
	}
	return len(kvs)
}

// Claim hands out one KeyPackage of a suite of each active device of a member, each once;
// a last-resort one when the pool is empty, at most one an hour. requester is a member
// ID, from its organization.
func (d *Directory) Claim(ctx context.Context, from wire.OrganizationID, requester []byte, member wire.MemberID, suite uint16) ([]*pb.ClaimedKeyPackage, error) {
	if len(requester) != 32 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a requester of %d bytes", len(requester))
	}
	d.write.Lock()
	defer d.write.Unlock()
	m, err := d.Get(member)
	if err != nil {
		return nil, err
	}
	if m.Disabled {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s is disabled", m.Address())
	}
	if len(m.Devices) == 0 {
		return nil, wire.Refuse(pb.Code_CODE_NO_KEY_PACKAGE, "the member has no device")
	}
	if wait, ok := d.rates.take(d.opts.Clock.Now(), from, [32]byte(requester), member); !ok {
		return nil, &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "too many KeyPackages were claimed"), wait)}
	}
	devices := make([]wire.DeviceID, 0, len(m.Devices))
	for id := range m.Devices {
		devices = append(devices, id)
	}
	return d.claimOf(ctx, devices, suite)
}

// ClaimOwn hands out one KeyPackage of a suite of each of a member's named devices that
// are active, to another device of that member: without the limits that are for others.
func (d *Directory) ClaimOwn(ctx context.Context, member wire.MemberID, devices []wire.DeviceID, suite uint16) ([]*pb.ClaimedKeyPackage, error) {
	if len(devices) > wire.MaxDevicesPerMember {
		return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "%d devices: a member has at most %d", len(devices), wire.MaxDevicesPerMember)
	}
	d.write.Lock()
	defer d.write.Unlock()
	m, err := d.Get(member)
	if err != nil {
		return nil, err
	}
	devices = slices.DeleteFunc(slices.Clone(devices), func(id wire.DeviceID) bool { return m.Devices[id] == nil })
	return d.claimOf(ctx, devices, suite)
}

// claimOf takes a KeyPackage of each device out of the pools; d.write is held.
func (d *Directory) claimOf(ctx context.Context, devices []wire.DeviceID, suite uint16) ([]*pb.ClaimedKeyPackage, error) {
	slices.SortFunc(devices, func(a, b wire.DeviceID) int { return slices.Compare(a[:], b[:]) })
	var b store.Batch
	var out []*pb.ClaimedKeyPackage
	got := false
	for _, device := range slices.Compact(devices) {
		c, err := d.claimOne(&b, device, suite)
		if err != nil {
			return nil, err
		}
		got = got || len(c.KeyPackage) > 0
		out = append(out, c)
	}
	if !got {
		return nil, wire.Refuse(pb.Code_CODE_NO_KEY_PACKAGE, "")
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return nil, fmt.Errorf("directory: claiming KeyPackages: %w", err)
	}
	return out, nil
}

func (d *Directory) claimOne(b *store.Batch, device wire.DeviceID, suite uint16) (*pb.ClaimedKeyPackage, error) {
	now := d.opts.Clock.Now()
	pool, err := d.pool(device, suite)
	if err != nil {
		return nil, err
	}
	for _, kv := range pool {
		b.Delete(kv.Key)
		if kp, published, ok := splitRow(kv.Value, 8); ok && now.Sub(published) < wire.KeyPackageLifetime-keyPackageSlack {
			return &pb.ClaimedKeyPackage{Device: device[:], KeyPackage: kp, Status: wire.Status(pb.Code_CODE_OK, "")}, nil
		}
	}
	row, err := d.store.Get(lastKey(device, suite))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("directory: a last-resort KeyPackage: %w", err)
	}
	none := &pb.ClaimedKeyPackage{Device: device[:], Status: wire.Status(pb.Code_CODE_NO_KEY_PACKAGE, "")}
	kp, published, ok := splitRow(row, 16)
	if err != nil || !ok || now.Sub(published) >= wire.LastResortLifetime-keyPackageSlack {
		return none, nil
	}
	handed := time.Unix(int64(binary.BigEndian.Uint64(row[8:])), 0)
	if now.Sub(handed) < time.Hour/wire.LastResortPerHour {
		none.Status = wire.Retry(wire.Status(pb.Code_CODE_NO_KEY_PACKAGE, "the last KeyPackage is given once an hour"), time.Hour)
		return none, nil
	}
	next := append([]byte(nil), row...)
	binary.BigEndian.PutUint64(next[8:], uint64(now.Unix()))
	b.Put(lastKey(device, suite), next)
	return &pb.ClaimedKeyPackage{Device: device[:], KeyPackage: kp, LastResort: true, Status: wire.Status(pb.Code_CODE_OK, "")}, nil
}

func splitRow(row []byte, header int) (kp []byte, published time.Time, ok bool) {
	if len(row) <= header {
		return nil, published, false
	}
	return row[header:], time.Unix(int64(binary.BigEndian.Uint64(row)), 0), true
}

// dropKeyPackages deletes a device's KeyPackages of all suites.
func (d *Directory) dropKeyPackages(b *store.Batch, device wire.DeviceID) error {
	pool, err := d.pool(device, FirstSuite)
	if err != nil {
		return err
	}
	others, err := d.store.Scan(append([]byte(suitePrefix), device[:]...), nil, 2*MaxSuites*(wire.KeyPackagePool+1))
	if err != nil {
		return fmt.Errorf("directory: KeyPackages: %w", err)
	}
	for _, kv := range slices.Concat(pool, others) {
		b.Delete(kv.Key)
	}
	b.Delete(lastKey(device, FirstSuite))
	return nil
}

// DeleteKeyPackages removes all KeyPackages of all devices: after a restore from a
// backup they may have been handed out before.
func (d *Directory) DeleteKeyPackages(ctx context.Context) error {
	d.write.Lock()
	defer d.write.Unlock()
	for _, m := range d.Members() {
		for id := range m.Devices {
			var b store.Batch
			if err := d.dropKeyPackages(&b, id); err != nil {
				return err
			}
			if _, err := d.store.Commit(ctx, &b); err != nil {
				return fmt.Errorf("directory: deleting KeyPackages: %w", err)
			}
		}
	}
	return nil
}

// claimRates count claims within the last hour, per requester and target and per
// organization and target. When the table is full, an organization's requesters are
// no longer told apart; its own limit stays.
type claimRates struct {
	mu   sync.Mutex
	seen map[claimKey][]time.Time

	swept time.Time
}

type claimKey struct {
	from      wire.OrganizationID
	requester [32]byte // zero: the whole organization
	target    wire.MemberID
}

const maxClaimKeys = 100_000

func (r *claimRates) init() { r.seen = make(map[claimKey][]time.Time) }

func (r *claimRates) take(now time.Time, from wire.OrganizationID, requester [32]byte, target wire.MemberID) (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := []struct {
		claimKey
		limit int
	}{{claimKey{from, requester, target}, wire.ClaimsPerRequester}, {claimKey{from: from, target: target}, wire.ClaimsPerPartner}}
	for _, k := range keys {
		if list := recent(r.seen[k.claimKey], now); len(list) >= k.limit {
			return list[0].Add(time.Hour).Sub(now), false
		}
	}
	if len(r.seen) >= maxClaimKeys && now.Sub(r.swept) >= time.Minute {
		r.swept = now
		for k, list := range r.seen {
			if len(recent(list, now)) == 0 {
				delete(r.seen, k)
			}
		}
	}
	for _, k := range keys {
		list, known := r.seen[k.claimKey]
		if known || len(r.seen) < maxClaimKeys || k.requester == [32]byte{} {
			r.seen[k.claimKey] = append(slices.Clone(recent(list, now)), now)
		}
	}
	return 0, true
}

func recent(list []time.Time, now time.Time) []time.Time {
	for len(list) > 0 && now.Sub(list[0]) >= time.Hour {
		list = list[1:]
	}
	return list
}
