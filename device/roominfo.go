package device

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// RoomInfo is what a listing shows of a room.
type RoomInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"` // of a room for more than two
	With    string `json:"with,omitempty"` // in a room of two
	Hub     string `json:"hub"`
	Role    string `json:"role"` // ours
	Invite  string `json:"invite,omitempty"`
	People  int    `json:"people"`
	Devices int    `json:"devices"`
	Epoch   uint64 `json:"epoch"`
	Suite   string `json:"suite,omitempty"` // standard, chacha or post-quantum
	Code    string `json:"code"`            // epoch authenticator: equal for all members in one epoch
	State   string `json:"state"`           // open, read-only (its hub takes nothing from us), leaving, ended, behind, stopped
	Ended   bool   `json:"ended"`
	// Generation counts the resets of the room; Reset says why the last one was made.
	Generation uint32 `json:"generation"`
	Reset      string `json:"reset,omitempty"`
	Reason     string `json:"reason,omitempty"`
	// Partners are the other organizations in the room, with the states of our agreements.
	Partners []PartnerState `json:"partners,omitempty"`
	// Back is when a device that is behind may come back into the room, where not now.
	Back time.Time `json:"back,omitzero"`
	// Waits is how many messages and changes of this device are at its node, or on their way
	// to it, without the answer of the room's hub.
	Waits int `json:"waits_for_hub,omitempty"`
	// Holds is the effective policy; Effective computes it.
	Holds *Effective `json:"holds,omitempty"`
}

// RoomMember is a person in a room.
type RoomMember struct {
	Address string   `json:"address"`
	Role    string   `json:"role"`
	Devices []string `json:"devices"`
	Self    bool     `json:"self,omitempty"`
	Blocked bool     `json:"blocked,omitempty"` // by this member or its organization

	Directory Directory `json:"directory"` // how the member's organization vouches for it
	// Verified is "verified" (by this device's person), "changed" (the address was, and is
	// another member's now) or empty.
	Verified string `json:"verified,omitempty"`
}

// Rooms lists the rooms of this device, those with names first. Rooms that are merged into
// others are not rooms for people.
func (d *Device) Rooms() []RoomInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []RoomInfo
	waits := make(map[wire.RoomID]int)
	waiting, _ := d.waiting() // what cannot be read is told where it is needed
	for _, o := range waiting {
		if o.Accepted {
			waits[d.view(o.Room)]++
		}
	}
	for id, r := range d.rooms {
		if d.merged(r) != nil {
			continue
		}
		i := d.infoOf(r)
		if i.Waits = waits[id]; r.Committing > 0 && r.Handed {
			i.Waits++
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b RoomInfo) int {
		return cmp.Or(strings.Compare(b.Name, a.Name), strings.Compare(a.With, b.With), strings.Compare(a.ID, b.ID))
	})
	return out
}

func (d *Device) infoOf(r *room) RoomInfo {
	i := RoomInfo{ID: r.ID.String(), Name: r.Name, Hub: r.Hub.String(), State: "open", Ended: r.Ended, Reason: r.Stopped, Generation: r.Generation, Reset: r.Why}
	if r.Peer != (memberKey{}) {
		i.With = d.nameOf(r.Peer)
	}
	switch {
	case r.Ended:
		i.State = "ended"
	case r.Stopped != "":
		i.State = "stopped"
	case r.Leaving:
		i.State = "leaving"
	case d.waitsIn(r.ID):
		i.State, i.Reason = "behind", waitsReason
	case r.Behind || r.Lost || r.Resyncing || r.Resetting || r.Uninvited != nil:
		i.State = "behind"
		if at := d.back(r); !at.IsZero() && (r.Behind || r.Lost) && !r.Resyncing {
			i.Back, i.Reason = at, backText(at)
		}
		switch {
		case r.Uninvited != nil:
			i.Reason = "it was reset, and the invitation is of no use to this device, which comes back by itself"
		case r.Accuse != nil:
			i.Reason = "it waits for what others say of a Commit of " + d.nameOfAuthor(r.Accuse.Accused) + " that this device cannot apply"
		}
	}
	if r.state == nil {
		return i
	}
	var readOnly string
	if i.Partners, readOnly = d.partnerStates(r); readOnly != "" && i.State == "open" {
		i.State, i.Reason = "read-only", readOnly+" orders the room, and takes nothing from here now"
	}
	i.Epoch, i.Devices, i.People = r.state.Epoch(), len(r.state.Members()), len(r.people())
	i.Suite = suiteName(r.state.Public().Suite().ID)
	i.Code = fmt.Sprintf("%x", r.state.EpochAuthenticator()[:8])
	if rules, err := policy.Of(r.state.Extensions()); err == nil {
		i.Role = rules.Role(policy.Person{Organization: d.account.Organization, Member: d.account.Member}).String()
		if rules.Roles != nil {
			i.Invite = rules.Roles.Invite.String()
		}
	}
	i.Hub = d.orgNamed(r, r.Hub)
	return i
}

// HubAway says that a room's hub does not answer, and what follows.
func HubAway(hub string) string {
	return hub + ", which orders this room, is not reachable now; it goes on by itself"
}

// hubAway is HubAway of a room.
func (d *Device) hubAway(id wire.RoomID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.rooms[id]; r != nil {
		return HubAway(d.infoOf(r).Hub)
	}
	return HubAway("the organization")
}

// titleOf is what people call a room: its name, who is at the other end, or its ID.
func (d *Device) titleOf(r *room) string {
	switch {
	case r.Name != "":
		return r.Name
	case r.Peer != (memberKey{}):
		return d.nameOf(r.Peer)
	}
	return r.ID.String()
}

// RoomMembers lists who is in a room, each person once, with all their devices.
func (d *Device) RoomMembers(id wire.RoomID) ([]RoomMember, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	}
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return nil, err
	}
	at := make(map[memberKey]int)
	var out []RoomMember
	for _, m := range r.state.Members() {
		c, err := policy.CredentialOf(m.Node)
		if err != nil {
			continue
		}
		k := memberKey{c.Organization, c.Member}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			_, blocked := d.blocked.of(k)
			out = append(out, RoomMember{Address: d.nameOf(k), Blocked: blocked, Role: rules.Role(policy.PersonOf(c)).String(),
				Self: k == memberKey{d.account.Organization, d.account.Member}, Directory: d.directoryOf(k), Verified: d.gradeOf(k)})
		}
		out[i].Devices = append(out[i].Devices, c.Device.String())
	}
	return out, nil
}

// FindRoom finds a room by its ID, the beginning of it (at least 6 characters), its
// name, or the address of who is at the other end.
func (d *Device) FindRoom(text string) (wire.RoomID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []wire.RoomID
	for id, r := range d.rooms {
		if r.state == nil {
			continue
		}
		title := d.titleOf(r)
		if id.String() == text {
			return d.view(id), nil
		}
		if v := d.view(id); (v == id && title == text || len(text) >= 6 && strings.HasPrefix(id.String(), text)) && !slices.Contains(found, v) {
			found = append(found, v)
		}
	}
	if len(found) > 1 {
		found = slices.DeleteFunc(found, func(id wire.RoomID) bool { return d.rooms[id].Ended })
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		for id := range d.rooms {
			if len(text) < 6 && strings.HasPrefix(id.String(), text) {
				return wire.RoomID{}, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "no room is called %q; of an ID at least 6 characters are needed", text)
			}
		}
		return wire.RoomID{}, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "no room is called %q: see entente room list (an address has an @)", text)
	}
	return wire.RoomID{}, wire.Refuse(pb.Code_CODE_MALFORMED, "%d rooms are called %q: use the beginning of an ID (entente room list)", len(found), text)
}

// nameOf is a member's address, as last verified, or the member ID.
func (d *Device) nameOf(k memberKey) string {
	m, err := d.chains.get(k)
	if err != nil {
		return k.Member.String()
	}
	return m.Address().String()
}
