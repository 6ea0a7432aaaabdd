package device

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Effective is what holds in a room: the strictest of the room's own rules, of this
// device's organization, and of its agreements with the others in the room, as this device
// has verified them.
type Effective struct {
	Retention  int64       `json:"retention_seconds"` // messages are kept undelivered no longer
	FileSize   uint64      `json:"file_size"`         // bytes; 0: no files
	Contact    string      `json:"contact"`           // open or request
	Guests     bool        `json:"guests"`
	Until      time.Time   `json:"until,omitzero"` // when the first agreement ends
	Agreements []AgreedOrg `json:"agreements,omitempty"`
	// Apart are organizations in a room of ours whose devices do not come in unless they have an
	// agreement with each other: ours with them carry no rooms of others.
	Apart []string `json:"apart,omitempty"`
}

// AgreedOrg is the agreement with one organization of a room.
type AgreedOrg struct {
	Organization string    `json:"organization"`
	Version      uint64    `json:"version"`         // 0: this device knows of no agreement
	State        string    `json:"state,omitempty"` // wire.AgreementInForce …; empty: not known
	Until        time.Time `json:"until,omitzero"`
	Abuse        string    `json:"abuse,omitempty"` // whom to tell of abuse
}

// effective computes a room's effective policy in one transaction; d.mu is held.
func (t *txn) effective(d *Device, r *room) (Effective, error) {
	e := Effective{Retention: int64(wire.RetentionCeiling / time.Second), FileSize: wire.MaxFile, Contact: string(identity.ContactOpen), Guests: true}
	if r.state == nil {
		return e, nil
	}
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return e, err
	}
	shorten := func(d time.Duration) {
		if d > 0 {
			e.Retention = min(e.Retention, int64(d/time.Second))
		}
	}
	shorten(time.Duration(rules.Room.DeadlineMax) * time.Second)
	shorten(time.Duration(rules.Room.Retention) * time.Second)
	if own, err := t.agreement(d.account.Organization); err != nil {
		return e, err
	} else if own != nil && own.Keep > 0 {
		shorten(own.Keep)
		e.FileSize = min(e.FileSize, own.FileSize)
	}
	others, alone := r.others(d.account.Organization), 0
	for _, k := range others {
		a, err := t.agreement(k.Org)
		if err != nil {
			return e, err
		}
		if a == nil || a.Version == 0 {
			e.Agreements = append(e.Agreements, AgreedOrg{Organization: d.orgName(k)})
			continue
		}
		shorten(a.Terms.Retention)
		e.FileSize = min(e.FileSize, a.Terms.FileSize)
		e.Guests = e.Guests && a.Terms.Guests
		if a.Terms.Contact == identity.ContactRequest {
			e.Contact = string(identity.ContactRequest)
		}
		if e.Until.IsZero() || a.Terms.ValidUntil.Before(e.Until) {
			e.Until = a.Terms.ValidUntil
		}
		if a.Terms.Transit == "none" {
			alone++
		}
		e.Agreements = append(e.Agreements, AgreedOrg{Organization: a.Name, Version: a.Version, State: a.State, Until: a.Terms.ValidUntil, Abuse: a.Terms.Abuse})
	}
	if r.Hub == d.account.Organization && alone > 0 && len(others) > 1 {
		for _, a := range e.Agreements {
			e.Apart = append(e.Apart, a.Organization)
		}
		slices.Sort(e.Apart)
	}
	return e, nil
}

// others lists one member of each other organization in a room, by the organizations' IDs.
func (r *room) others(own wire.OrganizationID) []memberKey {
	by := make(map[wire.OrganizationID]memberKey)
	for _, m := range r.state.Members() {
		if c, err := policy.CredentialOf(m.Node); err == nil && c.Organization != own {
			by[c.Organization] = memberKey{c.Organization, c.Member}
		}
	}
	out := slices.Collect(maps.Values(by))
	slices.SortFunc(out, func(a, b memberKey) int { return bytes.Compare(a.Org[:], b.Org[:]) })
	return out
}

// orgName is what a member's organization is called, or its ID.
func (d *Device) orgName(k memberKey) string {
	if m, err := d.chains.get(k); err == nil {
		return m.Organization.Manifest.Name
	}
	return k.Org.String()
}

// Effective returns what holds in a room.
func (d *Device) Effective(id wire.RoomID) (e Effective, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil {
		return e, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	}
	err = d.vault.view(func(t *txn) error { e, err = t.effective(d, r); return err })
	return e, err
}

// Holds is Device.Effective, after the home node was asked for agreements that are not known yet.
func (s *Sender) Holds(ctx context.Context, id wire.RoomID) (Effective, error) {
	s.l.d.mu.Lock()
	err := s.l.d.checkAgreements(ctx)
	s.l.d.mu.Unlock()
	if err != nil {
		return Effective{}, err
	}
	return s.l.d.Effective(id)
}

// lasting shortens how long a message asks to be kept to what holds in its room.
func (d *Device) lasting(r *room, asked time.Duration) time.Duration {
	e := Effective{}
	err := d.vault.view(func(t *txn) (err error) { e, err = t.effective(d, r); return err })
	if err != nil || e.Retention <= 0 {
		return asked
	}
	return min(asked, time.Duration(e.Retention)*time.Second)
}

// mayJoin refuses a room that an agreement does not allow, as far as this device knows
// them: one of more than two people, or a guest in it, of us or of theirs.
func (d *Device) mayJoin(r *room, rules policy.Rules) error {
	if rules.Roles == nil {
		return nil
	}
	return d.vault.view(func(t *txn) error {
		for _, k := range r.people() {
			if k.Org == d.account.Organization {
				continue
			}
			a, err := t.agreement(k.Org)
			if err != nil {
				return err
			}
			if a == nil || a.Version == 0 {
				continue
			}
			guest := rules.Role(policy.Person{Organization: k.Org, Member: k.Member}) == wire.RoleGuest ||
				rules.Role(policy.Person{Organization: d.account.Organization, Member: d.account.Member}) == wire.RoleGuest
			if !a.Terms.Rooms || guest && !a.Terms.Guests {
				return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "the agreement with %s does not allow this room", a.Name)
			}
		}
		return nil
	})
}
