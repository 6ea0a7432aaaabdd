package device

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Each device of a member is a leaf of its own in the member's rooms (docs/protocol.md
// 7.13). Whichever of them visits first brings in those that the directory names and the
// room does not have. What was said before is not theirs.

// bringPause is the least time between two tries to bring a device into one room.
const bringPause = time.Hour

// errNobodyMissing ends a change of a room that needs none any more.
var errNobodyMissing = errors.New("device: all of one's own devices are in the room")

func (d *Device) ownKey() memberKey { return memberKey{d.account.Organization, d.account.Member} }

// claimOwn gets KeyPackages of this member's other devices; none is no error.
func (d *Device) claimOwn(ctx context.Context, devices []wire.DeviceID, suite mls.SuiteID) ([][]byte, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	q := &pb.ClaimOwnRequest{Suite: uint32(suite)}
	for _, id := range devices {
		q.Devices = append(q.Devices, bytes.Clone(id[:]))
	}
	a, err := call(ctx, d.home.Device.ClaimOwn, q)
	var st *wire.StatusError
	if errors.As(err, &st) && st.Status.Code == pb.Code_CODE_NO_KEY_PACKAGE {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m, err := d.learn(d.account.Organization, a.Chain); err != nil || m.ID != d.account.Member {
		return nil, errors.Join(errors.New("device: KeyPackages of one's own devices with certificates that do not stand"), err)
	}
	return d.checkClaimed(a.Packages, d.ownKey(), suite)
}

// claimOthers is claimOwn of all of this member's other devices, for a new room.
func (d *Device) claimOthers(ctx context.Context, suite mls.SuiteID) ([][]byte, error) {
	m, err := d.self(ctx)
	if err != nil {
		return nil, err
	}
	return d.claimOwn(ctx, d.missing(m, nil), suite)
}

// missing lists this member's devices, but this one, that have no leaf in a room.
func (d *Device) missing(m *identity.Member, r *room) (out []wire.DeviceID) {
	in := make(map[wire.DeviceID]bool)
	if r != nil {
		for _, leaf := range r.state.Members() {
			if c, err := policy.CredentialOf(leaf.Node); err == nil {
				in[c.Device] = true
			}
		}
	}
	for id := range m.Devices {
		if id != d.ID() && !in[id] {
			out = append(out, id)
		}
	}
	return out
}

// lacking lists the rooms that lack one of this member's devices and can be changed now.
func (d *Device) lacking(m *identity.Member, now time.Time) (out []wire.RoomID) {
	for id, r := range d.rooms {
		if r.state == nil || r.Ended || r.Leaving || r.Behind || r.stalled() || d.waitsIn(id) || r.Stopped != "" || r.Creating != nil || r.Committing > 0 ||
			now.Sub(r.Brought) < bringPause || d.merged(r) != nil {
			continue
		}
		if len(d.missing(m, r)) > 0 {
			out = append(out, id)
		}
	}
	return out
}

// bringOwn brings this member's other devices into the rooms that lack them. What does
// not work now is tried again by a later visit.
func (l *link) bringOwn(ctx context.Context) error {
	d := l.d
	d.mu.Lock()
	m, err := d.self(ctx)
	var rooms []wire.RoomID
	if err == nil && len(m.Devices) > 1 {
		rooms = d.lacking(m, d.now())
	}
	d.mu.Unlock()
	for _, id := range rooms {
		if e := l.bringInto(ctx, id); e != nil && ctx.Err() != nil {
			return e
		} else if e != nil && !errors.Is(e, errNobodyMissing) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (l *link) bringInto(ctx context.Context, id wire.RoomID) error {
	d := l.d
	if err := d.changeRoom(id, func(r *room) { r.Brought = d.now() }); err != nil {
		return err
	}
	s := Sender{l}
	return s.change(ctx, id, func(r *room) (p group.CommitParams, err error) {
		m, err := d.self(ctx)
		if err != nil {
			return p, err
		}
		if p.Adds, err = d.claimOwn(ctx, d.missing(m, r), r.state.Public().Suite().ID); err == nil && len(p.Adds) == 0 {
			err = errNobodyMissing
		}
		r.Announce = r.Announce || r.Name != ""
		return p, err
	})
}

// bringPatience is how long one visit works on bringing devices in: what a hub elsewhere has
// not answered by then stands, and the rest is for the next visit.
const bringPatience = 15 * time.Second

// bringLater is bringOwn as a part of a visit, which it does not make fail.
func (l *link) bringLater(ctx context.Context) error {
	short, stop := context.WithTimeout(ctx, bringPatience)
	defer stop()
	_ = l.d.settleKey(short) // else the next visit does it, as what follows
	_ = l.bringOwn(short)
	return ctx.Err()
}

// BringOwn is what a visit does for this member's other devices, at once: after linking one.
func (s *Sender) BringOwn(ctx context.Context) error {
	d := s.l.d
	a, err := d.Account(ctx)
	if err != nil {
		return err
	}
	if err := d.learnOwn(a.Chain); err != nil {
		return err
	}
	d.mu.Lock()
	var due []wire.RoomID
	for id := range d.rooms {
		due = append(due, id)
	}
	d.mu.Unlock()
	for _, id := range due {
		if err := d.changeRoom(id, func(r *room) { r.Brought = time.Time{} }); err != nil {
			return err
		}
	}
	return s.l.bringOwn(ctx)
}

// learnOwn takes up what the home node says of this member, when it is news.
func (d *Device) learnOwn(chain *pb.MemberChain) error {
	known, err := d.chains.get(d.ownKey())
	if text, e := wire.NoteText(chain.GetRecord()); err == nil && e == nil && wire.TextHash(text) == known.Record {
		return nil
	}
	m, err := d.learn(d.account.Organization, chain)
	if err == nil && m.ID != d.account.Member {
		err = errors.New("device: the home node answers with another member")
	}
	return err
}

// otherThan is the first person in a room beside somebody.
func (r *room) otherThan(k memberKey) memberKey {
	for _, p := range r.people() {
		if p != k {
			return p
		}
	}
	return memberKey{}
}

// toOf says to whom a message of another device of one's own went.
func (b *batch) toOf(r *room, from memberKey) string {
	if from != b.d.ownKey() {
		return ""
	}
	return b.d.titleOf(r)
}

// OwnDevice is one of this member's devices.
type OwnDevice struct {
	ID    string    `json:"device_id"`
	State string    `json:"state"` // active, expired, revoked
	This  bool      `json:"this,omitempty"`
	Since time.Time `json:"since,omitzero"` // of its certificate, as Until
	Until time.Time `json:"until,omitzero"`
	Seen  time.Time `json:"seen,omitzero"`  // the day on which it was last at the home node, as that says
	Idle  bool      `json:"idle,omitempty"` // long ago: it should be revoked
}

// Devices lists this member's devices as the directory has them: those in force first, the
// oldest before, then those that were revoked.
func (d *Device) Devices(ctx context.Context) ([]OwnDevice, error) {
	a, err := d.Account(ctx)
	if err != nil {
		return nil, err
	}
	m, err := identity.VerifyChain(a.Chain, d.account.Organization, d.now())
	if err != nil {
		return nil, err
	}
	if m.ID != d.account.Member {
		return nil, errors.New("device: the home node answers with another member")
	}
	var out []OwnDevice
	visits := make(map[wire.DeviceID]*pb.DeviceVisit)
	for _, v := range a.Visits {
		if len(v.Device) == len(wire.DeviceID{}) {
			visits[wire.DeviceID(v.Device)] = v
		}
	}
	for id, c := range m.Devices {
		x := OwnDevice{ID: id.String(), State: "active", This: id == d.ID(), Since: c.Issued, Until: c.Expires}
		if !c.InForce(d.now()) {
			x.State = "expired"
		}
		if v := visits[id]; v != nil {
			x.Seen, x.Idle = time.Unix(v.SeenUnix, 0), v.Idle
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b OwnDevice) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	for _, id := range m.Revoked {
		out = append(out, OwnDevice{ID: id.String(), State: "revoked", This: id == d.ID()})
	}
	return out, nil
}
