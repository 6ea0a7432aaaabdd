package device

import (
	"context"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// diverter is a member's device that invites rightly, as far as a hub can see, and into another
// group: a Welcome is sealed, and only whom it is for can tell.
type diverter struct {
	ententev1connect.DeviceServiceClient
	t       *testing.T
	by      *Device
	edit    func(*wire.Room)
	claimed [][]byte
	tree    []byte // of the other group
	other   wire.RoomID
}

func (v *diverter) ClaimKeyPackages(ctx context.Context, r *connect.Request[pb.ClaimKeyPackagesRequest]) (*connect.Response[pb.ClaimKeyPackagesResponse], error) {
	a, err := v.DeviceServiceClient.ClaimKeyPackages(ctx, r)
	if err == nil {
		for _, p := range a.Msg.Packages {
			if len(p.KeyPackage) > 0 {
				v.claimed = append(v.claimed, p.KeyPackage)
			}
		}
	}
	return a, err
}

// SubmitCommit is called with the device's lock held.
func (v *diverter) SubmitCommit(ctx context.Context, r *connect.Request[pb.SubmitCommitRequest]) (*connect.Response[pb.SubmitCommitResponse], error) {
	if len(r.Msg.Bundle.Welcome) > 0 {
		extensions := slices.Clone(v.by.rooms[wire.RoomID(r.Msg.Room)].state.Extensions())
		rules, err := policy.Of(extensions)
		must(v.t, err)
		room := rules.Room
		room.Generation = r.Msg.Generation
		v.edit(&room)
		v.other = wire.RoomID(room.ID)
		raw, err := room.Encode()
		must(v.t, err)
		for i := range extensions {
			if extensions[i].Type == mls.ExtensionRoom {
				extensions[i].Data = raw
			}
		}
		must(v.t, v.by.withChains(ctx, func() error {
			zero, err := group.Create(v.by.config(), group.CreateParams{Suite: Suite, GroupID: wire.GroupID(v.other, room.Generation), Credential: v.by.credential(), Extensions: extensions})
			if err != nil {
				return err
			}
			_, staged, err := zero.Stage(group.CommitParams{Adds: v.claimed})
			if err == nil {
				r.Msg.Bundle.Welcome, v.tree = staged.Welcome, staged.Tree
			}
			return err
		}))
	}
	return v.DeviceServiceClient.SubmitCommit(ctx, r)
}

// elsewhere are the groups that an invitation may lead into instead of the one that it is for.
var elsewhere = map[string]func(*wire.Room){
	"another room":       func(r *wire.Room) { r.ID = mls.Random(32) },
	"another generation": func(r *wire.Room) { r.Generation += 3 },
	"another hub": func(r *wire.Room) {
		r.Hub = r.Organizations[slices.IndexFunc(r.Organizations, func(m wire.RoomMember) bool { return string(m.Organization) != string(r.Hub) })].Organization
	},
}

func TestAResetWhoseInvitationsLeadElsewhereIsEnteredWithoutThemAndTheHubIsNotBlamed(t *testing.T) {
	for name, edit := range elsewhere {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			id := brokenRoom(t, w, w.adam, w.bob, w.claire)
			sendRoom(t, w.bob, id, "before")
			v := &diverter{DeviceServiceClient: w.bob.home.Device, t: t, by: w.bob, edit: edit}
			w.bob.home.Device = v
			receive(t, w.bob)
			receive(t, w.claire) // complains, too
			generation(t, id, 1, w.bob)
			if v.tree == nil {
				t.Fatal("bob did not invite")
			}
			generation(t, id, 1, w.claire, w.adam)
			agreeing(t, id, w.adam, w.bob, w.claire)
			for _, d := range []*Device{w.adam, w.claire} {
				past, err := d.History()
				must(t, err)
				if slices.ContainsFunc(past, hasState("forked")) || d.rooms[id].Stopped != "" {
					t.Errorf("%s blames the hub: %q, %+v", d.Address(), d.rooms[id].Stopped, past)
				}
				if !slices.ContainsFunc(past, func(s Shown) bool { return s.State == "resynced" && strings.Contains(s.Reason, "bob@globex.example") }) {
					t.Errorf("%s is not told whose invitation it was: %+v", d.Address(), past)
				}
				if got := texts(past); !slices.Equal(got, []string{"before"}) || len(d.rooms) != 1 {
					t.Errorf("%s has read %q and is in %d rooms", d.Address(), got, len(d.rooms))
				}
			}
			sendRoom(t, w.claire, id, "here all the same")
			for _, d := range []*Device{w.adam, w.bob} {
				receiveUntil(t, d, "claire's words", hasTexts(1))
			}
		})
	}
}

func TestAnInvitationThatLeadsElsewhereMakesNoRoomAndCanBeMadeAgain(t *testing.T) {
	all := t // of the devices
	w := newTrio(t)
	own := groupOf(t, w.alice, w.claire)
	honest := w.bob.home.Device
	for name, edit := range elsewhere {
		t.Run(name, func(t *testing.T) {
			id := groupOf(t, w.bob, w.alice, w.adam)
			v := &diverter{DeviceServiceClient: honest, t: t, by: w.bob, edit: edit}
			w.bob.home.Device = v
			must(t, with(t, w.bob, func(s *Sender) error { return s.Invite(t.Context(), id, w.claire.Address(), wire.RoleMember) }))
			w.claire.home.Device = &forger{w.claire.home.Device, v.tree} // a hub that is with bob
			shown := receiveUntil(t, w.claire, "that there was an invitation", func(all []Shown) bool {
				return slices.ContainsFunc(all, func(s Shown) bool { return s.Event == "unreadable" })
			})
			if shown[0].Event != "unreadable" || !strings.Contains(shown[0].Reason, "another room, generation or hub") || slices.ContainsFunc(shown, func(s Shown) bool { return s.Event == "room" }) {
				t.Errorf("claire is shown %+v", shown)
			}
			in := len(w.claire.rooms)
			w.claire = reopened(all, w.claire)
			if w.claire.rooms[id] != nil || w.claire.rooms[v.other] != nil || len(w.claire.rooms) != in {
				t.Errorf("claire has stored it: %d rooms", len(w.claire.rooms))
			}
			w.bob.home.Device = honest
			must(t, with(t, w.bob, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.claire.Address()) }))
			must(t, with(t, w.bob, func(s *Sender) error { return s.Invite(t.Context(), id, w.claire.Address(), wire.RoleMember) }))
			agreeing(t, id, w.alice, w.adam, w.bob, w.claire)
			sendRoom(t, w.alice, own, "in the old room")
			sendRoom(t, w.bob, id, "in the new one")
			receiveUntil(t, w.claire, "both", hasTexts(2))
		})
	}
}
