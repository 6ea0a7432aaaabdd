package device

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// tellState tells of an agreement that is in another state than it was, in every room with
// that organization, or that it orders.
func (d *Device) tellState(t *txn, org wire.OrganizationID, name, was, now string) error {
	if now == was || now == "" || was == "" && now == wire.AgreementInForce {
		return nil
	}
	var rooms []*room
	for _, r := range d.rooms {
		if r.state != nil && !r.Ended && (r.Hub == org || slices.ContainsFunc(r.others(d.account.Organization), func(k memberKey) bool { return k.Org == org })) {
			rooms = append(rooms, r)
		}
	}
	return d.tellRooms(t, rooms, "agreement", name, now)
}

// tellRooms tells one thing of several rooms: an event for each, one after the other, with
// how many there are, so that who shows them to people can say it once.
func (d *Device) tellRooms(t *txn, rooms []*room, state, from, reason string) error {
	for _, r := range rooms {
		s := d.ofRoomFrom(r, state, from, reason)
		s.Count = len(rooms)
		if err := t.show(s); err != nil {
			return err
		}
	}
	return nil
}

// statesFresh is how old what this device knows of agreements' states may be when it has sent
// to a room: a change of them is told at once besides.
const statesFresh = time.Minute

// askStates asks the node for the state of the agreements with the others in a room. What
// cannot be had now is asked for later: what is known holds on.
func (l *link) askStates(ctx context.Context, id wire.RoomID) error {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil || d.now().Sub(l.asked) < statesFresh {
		return nil
	}
	q := &pb.GetAgreementRequest{Organization: d.account.Organization[:]}
	for _, k := range r.others(d.account.Organization) {
		q.States = append(q.States, k.Org[:])
	}
	if len(q.States) == 0 {
		return nil
	}
	a, err := call(ctx, d.home.Device.GetAgreement, q)
	if err != nil {
		return ctx.Err()
	}
	l.asked = d.now()
	return d.vault.update(func(t *txn) error {
		for _, s := range a.States {
			org, err := wire.Bytes32(s.Organization)
			state := wire.ReadAgreementState(s.State)
			if err != nil || state == "" {
				continue
			}
			known, err := t.agreement(org)
			if err != nil {
				return err
			}
			if known == nil || known.Version == 0 || known.State == state {
				continue // with the agreement itself, when it is asked for
			}
			if err := d.tellState(t, org, known.Name, known.State, state); err != nil {
				return err
			}
			known.State = state
			if err := t.putAgreement(org, known); err != nil {
				return err
			}
		}
		return nil
	})
}

// withheld says who does not get, or not yet, what was just sent to a room: those of
// organizations that our node does not deliver to now. Only where it orders the room: another
// hub delivers by its own agreements.
func (l *link) withheld(ctx context.Context, s *Sent, report func(Progress)) error {
	id, err := wire.ParseRoomID(s.Room)
	if err != nil {
		return nil
	}
	if err := l.askStates(ctx, id); err != nil {
		return err
	}
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil || r.Hub != d.account.Organization {
		return nil
	}
	for _, k := range r.others(d.account.Organization) {
		var a *agreed
		if err := d.vault.view(func(t *txn) (err error) { a, err = t.agreement(k.Org); return err }); err != nil {
			return err
		}
		if a == nil || !wire.AgreementHolds(a.State) && !wire.AgreementStops(a.State) {
			continue
		}
		p := Progress{Event: "withheld", ID: s.ID, To: d.orgName(k), Room: s.Room, Reason: a.State, At: d.now()}
		for _, who := range r.people() {
			if who.Org == k.Org {
				p.Members = append(p.Members, d.nameOf(who))
			}
		}
		slices.Sort(p.Members)
		report(p)
	}
	return nil
}

// PartnerState is what this device's organization makes of its agreement with another in a
// room.
type PartnerState struct {
	Organization string `json:"organization"`
	State        string `json:"state"` // wire.AgreementInForce …; empty: not known
}

// partnerStates lists the organizations of a room with their agreements' states, and says why
// the room is read-only when the one that orders it does not take anything from us; d.mu is
// held.
func (d *Device) partnerStates(r *room) (out []PartnerState, readOnly string) {
	others := r.others(d.account.Organization)
	if r.Hub != d.account.Organization && !slices.ContainsFunc(others, func(k memberKey) bool { return k.Org == r.Hub }) {
		others = append(others, memberKey{Org: r.Hub})
	}
	for _, k := range others {
		p := PartnerState{Organization: d.orgNamed(r, k.Org)}
		if err := d.vault.view(func(t *txn) error {
			a, err := t.agreement(k.Org)
			if a != nil {
				p.State, p.Organization = a.State, cmp.Or(a.Name, p.Organization)
			}
			return err
		}); err != nil {
			continue // it is shown as not known
		}
		if k.Org == r.Hub && wire.AgreementStops(p.State) {
			readOnly = p.Organization
		}
		out = append(out, p)
	}
	return out, readOnly
}
