// Package directory keeps an organization's records: one per member with the
// member's whole current state, the log of their commitments, enrolment links and
// KeyPackages. It is the organization's own side; what others check is in identity.
//
// Its promises: a record, its log leaf and the link that admitted it become durable
// together or not at all; a name is given once; a link admits once; a KeyPackage is
// handed out once, but for last-resort ones; a revoked device is not active from the
// moment that RevokeDevice returns.
//
// It leaves to others what a KeyPackage means (opaque here; node checks it), ending
// sessions and removing leaves (node), and gossip, witnessing and proofs of the log
// (a later version; the log is kept in their shape).
//
// # Rows in the store (integers big-endian)
//
//	id/member/<member ID>        JSON memberRow: notes of genesis, record and devices,
//	                             commitment nonce, log index
//	id/leaf/<index uint64>       label 32 ‖ version uint64 ‖ commitment 32
//	id/hash/<index uint64>       32 bytes: golang.org/x/mod/sumdb/tlog stored hash
//	id/size                      uint64: leaves in the log
//	id/log                       uint64: its number (identity.Manifest.Log); none: 0
//	ln/<link ID>                 JSON linkRow
//	kp/one/<device><seq uint64>  published unix uint64 ‖ KeyPackage
//	kp/suite/<device><suite>o<seq>, …l  the same two, of other suites than the first
//	kp/last/<device>             published unix uint64 ‖ last handed out unix uint64 ‖ KeyPackage
//
// A label is the first 32 bytes of the VRF of "entente.im/label/v1\n" ‖ member ID. A
// commitment is SHA-256("entente.im/commitment/v1\n" ‖ nonce 32 ‖ SHA-256 of the
// record's text). A leaf's log record is its 72 bytes. The last leaf of every batch has
// the label of zeros, the number of labels and the root of their map (identity/prefix).
package directory

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Clock tells the time.
type Clock interface{ Now() time.Time }

// Options of Open; all are required.
type Options struct {
	Organization *identity.Organization
	Directory    ed25519.PrivateKey // signs records
	VRF          ed25519.PrivateKey // makes labels
	Clock        Clock
}

// Directory is an organization's directory, whole in memory and durable in the
// store. Lock order: write, then mu.
type Directory struct {
	store *store.Store
	opts  Options

	write sync.Mutex // one change at a time

	mu      sync.RWMutex
	members map[wire.MemberID]*entry
	names   map[string]wire.MemberID
	devices map[wire.DeviceID]wire.MemberID // active ones
	log     logState
	adopted uint64                // leaves before were taken over: records of them may be missing
	lost    []wire.MemberID       // whose newer records are; under write
	owed    []wire.MemberID       // of whom a new log has nothing yet; under write
	closed  map[wire.MemberID]int // who gets no further device for now: Close; under write
	rates   claimRates
	waiting waiting
}

// entry is a member with its row.
type entry struct {
	member *identity.Member
	row    memberRow
}

// memberRow is a member on disk.
type memberRow struct {
	Version int      `json:"version"`
	Genesis string   `json:"genesis"`
	Record  string   `json:"record"`
	Devices []string `json:"devices"`
	Keys    []string `json:"keys,omitempty"` // rotations of the member key
	Nonce   []byte   `json:"nonce"`          // of the commitment
	Why     string   `json:"why,omitempty"`  // the operator's note about a member that is disabled
	Leaf    uint64   `json:"leaf"`
	Log     uint64   `json:"log,omitempty"` // of which the leaf is
}

const (
	memberPrefix = "id/member/"
	rowVersion   = 1
)

// Open reads every record and verifies it as a partner would.
func Open(ctx context.Context, s *store.Store, o Options) (*Directory, error) {
	if o.Organization == nil || o.Clock == nil || len(o.Directory) != ed25519.PrivateKeySize || len(o.VRF) != ed25519.PrivateKeySize {
		return nil, errors.New("directory: organization, keys and clock are required")
	}
	m := o.Organization.Manifest
	if !m.Directory.Equal(o.Directory.Public()) || !m.VRF.Equal(o.VRF.Public()) {
		return nil, errors.New("directory: keys that the manifest does not name: is it the keys file of this organization?")
	}
	d := &Directory{store: s, opts: o, members: make(map[wire.MemberID]*entry), names: make(map[string]wire.MemberID),
		devices: make(map[wire.DeviceID]wire.MemberID), closed: make(map[wire.MemberID]int)}
	d.rates.init()
	if err := errors.Join(d.log.load(s), d.begin(ctx), d.loadAdopted()); err != nil {
		return nil, err
	}
	var after []byte
	for {
		page, err := s.Scan([]byte(memberPrefix), after, 500)
		if err != nil {
			return nil, fmt.Errorf("directory: reading members: %w", err)
		}
		for _, kv := range page {
			after = kv.Key
			e, err := d.parseRow(kv.Value)
			if err != nil {
				return nil, err
			}
			d.show(e)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(page) < 500 {
			return d, d.checkLog()
		}
	}
}

func (d *Directory) parseRow(b []byte) (*entry, error) {
	var row memberRow
	if err := json.Unmarshal(b, &row); err != nil || row.Version != rowVersion {
		return nil, errors.New("directory: a member's row that does not parse")
	}
	m, err := identity.VerifyChain(d.chain(&row), d.opts.Organization.ID, d.opts.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("directory: a stored member: %w", err)
	}
	if row.Log == d.log.number { // else Restore puts it into this log
		if err := d.checkLeaf(m, &row); err != nil {
			return nil, err
		}
	}
	return &entry{m, row}, nil
}

// show puts a member into the maps; d.mu is held, or nobody knows d yet.
func (d *Directory) show(e *entry) {
	if old := d.members[e.member.ID]; old != nil {
		for id := range old.member.Devices {
			delete(d.devices, id)
		}
		delete(d.names, old.member.Name)
	}
	d.members[e.member.ID] = e
	d.names[e.member.Name] = e.member.ID
	if e.member.Disabled {
		return
	}
	for id := range e.member.Devices {
		d.devices[id] = e.member.ID
	}
}

func (d *Directory) chain(row *memberRow) *pb.MemberChain {
	return &pb.MemberChain{Manifests: d.opts.Organization.Notes, Genesis: row.Genesis, Record: row.Record, Devices: row.Devices, Keys: row.Keys}
}

// Lookup finds a member by name: unknownMember when there is none.
func (d *Directory) Lookup(name string) (*identity.Member, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.members[d.names[name]]
	if e == nil {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "%s has no member %.64q", d.opts.Organization.Manifest.Name, name)
	}
	return e.member, nil
}

// Get returns a member: unknownMember when there is none.
func (d *Directory) Get(id wire.MemberID) (*identity.Member, error) {
	e, err := d.entry(id)
	if err != nil {
		return nil, err
	}
	return e.member, nil
}

func (d *Directory) entry(id wire.MemberID) (*entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if e := d.members[id]; e != nil {
		return e, nil
	}
	return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "")
}

// ByDevice returns the member of an active device.
func (d *Directory) ByDevice(id wire.DeviceID) (wire.MemberID, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, ok := d.devices[id]
	return m, ok
}

// Chain returns everything that others need to check a member.
func (d *Directory) Chain(id wire.MemberID) (*pb.MemberChain, error) {
	e, err := d.entry(id)
	if err != nil {
		return nil, err
	}
	return d.chain(&e.row), nil
}

// Members lists all members by name.
func (d *Directory) Members() []*identity.Member {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]*identity.Member, 0, len(d.members))
	for _, e := range d.members {
		out = append(out, e.member)
	}
	slices.SortFunc(out, func(a, b *identity.Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// put writes a member's next record with its log leaf into a batch, beside what the row
// already has; the returned function makes it visible after the commit. d.write is held.
func (d *Directory) put(b *store.Batch, rec identity.MemberRecord, row memberRow) (func(), error) {
	note, err := rec.Sign(d.opts.Organization.KeyName(), d.opts.Directory)
	if err != nil {
		return nil, fmt.Errorf("directory: signing a record: %w", err)
	}
	row.Version, row.Record = rowVersion, note
	log, err := d.append(b, rec, note, &row)
	if err != nil {
		return nil, err
	}
	m, err := identity.VerifyChain(d.chain(&row), d.opts.Organization.ID, d.opts.Clock.Now())
	if err != nil {
		return nil, err
	}
	if known := d.members[rec.Member]; known != nil { // writes are ours: d.write is held
		if err := m.Supersedes(known.member); err != nil {
			return nil, err
		}
	}
	v, err := json.Marshal(row)
	if err != nil {
		return nil, fmt.Errorf("directory: a row: %w", err)
	}
	b.Put(append([]byte(memberPrefix), rec.Member[:]...), v)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.log = log
		d.show(&entry{m, row})
	}, nil
}

// RevokeDevice records a revocation, of the member or of the organization, as the
// member's next record. From then on the device is not active. Repeating it is a
// success.
func (d *Directory) RevokeDevice(ctx context.Context, note string) error {
	d.write.Lock()
	defer d.write.Unlock()
	e, r, err := d.checkRevocation(note)
	if err != nil {
		return err
	}
	if slices.Contains(e.member.Revoked, r.Device) {
		return nil
	}
	rec, err := identity.VerifyRecord(e.row.Record, d.opts.Organization)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rec.Devices, func(x identity.DeviceEntry) bool { return x.Device == r.Device })
	if i < 0 {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_DEVICE, "")
	}
	row := e.row
	row.Devices = slices.Delete(slices.Clone(row.Devices), i, i+1)
	rec.Devices = slices.Delete(rec.Devices, i, i+1)
	if rec.Revoked = append(rec.Revoked, r.Device); len(rec.Revoked) > identity.MaxRevoked {
		rec.Revoked = rec.Revoked[1:] // long gone from every room; it cannot come back without the member key
	}
	if err := d.succeed(rec, e); err != nil {
		return err
	}
	var b store.Batch
	shown, err := d.put(&b, *rec, row)
	if err != nil {
		return err
	}
	if err := d.dropKeyPackages(&b, r.Device); err != nil {
		return err
	}
	if _, err := d.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return fmt.Errorf("directory: revoking: %w", err)
	}
	shown()
	return nil
}

// succeed makes a record the next version of an entry's.
func (d *Directory) succeed(rec *identity.MemberRecord, e *entry) error {
	text, err := wire.NoteText(e.row.Record)
	if err != nil {
		return err
	}
	rec.Version, rec.Previous, rec.Issued = rec.Version+1, wire.TextHash(text), d.opts.Clock.Now()
	if e.row.Log != d.log.number {
		rec.Version += renewedBy
	}
	return nil
}

func (d *Directory) checkRevocation(note string) (*entry, *identity.Revocation, error) {
	r, err := identity.ReadRevocation(note)
	if err != nil {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a revocation that does not parse")
	}
	e, err := d.entry(r.Member)
	if err != nil {
		return nil, nil, err
	}
	if r, err = identity.VerifyRevocation(note, d.opts.Organization, e.member); err != nil {
		return nil, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a revocation that neither the member nor the organization has signed")
	}
	return e, r, nil
}

// SignRevocation revokes a device for the organization: the note is to be given to
// RevokeDevice and to the hubs of its rooms.
func (d *Directory) SignRevocation(device wire.DeviceID) (string, error) {
	member, ok := d.ByDevice(device)
	if !ok {
		return "", wire.Refuse(pb.Code_CODE_UNKNOWN_DEVICE, "no active device %s", device)
	}
	return identity.SignRevocation(identity.Revocation{Organization: d.opts.Organization.ID, Member: member, Device: device,
		Issued: d.opts.Clock.Now(), By: "organization"}, d.opts.Organization.KeyName(), d.opts.Directory)
}
