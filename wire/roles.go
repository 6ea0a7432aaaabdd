package wire

import (
	"bytes"
	"crypto/sha256"
)

// Role is what a member may do in a room.
type Role uint8

// Roles, in rising order. Whoever is not listed is a member.
const (
	RoleGuest  Role = 1 // speaks and leaves
	RoleMember Role = 2 // invites too, where the room lets members
	RoleAdmin  Role = 3 // changes who is in the room and what holds in it
)

func (r Role) String() string {
	switch r {
	case RoleGuest:
		return "guest"
	case RoleMember:
		return "member"
	case RoleAdmin:
		return "admin"
	}
	return "unknown"
}

// ParseRole is the inverse of String.
func ParseRole(s string) (Role, bool) {
	for r := RoleGuest; r <= RoleAdmin; r++ {
		if r.String() == s {
			return r, true
		}
	}
	return 0, false
}

// Roles is the entente_roles GroupContext extension (docs/protocol.md 1.8): who is
// more or less than a member, and who may invite. Its SHA-256 stands in entente_room.
// A room without it is one of two people, in which nobody may bring in a third.
type Roles struct {
	Invite  Role        `cbor:"1,keyasint"` // the lowest role that may add people: member or admin
	Entries []RoleEntry `cbor:"2,keyasint"` // sorted by organization, then member; no plain members
}

// RoleEntry is one person's role.
type RoleEntry struct {
	Organization []byte `cbor:"1,keyasint"` // 32 bytes
	Member       []byte `cbor:"2,keyasint"` // 32 bytes
	Role         Role   `cbor:"3,keyasint"`
}

const (
	rolesVersion = 1
	maxRoles     = 1_000
)

func (e RoleEntry) compare(o RoleEntry) int {
	if c := bytes.Compare(e.Organization, o.Organization); c != 0 {
		return c
	}
	return bytes.Compare(e.Member, o.Member)
}

// Of is a person's role.
func (r Roles) Of(org OrganizationID, member MemberID) Role {
	for _, e := range r.Entries {
		if bytes.Equal(e.Organization, org[:]) && bytes.Equal(e.Member, member[:]) {
			return e.Role
		}
	}
	return RoleMember
}

// With returns the roles with one person's changed; r stays as it was.
func (r Roles) With(org OrganizationID, member MemberID, role Role) Roles {
	next := Roles{Invite: r.Invite}
	added := RoleEntry{Organization: org[:], Member: member[:], Role: role}
	placed := role == RoleMember
	for _, e := range r.Entries {
		c := e.compare(added)
		if c > 0 && !placed {
			next.Entries, placed = append(next.Entries, added), true
		}
		if c != 0 {
			next.Entries = append(next.Entries, e)
		}
	}
	if !placed {
		next.Entries = append(next.Entries, added)
	}
	return next
}

// Admins counts the administrators.
func (r Roles) Admins() (n int) {
	for _, e := range r.Entries {
		if e.Role == RoleAdmin {
			n++
		}
	}
	return n
}

// Encode returns the extension's bytes.
func (r Roles) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Entries == nil {
		r.Entries = []RoleEntry{}
	}
	b, err := roomEncoder.Marshal(r)
	return append([]byte{rolesVersion}, b...), err
}

// RolesDigest is what entente_room says of the roles.
func RolesDigest(encoded []byte) []byte {
	d := sha256.Sum256(encoded)
	return d[:]
}

// ParseRoles is the inverse of Encode and accepts nothing else.
func ParseRoles(b []byte) (Roles, error) {
	var r Roles
	if len(b) < 2 || len(b) > maxRoomExt || b[0] != rolesVersion {
		return r, malformed("a roles extension of %d bytes or another version", len(b))
	}
	if err := roomDecoder.Unmarshal(b[1:], &r); err != nil {
		return r, malformed("a roles extension that is not the CBOR expected")
	}
	again, err := r.Encode()
	if err != nil {
		return r, err
	}
	if !bytes.Equal(again, b) {
		return r, malformed("a roles extension that is not deterministic CBOR")
	}
	return r, nil
}

func (r Roles) check() error {
	if r.Invite != RoleMember && r.Invite != RoleAdmin {
		return malformed("a room in which role %d invites", r.Invite)
	}
	if len(r.Entries) > maxRoles {
		return malformed("%d roles: at most %d are listed", len(r.Entries), maxRoles)
	}
	for i, e := range r.Entries {
		if len(e.Organization) != 32 || len(e.Member) != 32 || e.Role != RoleGuest && e.Role != RoleAdmin {
			return malformed("role %d of a room", i)
		}
		if i > 0 && r.Entries[i-1].compare(e) >= 0 {
			return malformed("roles of a room out of order")
		}
	}
	if r.Admins() == 0 {
		return malformed("a room without an administrator")
	}
	return nil
}
