package device

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// RoomOptions of a new room.
type RoomOptions struct {
	Members     []wire.Address // invited at once
	AdminInvite bool           // only administrators invite; otherwise members do too
	Suite       mls.SuiteID    // 0: the device's Suite
}

// CreateRoom makes a room for more than two, ordered by our own node, with us as its
// administrator. Its name is said inside the room; no node sees it.
func (s *Sender) CreateRoom(ctx context.Context, name string, o RoomOptions) (wire.RoomID, error) {
	d := s.l.d
	if err := CheckRoomName(name); err != nil {
		return wire.RoomID{}, err
	}
	if o.Suite == 0 {
		o.Suite = Suite
	}
	if _, err := mls.LookupSuite(o.Suite); err != nil {
		return wire.RoomID{}, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "cipher suite %d is not known here", o.Suite)
	}
	if err := s.l.ready(ctx); err != nil {
		return wire.RoomID{}, err
	}
	id, err := d.createNamed(ctx, name, o)
	if err != nil {
		return id, err
	}
	return id, s.l.handedOver(ctx) // with the room's name
}

func (d *Device) createNamed(ctx context.Context, name string, o RoomOptions) (id wire.RoomID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.finishCreating(ctx); err != nil {
		return id, err
	}
	people, err := d.resolveAll(ctx, o.Members)
	if err != nil {
		return id, err
	}
	rand.Read(id[:])
	adds, err := d.claimOthers(ctx, o.Suite)
	if err != nil {
		return id, err
	}
	orgs := []wire.OrganizationID{d.account.Organization}
	for _, m := range people {
		list, err := d.claim(ctx, id, memberKey{m.Organization.ID, m.ID}, o.Suite)
		if err != nil {
			return id, fmt.Errorf("%s: %w", m.Address(), err)
		}
		adds, orgs = append(adds, list...), append(orgs, m.Organization.ID)
	}
	invite := wire.RoleMember
	if o.AdminInvite {
		invite = wire.RoleAdmin
	}
	roles := wire.Roles{Invite: invite}.With(d.account.Organization, d.account.Member, wire.RoleAdmin)
	extensions, err := d.roomExtensions(ctx, id, o.Suite, orgs, &roles)
	if err != nil {
		return id, err
	}
	if err := d.begin(ctx, &room{ID: id, Name: name, Announce: true}, o.Suite, extensions, adds); err != nil {
		return id, err
	}
	return id, d.finishCreating(ctx)
}

// CheckRoomName refuses what no room can be called: malformed.
func CheckRoomName(name string) error {
	bad := strings.IndexFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) })
	if strings.TrimSpace(name) == "" || len(name) > maxRoomName || bad >= 0 || strings.Contains(name, "@") {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a room's name is 1 to %d bytes without control characters and @", maxRoomName)
	}
	return nil
}

// resolveAll asks who the addresses are, each person once.
func (d *Device) resolveAll(ctx context.Context, list []wire.Address) ([]*identity.Member, error) {
	var out []*identity.Member
	for _, a := range list {
		m, err := d.resolve(ctx, a)
		if err == nil {
			err = d.checkPinned(m)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
		if !slices.ContainsFunc(out, func(o *identity.Member) bool { return o.ID == m.ID }) {
			out = append(out, m)
		}
	}
	return out, nil
}

// Invite brings a member's devices into a room, with a role.
func (s *Sender) Invite(ctx context.Context, id wire.RoomID, to wire.Address, role wire.Role) error {
	return s.InviteAll(ctx, id, []wire.Address{to}, role)
}

// InviteAll is Invite of several: all of them or, when one cannot come, none.
func (s *Sender) InviteAll(ctx context.Context, id wire.RoomID, list []wire.Address, role wire.Role) error {
	d := s.l.d
	return s.change(ctx, id, func(r *room) (p group.CommitParams, err error) {
		people, err := d.resolveAll(ctx, list)
		if err == nil {
			err = d.mayInvite(r, people)
		}
		if err != nil {
			return p, err
		}
		for _, m := range people {
			k := memberKey{m.Organization.ID, m.ID}
			if r.holds(k) {
				return p, wire.Refuse(pb.Code_CODE_EXISTS, "%s is in the room already", m.Address())
			}
			adds, err := d.claim(ctx, id, k, r.state.Public().Suite().ID)
			if err != nil {
				return p, fmt.Errorf("%s: %w", m.Address(), err)
			}
			p.Adds = append(p.Adds, adds...)
		}
		r.Announce = true
		p.Extensions, err = r.changed(func(n *policy.Rules) {
			for _, m := range people {
				k := memberKey{m.Organization.ID, m.ID}
				if !n.Listed(k.Org) {
					n.Room.Organizations = sortedOrgs(append(slices.Clone(n.Room.Organizations), wire.RoomMember{Organization: k.Org[:]}))
				}
				roles := n.Roles.With(k.Org, k.Member, role)
				n.Roles = &roles
			}
		})
		return p, err
	})
}

// mayInvite asks before anything is claimed: a claim can be a request for contact, which nobody
// shall get from who may not invite them.
func (d *Device) mayInvite(r *room, people []*identity.Member) error {
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return err
	}
	for _, m := range people {
		whom := policy.Person{Organization: m.Organization.ID, Member: m.ID}
		if err := rules.MayAdd(policy.Person{Organization: d.account.Organization, Member: d.account.Member}, whom, false); err != nil {
			return err
		}
	}
	return nil
}

// RenameRoom says another name in a room, as one of its administrators; no node sees it.
func (s *Sender) RenameRoom(ctx context.Context, id wire.RoomID, name string) error {
	d := s.l.d
	if err := CheckRoomName(name); err != nil {
		return err
	}
	if err := s.l.handedOver(ctx); err != nil { // and what others have called it before
		return err
	}
	if err := d.mayRename(id); err != nil {
		return err
	}
	if err := d.changeRoom(id, func(r *room) { r.Name, r.Announce = name, true }); err != nil {
		return err
	}
	return s.l.handedOver(ctx)
}

func (d *Device) mayRename(id wire.RoomID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil || r.Ended || r.Leaving {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	}
	rules, err := policy.Of(r.state.Extensions())
	switch {
	case err != nil:
		return err
	case rules.Roles == nil:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a room of two people has no name")
	case rules.Role(policy.Person{Organization: d.account.Organization, Member: d.account.Member}) != wire.RoleAdmin:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "only the room's administrators rename it")
	}
	return nil
}

// RemoveMember takes all of a member's devices out of a room.
func (s *Sender) RemoveMember(ctx context.Context, id wire.RoomID, who wire.Address) error {
	return s.change(ctx, id, func(r *room) (p group.CommitParams, err error) {
		k, err := s.l.d.inRoom(r, who)
		if err != nil {
			return p, err
		}
		p.Removes = r.leavesOf(k)
		p.Extensions, err = r.changed(func(n *policy.Rules) {
			roles := n.Roles.With(k.Org, k.Member, wire.RoleMember)
			n.Roles = &roles
		})
		return p, err
	})
}

// SetRole changes what a member of the room may do.
func (s *Sender) SetRole(ctx context.Context, id wire.RoomID, who wire.Address, role wire.Role) error {
	return s.change(ctx, id, func(r *room) (p group.CommitParams, err error) {
		k, err := s.l.d.inRoom(r, who)
		if err != nil {
			return p, err
		}
		p.Extensions, err = r.changed(func(n *policy.Rules) {
			roles := n.Roles.With(k.Org, k.Member, role)
			n.Roles = &roles
		})
		return p, err
	})
}

// EndRoom ends a room for everybody: nothing is taken in it any more.
func (s *Sender) EndRoom(ctx context.Context, id wire.RoomID) error {
	return s.change(ctx, id, func(r *room) (p group.CommitParams, err error) {
		p.Extensions, err = r.changed(func(n *policy.Rules) { n.Room.Ended = true })
		return p, err
	})
}

// inRoom finds a member of the room by its address.
func (d *Device) inRoom(r *room, a wire.Address) (memberKey, error) {
	for _, k := range r.people() {
		if d.nameOf(k) == a.String() {
			return k, nil
		}
	}
	return memberKey{}, wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "%s is not in the room", a)
}

// people lists the members of a room, each once, in the order of their first leaf.
func (r *room) people() []memberKey {
	var out []memberKey
	seen := make(map[memberKey]bool)
	for _, m := range r.state.Members() {
		if c, err := policy.CredentialOf(m.Node); err == nil {
			if k := (memberKey{c.Organization, c.Member}); !seen[k] {
				seen[k] = true
				out = append(out, k)
			}
		}
	}
	return out
}

func (r *room) leavesOf(k memberKey) (out []mls.LeafIndex) {
	for _, m := range r.state.Members() {
		if c, err := policy.CredentialOf(m.Node); err == nil && c.Organization == k.Org && c.Member == k.Member {
			out = append(out, m.Leaf)
		}
	}
	return out
}

// changed are the room's GroupContext extensions with its rules changed, or nil when
// nothing is.
func (r *room) changed(change func(*policy.Rules)) ([]mls.Extension, error) {
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return nil, err
	}
	if rules.Roles == nil {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a room of two people has no roles, takes nobody else and is left by itself: make a room with `entente room create`")
	}
	change(&rules)
	if rules.Roles.Admins() == 0 {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the room would be without an administrator: make somebody else one first (entente room role)")
	}
	roles, err := rules.Roles.Encode()
	if err != nil {
		return nil, err
	}
	rules.Room.Roles = wire.RolesDigest(roles)
	description, err := rules.Room.Encode()
	if err != nil {
		return nil, err
	}
	var out []mls.Extension
	same := true
	for _, e := range r.state.Extensions() {
		before := e.Data
		switch e.Type {
		case mls.ExtensionRoom:
			e.Data = description
		case mls.ExtensionRoles:
			e.Data = roles
		}
		same = same && string(before) == string(e.Data)
		out = append(out, e)
	}
	if same {
		return nil, nil
	}
	return out, nil
}
