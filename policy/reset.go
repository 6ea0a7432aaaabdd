package policy

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
)

// Seat is a device of somebody in a room.
type Seat struct {
	Person
	Device wire.DeviceID
}

// Base is a room as it was at the beginning of an epoch: what its next generation is made
// from (docs/protocol.md 7.11).
type Base struct {
	Seats      []Seat
	Extensions []mls.Extension
}

// Step is what a Commit changed of a Base.
type Step struct {
	Epoch          uint64 // that it ended
	Commit         [32]byte
	Added, Removed []Seat
	Before         []mls.Extension // the GroupContext's, where they changed
}

// SeatsOf lists a group's leaves in their order.
func SeatsOf(g *mls.PublicGroup) []Seat { return seats(g.Members()) }

func seats(list []mls.Member) (out []Seat) {
	for _, m := range list {
		if c, err := CredentialOf(m.Node); err == nil {
			out = append(out, Seat{PersonOf(c), c.Device})
		}
	}
	return out
}

// BaseOf is a group as it stands.
func BaseOf(g *mls.PublicGroup) Base { return Base{SeatsOf(g), g.Extensions()} }

// StepOf is what a Commit with these effects changes of a group. A device that comes back
// in its own place changes nothing.
func StepOf(before *mls.PublicGroup, e *mls.Effects, commit [32]byte) Step {
	s := Step{Epoch: e.Epoch, Commit: commit, Added: seats(e.Added), Removed: seats(e.Removed)}
	if e.Extensions {
		s.Before = before.Extensions()
	}
	both := func(x Seat) bool { return slices.Contains(s.Added, x) && slices.Contains(s.Removed, x) }
	kept := slices.DeleteFunc(slices.Clone(s.Added), both)
	s.Removed = slices.DeleteFunc(slices.Clone(s.Removed), both)
	s.Added = kept
	return s
}

// Undo takes Commits back, the last one first.
func (b Base) Undo(newestFirst ...Step) Base {
	list := slices.Clone(b.Seats)
	for _, s := range newestFirst {
		list = slices.DeleteFunc(list, func(x Seat) bool { return slices.Contains(s.Added, x) })
		for _, x := range s.Removed {
			if !slices.Contains(list, x) {
				list = append(list, x)
			}
		}
		if s.Before != nil {
			b.Extensions = s.Before
		}
	}
	b.Seats = list
	return b
}

// Has reports whether a device is in the room.
func (b Base) Has(s Seat) bool { return slices.Contains(b.Seats, s) }

// Staying lists who is in the next generation: everybody with a device that is not the
// accused one.
func (b Base) Staying(accused Seat) (out []Person) {
	for _, s := range b.Seats {
		if s != accused && !slices.Contains(out, s.Person) {
			out = append(out, s.Person)
		}
	}
	return out
}

// Next is the GroupContext of the next generation: the same rules, without the role of
// who does not stay. Where no administrator stays, the first of those who are not guests
// by organization and member ID becomes one, so that everybody names the same.
func (b Base) Next(accused Seat) ([]mls.Extension, error) {
	rules, err := Of(b.Extensions)
	if err != nil {
		return nil, err
	}
	staying := b.Staying(accused)
	if rules.Roles == nil || len(staying) < 2 {
		return nil, forbidden("a room of two is not reset: make a new one")
	}
	if rules.Room.Ended {
		return nil, forbidden("the room has ended")
	}
	roles := *rules.Roles
	if !slices.Contains(staying, accused.Person) {
		roles = roles.With(accused.Organization, accused.Member, wire.RoleMember)
	}
	if roles.Admins() == 0 {
		who := successor(roles, staying)
		roles = roles.With(who.Organization, who.Member, wire.RoleAdmin)
	}
	encoded, err := roles.Encode()
	if err != nil {
		return nil, err
	}
	rules.Room.Generation++
	rules.Room.Roles = wire.RolesDigest(encoded)
	description, err := rules.Room.Encode()
	if err != nil {
		return nil, err
	}
	out := slices.Clone(b.Extensions)
	for i := range out {
		switch out[i].Type {
		case mls.ExtensionRoom:
			out[i].Data = description
		case mls.ExtensionRoles:
			out[i].Data = encoded
		}
	}
	return out, nil
}

func successor(roles wire.Roles, staying []Person) Person {
	list := slices.Clone(staying)
	slices.SortFunc(list, func(x, y Person) int {
		gx, gy := roles.Of(x.Organization, x.Member) == wire.RoleGuest, roles.Of(y.Organization, y.Member) == wire.RoleGuest
		switch {
		case gx != gy && gx:
			return 1
		case gx != gy:
			return -1
		case x.Organization != y.Organization:
			return bytes.Compare(x.Organization[:], y.Organization[:])
		}
		return bytes.Compare(x.Member[:], y.Member[:])
	})
	return list[0]
}

// CheckReset holds a group against the room that it is to continue: the same rules, and
// the same people without the accused device. Who is excused may be missing: nobody can
// bring in a person without an active device.
func (b Base) CheckReset(accused Seat, next *mls.PublicGroup, excused func(Person) bool) error {
	want, err := b.Next(accused)
	if err != nil {
		return err
	}
	have := next.Extensions()
	if len(have) != len(want) {
		return forbidden("a reset with other extensions than the room's")
	}
	for i := range want {
		if have[i].Type != want[i].Type || !bytes.Equal(have[i].Data, want[i].Data) {
			return forbidden("a reset with other rules than the room's")
		}
	}
	staying := b.Staying(accused)
	present := make(map[Person]bool)
	for _, s := range SeatsOf(next) {
		if s == accused || !slices.Contains(staying, s.Person) {
			return forbidden("a reset that brings in somebody who was not in the room")
		}
		present[s.Person] = true
	}
	for _, who := range staying {
		if !present[who] && !excused(who) {
			return forbidden("a reset that leaves out somebody who is not accused")
		}
	}
	return nil
}

// SameExtensions reports whether two GroupContexts have the same extensions.
func SameExtensions(a, b []mls.Extension) bool {
	return slices.EqualFunc(a, b, func(x, y mls.Extension) bool { return x.Type == y.Type && bytes.Equal(x.Data, y.Data) })
}
