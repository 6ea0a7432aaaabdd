package policy

import (
	"bytes"
	"fmt"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Rules is what a room's GroupContext says in one epoch: the same question gets
// the same answer from the hub and from every device.
type Rules struct {
	Room  wire.Room
	Roles *wire.Roles // nil: a room of two people
}

// Parse reads both extensions and holds them against each other. roles is nil
// when the group has no entente_roles.
func Parse(room, roles []byte) (Rules, error) {
	var p Rules
	var err error
	if p.Room, err = wire.ParseRoom(room); err != nil {
		return p, err
	}
	if roles == nil {
		if len(p.Room.Roles) > 0 {
			return p, malformed("a room whose roles are missing")
		}
		return p, nil
	}
	r, err := wire.ParseRoles(roles)
	if err != nil {
		return p, err
	}
	if !bytes.Equal(p.Room.Roles, wire.RolesDigest(roles)) {
		return p, malformed("a room with other roles than its digest says")
	}
	p.Roles = &r
	return p, nil
}

// Person is somebody in a room, whichever device speaks.
type Person struct {
	Organization wire.OrganizationID
	Member       wire.MemberID
}

// Role of a person; in a room of two both are members.
func (p Rules) Role(who Person) wire.Role {
	if p.Roles == nil {
		return wire.RoleMember
	}
	return p.Roles.Of(who.Organization, who.Member)
}

// Listed reports whether an organization takes part in the room.
func (p Rules) Listed(org wire.OrganizationID) bool {
	for _, o := range p.Room.Organizations {
		if bytes.Equal(o.Organization, org[:]) {
			return true
		}
	}
	return false
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("policy: "+format, args...)
}

func forbidden(format string, args ...any) error {
	return wire.Refuse(pb.Code_CODE_FORBIDDEN, format, args...)
}

// MaySend says whether messages are taken at all.
func (p Rules) MaySend() error {
	if p.Room.Ended {
		return forbidden("the room has ended")
	}
	return nil
}

// MayAdd says whether by may bring a device of whom in. present tells who is in the
// room already: everybody brings in devices of their own.
func (p Rules) MayAdd(by, whom Person, present bool) error {
	switch {
	case p.Room.Ended:
		return forbidden("the room has ended")
	case by == whom && present:
		return nil
	case p.Roles == nil:
		return nil // Check counts the people
	case p.Role(by) < p.Roles.Invite && !(present && p.Role(by) >= wire.RoleMember):
		return forbidden("a %s invites nobody into this room", p.Role(by))
	}
	return nil
}

// MayRemove says whether by may remove a device of whom. The hub's proposals carry a
// revocation and are not asked about here.
func (p Rules) MayRemove(by, whom Person) error {
	if by == whom || p.Role(by) == wire.RoleAdmin {
		return nil
	}
	return forbidden("a %s removes nobody else from this room", p.Role(by))
}

// MayChange says whether by may replace the policy with next. Who may invite may add
// the organizations of those invited, and have them as guests; all else is an
// administrator's. What names the
// room and its hub never changes, and a room that has ended stays so.
func (p Rules) MayChange(by Person, next Rules, invited []Person) error {
	if err := p.MayBecome(next); err != nil {
		return err
	}
	if p.Roles == nil {
		return forbidden("a room of two people has no policy of its own")
	}
	if p.Role(by) == wire.RoleAdmin {
		return nil
	}
	if p.Role(by) < p.Roles.Invite {
		return forbidden("a %s changes nothing in this room", p.Role(by))
	}
	same := next.Room
	same.Organizations, same.Roles = p.Room.Organizations, p.Room.Roles
	roles := *next.Roles
	for _, who := range invited {
		if roles.Of(who.Organization, who.Member) == wire.RoleGuest {
			roles = roles.With(who.Organization, who.Member, p.Role(who))
		}
	}
	room, err := sameEncoding(p.Room, same)
	if err != nil {
		return err
	}
	list, err := sameEncoding(*p.Roles, roles)
	if err != nil {
		return err
	}
	if !room || !list {
		return forbidden("a %s changes nothing in this room but whom it invites", p.Role(by))
	}
	for _, o := range p.Room.Organizations {
		if !next.Listed(wire.OrganizationID(o.Organization)) {
			return forbidden("a %s takes no organization off the room", p.Role(by))
		}
	}
	return nil
}

func sameEncoding[T interface{ Encode() ([]byte, error) }](a, b T) (bool, error) {
	before, err := a.Encode()
	if err != nil {
		return false, err
	}
	after, err := b.Encode()
	return bytes.Equal(before, after), err
}

// MayBecome holds what nobody may change, whoever asks.
func (p Rules) MayBecome(next Rules) error {
	a, b := p.Room, next.Room
	switch {
	case !bytes.Equal(a.ID, b.ID) || a.Generation != b.Generation || !bytes.Equal(a.Hub, b.Hub) || !bytes.Equal(a.HubNode, b.HubNode):
		return forbidden("a room keeps its ID, generation and hub")
	case b.MinVersion < a.MinVersion || b.SuiteFloor != a.SuiteFloor || b.Resync != a.Resync || !bytes.Equal(a.Franking, b.Franking) || a.Transit != b.Transit:
		return forbidden("a room keeps its versions, suite, resync rule, transit and franking key")
	case a.Ended:
		return forbidden("the room has ended")
	case (p.Roles == nil) != (next.Roles == nil):
		return forbidden("a room of two people does not become another, nor the other way round")
	}
	return nil
}

// Proposal is one change of a room, as the policy sees it.
type Proposal struct {
	By   Person // who proposes; the joiner in an external Commit
	Hub  bool   // the hub proposes: a Remove with a revocation
	Kind Change
	Whom Person // who is added or removed
	Next Rules  // of ChangePolicy
}

// Change is the kind of a Proposal.
type Change int

// Everything that may happen in a room; there is no other.
const (
	ChangeAdd Change = iota + 1
	ChangeRemove
	ChangePolicy
	ChangeNothing // an Update, or what belongs to an external Commit
)

// Check holds the proposals of a Commit, or one that came alone, against the policy of
// the epoch that they end. present tells who is in the room in that epoch.
func (p Rules) Check(list []Proposal, present map[Person]bool) error {
	after := p
	people := make(map[Person]bool, len(present)+1)
	for who := range present {
		people[who] = true
	}
	for _, c := range list {
		if c.Kind == ChangePolicy {
			if err := p.MayChange(c.By, c.Next, invitedBy(c.By, list, present)); err != nil {
				return err
			}
			after = c.Next
		}
	}
	for _, c := range list {
		var err error
		switch c.Kind {
		case ChangeAdd:
			if err = p.MayAdd(c.By, c.Whom, present[c.Whom]); err == nil && !after.Listed(c.Whom.Organization) {
				err = forbidden("a device of an organization that the room does not list")
			}
			if people[c.Whom] = true; p.Roles == nil && len(people) > 2 {
				err = forbidden("a room of two people takes no third: make a room for more")
			}
		case ChangeRemove:
			if !c.Hub {
				err = p.MayRemove(c.By, c.Whom)
			}
		case ChangePolicy, ChangeNothing:
		default:
			err = forbidden("rooms take no proposal of that kind")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// invitedBy lists the new people whom somebody adds.
func invitedBy(by Person, list []Proposal, present map[Person]bool) (out []Person) {
	for _, c := range list {
		if c.Kind == ChangeAdd && c.By == by && !present[c.Whom] {
			out = append(out, c.Whom)
		}
	}
	return out
}
