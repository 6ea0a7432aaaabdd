package policy

import (
	"bytes"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

var (
	acme, globex, hooli = wire.OrganizationID{1}, wire.OrganizationID{2}, wire.OrganizationID{3}
	admin               = Person{acme, wire.MemberID{1}}
	member              = Person{globex, wire.MemberID{2}}
	guest               = Person{globex, wire.MemberID{3}}
	stranger            = Person{globex, wire.MemberID{4}}
	foreigner           = Person{hooli, wire.MemberID{5}}
)

func description(ended bool, orgs ...wire.OrganizationID) wire.Room {
	r := wire.Room{ID: bytes.Repeat([]byte{7}, 32), Hub: acme[:], HubNode: bytes.Repeat([]byte{8}, 32), MinVersion: 1, SuiteFloor: 1,
		DeadlineMin: 1, DeadlineDefault: 60, DeadlineMax: 600, Transit: "none", Resync: wire.ResyncOwnLeaf, Ended: ended}
	for _, o := range orgs {
		r.Organizations = append(r.Organizations, wire.RoomMember{Organization: o[:]})
	}
	return r
}

// rulesOf takes a room through its encoding, as it travels.
func rulesOf(t *testing.T, room wire.Room, roles *wire.Roles) Rules {
	t.Helper()
	var raw []byte
	var err error
	if roles != nil {
		if raw, err = roles.Encode(); err != nil {
			t.Fatal(err)
		}
		room.Roles = wire.RolesDigest(raw)
	}
	data, err := room.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(data, raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func house(invite wire.Role) *wire.Roles {
	r := wire.Roles{Invite: invite}.With(admin.Organization, admin.Member, wire.RoleAdmin).With(guest.Organization, guest.Member, wire.RoleGuest)
	return &r
}

func present(list ...Person) map[Person]bool {
	out := make(map[Person]bool)
	for _, p := range list {
		out[p] = true
	}
	return out
}

func TestEachRoleMayDoWhatItMayAndNothingElse(t *testing.T) {
	everybody := present(admin, member, guest)
	open, closed := rulesOf(t, description(false, acme, globex), house(wire.RoleMember)), rulesOf(t, description(false, acme, globex), house(wire.RoleAdmin))
	two := rulesOf(t, description(false, acme, globex), nil)
	ended := rulesOf(t, description(true, acme, globex), house(wire.RoleMember))
	wider := rulesOf(t, description(false, acme, globex, hooli), house(wire.RoleMember))
	promoted := house(wire.RoleMember).With(member.Organization, member.Member, wire.RoleAdmin)
	coup := rulesOf(t, description(false, acme, globex), &promoted)
	guests, admins := house(wire.RoleMember).With(stranger.Organization, stranger.Member, wire.RoleGuest), house(wire.RoleMember).With(stranger.Organization, stranger.Member, wire.RoleAdmin)
	withGuest, strangerAdmin := rulesOf(t, description(false, acme, globex), &guests), rulesOf(t, description(false, acme, globex), &admins)
	narrower := rulesOf(t, description(false, acme), house(wire.RoleMember))
	otherHub := open
	otherHub.Room.HubNode = bytes.Repeat([]byte{9}, 32)
	add := func(by, whom Person) Proposal { return Proposal{By: by, Kind: ChangeAdd, Whom: whom} }
	remove := func(by, whom Person) Proposal { return Proposal{By: by, Kind: ChangeRemove, Whom: whom} }
	change := func(by Person, next Rules) Proposal { return Proposal{By: by, Kind: ChangePolicy, Next: next} }
	for _, c := range []struct {
		name    string
		rules   Rules
		present map[Person]bool
		list    []Proposal
		taken   bool
	}{
		{"an admin invites", closed, everybody, []Proposal{add(admin, stranger)}, true},
		{"a member invites where members may", open, everybody, []Proposal{add(member, stranger)}, true},
		{"a member invites where only admins may", closed, everybody, []Proposal{add(member, stranger)}, false},
		{"a guest invites", open, everybody, []Proposal{add(guest, stranger)}, false},
		{"a guest brings a device of its own", closed, everybody, []Proposal{add(guest, guest)}, true},
		{"a guest brings another's device", open, everybody, []Proposal{add(guest, member)}, false},
		{"a member brings another's device", closed, everybody, []Proposal{add(member, guest)}, true},
		{"who is not in the room brings itself", closed, everybody, []Proposal{add(stranger, stranger)}, false},
		{"an organization that is not listed", open, everybody, []Proposal{add(admin, foreigner)}, false},
		{"it is listed in the same Commit", open, everybody, []Proposal{add(member, foreigner), change(member, wider)}, true},
		{"a member invites a guest", open, everybody, []Proposal{add(member, stranger), change(member, withGuest)}, true},
		{"a member makes a guest of somebody", open, everybody, []Proposal{change(member, withGuest)}, false},
		{"a member invites an admin", open, everybody, []Proposal{add(member, stranger), change(member, strangerAdmin)}, false},
		{"an admin removes", open, everybody, []Proposal{remove(admin, guest)}, true},
		{"a member removes another", open, everybody, []Proposal{remove(member, guest)}, false},
		{"a member leaves", open, everybody, []Proposal{remove(member, member)}, true},
		{"the hub removes with a revocation", open, everybody, []Proposal{{Hub: true, Kind: ChangeRemove, Whom: admin}}, true},
		{"an admin makes an admin", open, everybody, []Proposal{change(admin, coup)}, true},
		{"a member makes itself an admin", open, everybody, []Proposal{change(member, coup)}, false},
		{"a member takes an organization off", open, everybody, []Proposal{change(member, narrower)}, false},
		{"an admin moves the hub", open, everybody, []Proposal{change(admin, otherHub)}, false},
		{"an admin ends the room", open, everybody, []Proposal{change(admin, ended)}, true},
		{"a member ends the room", open, everybody, []Proposal{change(member, ended)}, false},
		{"an admin revives the room", ended, everybody, []Proposal{change(admin, open)}, false},
		{"somebody is added to a room that has ended", ended, everybody, []Proposal{add(admin, stranger)}, false},
		{"the second of two", two, present(admin), []Proposal{add(admin, member)}, true},
		{"two at once", two, present(admin), []Proposal{add(admin, member), add(admin, guest)}, false},
		{"the third of two", two, present(admin, member), []Proposal{add(admin, guest)}, false},
		{"one of two removes the other", two, present(admin, member), []Proposal{remove(admin, member)}, false},
		{"two become more", two, present(admin, member), []Proposal{change(admin, open)}, false},
		{"more become two", open, everybody, []Proposal{change(admin, two)}, false},
		{"an Update", open, everybody, []Proposal{{By: guest, Kind: ChangeNothing}}, true},
		{"something that rooms do not take", open, everybody, []Proposal{{By: admin}}, false},
	} {
		err := c.rules.Check(c.list, c.present)
		if (err == nil) != c.taken {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRolesTravelInOneFormOnly(t *testing.T) {
	good, err := house(wire.RoleMember).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ParseRoles(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if r, err := wire.ParseRoles(bad); err == nil {
			if again, err := r.Encode(); err != nil || !bytes.Equal(again, bad) {
				t.Errorf("byte %d changed: taken, and encoded differently", i)
			}
		}
		if _, err := wire.ParseRoles(good[:i]); err == nil {
			t.Errorf("cut at %d: taken", i)
		}
	}
	for name, r := range map[string]wire.Roles{
		"no administrator":  {Invite: wire.RoleMember},
		"guests invite":     {Invite: wire.RoleGuest, Entries: house(wire.RoleMember).Entries},
		"a member is named": {Invite: wire.RoleMember, Entries: append(house(wire.RoleMember).Entries, wire.RoleEntry{Organization: hooli[:], Member: hooli[:], Role: wire.RoleMember})},
		"out of order":      {Invite: wire.RoleMember, Entries: []wire.RoleEntry{house(wire.RoleMember).Entries[1], house(wire.RoleMember).Entries[0]}},
		"twice":             {Invite: wire.RoleMember, Entries: []wire.RoleEntry{house(wire.RoleMember).Entries[0], house(wire.RoleMember).Entries[0]}},
	} {
		if _, err := r.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	room := description(false, acme)
	data, err := room.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data, good); err == nil {
		t.Error("roles that the room does not name are taken")
	}
	room.Roles = wire.RolesDigest(good)
	if data, err = room.Encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data, nil); err == nil {
		t.Error("roles that are missing are not missed")
	}
}
