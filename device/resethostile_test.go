package device

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"google.golang.org/protobuf/proto"
)

// forger is a home node that hands out whatever tree it is asked for: with it a hub shows a
// device any room that it has somebody make.
type forger struct {
	ententev1connect.DeviceServiceClient
	tree []byte
}

func (f *forger) GetTree(context.Context, *connect.Request[pb.GetTreeRequest]) (*connect.Response[pb.GetTreeResponse], error) {
	return connect.NewResponse(&pb.GetTreeResponse{Tree: f.tree}), nil
}

// renewal is a reset as a hub and a device that is with it can show one to another device.
type renewal struct {
	by, accused *Device
	complaints  []string
	people      []*Device
	extensions  func([]mls.Extension) []mls.Extension
	generation  uint32
	group       []byte               // that is made in the place of the generation's
	hub         wire.OrganizationID  // that the invitation names in the place of the room's
	packages    map[*Device][][]byte // claimed once: claims are limited
}

// complaintOf is a device's complaint about a Commit of the room's last epoch.
func complaintOf(t *testing.T, d, accused *Device, id wire.RoomID, epoch uint64, commit []byte, edit ...func(*identity.Complaint)) string {
	t.Helper()
	c := identity.Complaint{Room: id, Epoch: epoch, Commit: sha256.Sum256(commit), Reason: identity.ReasonCommit, Issued: d.now(),
		Accused:      identity.Author{Organization: accused.account.Organization, Member: accused.account.Member, Device: accused.ID()},
		Organization: d.account.Organization, Member: d.account.Member, Device: d.ID()}
	for _, f := range edit {
		f(&c)
	}
	note, err := identity.SignComplaint(c, d.account.DeviceKey)
	must(t, err)
	return note
}

// deliver shows the reset to a device and returns what it makes of it.
func (x renewal) deliver(t *testing.T, to *Device, id wire.RoomID) []Shown {
	t.Helper()
	staged, r := x.make(t, id)
	hash := sha256.Sum256(staged.Tree)
	if x.hub != (wire.OrganizationID{}) {
		r.Hub = x.hub
	}
	body, err := proto.Marshal(&pb.WelcomeBody{Welcome: staged.Welcome, TreeHash: hash[:], Hub: r.Hub[:], Complaints: x.complaints})
	must(t, err)
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_WELCOME,
		Room: id[:], Generation: x.generation, Epoch: 1, Deadline: to.now().Unix() + 3600, Body: body})
	must(t, err)
	honest := to.home.Device
	to.home.Device = &forger{honest, staged.Tree}
	defer func() { to.home.Device = honest }()
	_, err = to.handle(t.Context(), []*pb.Deliver{{Seq: to.mark() + 1, Envelope: &pb.Envelope{Core: core}}}, nothing)
	must(t, err)
	to.mu.Lock()
	must(t, to.mend(t.Context())) // looks what the room's hub has
	to.mu.Unlock()
	var out []Shown
	out = append(out, shownNew(t, to)...)
	return out
}

// make makes the group that is shown.
func (x renewal) make(t *testing.T, id wire.RoomID) (staged *group.Staged, r room) {
	t.Helper()
	x.by.mu.Lock()
	defer x.by.mu.Unlock()
	r = *x.by.rooms[id]
	base := policy.BaseOf(r.state.Public())
	extensions, err := base.Next(seatOf(identity.Author{Organization: x.accused.account.Organization, Member: x.accused.account.Member, Device: x.accused.ID()}))
	must(t, err)
	var adds [][]byte
	for _, d := range x.people {
		if x.packages[d] == nil {
			list, err := x.by.claimBut(t.Context(), &r, memberKey{d.account.Organization, d.account.Member})
			must(t, err)
			x.packages[d] = list
		}
		adds = append(adds, x.packages[d]...)
	}
	in := wire.GroupID(id, x.generation)
	if x.group != nil {
		in = x.group
	}
	must(t, x.by.withChains(t.Context(), func() error {
		zero, err := group.Create(x.by.config(), group.CreateParams{Suite: Suite, GroupID: in, Credential: x.by.credential(), Extensions: x.extensions(extensions)})
		if err == nil {
			_, staged, err = zero.Stage(group.CommitParams{Adds: adds})
		}
		return err
	}))
	return staged, r
}

func TestAHubThatResetsAtWillIsRefusedByDevices(t *testing.T) {
	w := newTrio(t)
	mallory := w.acme.device("mallory") // of the hub's organization, not in the room
	id := groupOf(t, w.alice, w.adam, w.bob, w.claire)
	epoch := w.claire.rooms[id].state.Epoch()
	must(t, with(t, w.alice, func(s *Sender) error { // an honest Commit, which everybody applies
		return s.change(t.Context(), id, func(*room) (group.CommitParams, error) { return group.CommitParams{}, nil })
	}))
	agreeing(t, id, w.alice, w.adam, w.bob, w.claire)
	a, err := call(t.Context(), w.adam.home.Device.GetRoomLog, &pb.GetRoomLogRequest{Hub: w.adam.account.Organization[:], Room: id[:], FromEpoch: epoch})
	must(t, err)
	core, err := wire.ParseCore(a.Handshakes[0].Core)
	must(t, err)
	says := func(d *Device, edit ...func(*identity.Complaint)) string {
		return complaintOf(t, d, w.alice, id, epoch, core.Body, edit...)
	}
	packages := make(map[*Device][][]byte)
	honest := func() renewal {
		return renewal{packages: packages, by: w.adam, accused: w.alice, complaints: []string{says(w.adam), says(w.bob)}, people: []*Device{w.bob, w.claire}, generation: 1,
			extensions: func(list []mls.Extension) []mls.Extension { return list }}
	}
	unmade := func(c *identity.Complaint) { c.Commit[0] ^= 1 }
	for _, c := range []struct {
		name, says string
		edit       func(*renewal)
	}{
		{"without complaints", "0 complaints", func(x *renewal) { x.complaints = nil }},
		{"by one member's word", "one member alone", func(x *renewal) { x.complaints = x.complaints[:1] }},
		{"by one member's word twice", "one member alone", func(x *renewal) { x.complaints[1] = x.complaints[0] }},
		{"by strangers", "not in the room", func(x *renewal) { x.complaints[1] = says(mallory) }},
		{"about a Commit that there never was", "has not seen", func(x *renewal) { x.complaints = []string{says(w.adam, unmade), says(w.bob, unmade)} }},
		{"with complaints about two Commits", "another room, generation or Commit", func(x *renewal) { x.complaints[1] = says(w.bob, unmade) }},
		{"with complaints of another generation", "another room, generation or Commit", func(x *renewal) {
			later := func(c *identity.Complaint) { c.Generation = 1 }
			x.complaints = []string{says(w.adam, later), says(w.bob, later)}
		}},
		{"with a complaint that was changed", "signature", func(x *renewal) {
			x.complaints[1] = strings.Replace(x.complaints[1], "reason commit", "reason policy", 1)
		}},
		{"with somebody new", "was not in the room", func(x *renewal) { x.people = append(x.people, mallory) }},
		{"without somebody", "leaves out", func(x *renewal) { x.people = []*Device{w.claire} }},
		{"with the accused", "was not in the room", func(x *renewal) { x.people = append(x.people, w.alice) }},
		{"by the accused", "was not in the room", func(x *renewal) { x.by, x.people = w.alice, []*Device{w.adam, w.bob, w.claire} }},
		{"by a stranger's device", "", func(x *renewal) { x.extensions = func(l []mls.Extension) []mls.Extension { return l[1:] } }},
		{"with other rules", "other rules", func(x *renewal) { x.extensions = weakened(t) }},
		{"into the generation after the next", "another generation", func(x *renewal) { x.generation = 2 }},
		{"into the generation after the next, as the next", "another room, generation or hub", func(x *renewal) { x.group = wire.GroupID(id, 2) }},
		{"into another room's group", "another room, generation or hub", func(x *renewal) { x.group = wire.GroupID(wire.RoomID{1}, 1) }},
		{"with another hub", "another hub", func(x *renewal) { x.hub = w.bob.account.Organization }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := *w.claire.rooms[id]
			x := honest()
			c.edit(&x)
			shown := x.deliver(t, w.claire, id)
			r := w.claire.rooms[id]
			if r.Generation != 0 || r.Stopped == "" || !strings.Contains(r.Stopped, c.says) || !slices.ContainsFunc(shown, hasState("forked")) {
				t.Errorf("generation %d, stopped because %q, shown %+v", r.Generation, r.Stopped, shown)
			}
			w.claire.rooms[id] = &before
		})
	}
	shown := honest().deliver(t, w.claire, id)
	if r := w.claire.rooms[id]; r.Generation != 1 || r.Stopped != "" || !slices.ContainsFunc(shown, hasState("reset")) {
		t.Errorf("an honest reset: generation %d, stopped because %q, shown %+v", r.Generation, r.Stopped, shown)
	}
}

// weakened lets everybody invite where it was administrators, or the other way round.
func weakened(t *testing.T) func([]mls.Extension) []mls.Extension {
	return func(list []mls.Extension) []mls.Extension {
		rules, err := policy.Of(list)
		must(t, err)
		rules.Roles.Invite = wire.RoleMember + wire.RoleAdmin - rules.Roles.Invite
		roles, err := rules.Roles.Encode()
		must(t, err)
		rules.Room.Roles = wire.RolesDigest(roles)
		description, err := rules.Room.Encode()
		must(t, err)
		out := slices.Clone(list)
		for i := range out {
			switch out[i].Type {
			case mls.ExtensionRoom:
				out[i].Data = description
			case mls.ExtensionRoles:
				out[i].Data = roles
			}
		}
		return out
	}
}
