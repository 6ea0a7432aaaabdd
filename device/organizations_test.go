package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// wrongOrganization is a home node that shows manifests of itself for everybody's.
type wrongOrganization struct {
	ententev1connect.DeviceServiceClient
	own wire.OrganizationID
}

func (w wrongOrganization) GetOrganization(ctx context.Context, _ *connect.Request[pb.GetOrganizationRequest]) (*connect.Response[pb.GetOrganizationResponse], error) {
	return w.DeviceServiceClient.GetOrganization(ctx, connect.NewRequest(&pb.GetOrganizationRequest{Organization: w.own[:]}))
}

func TestARoomGoesOnWhenItsHubHasNoMemberInItAnyMore(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Solo", RoomOptions{Members: []wire.Address{w.bob.Address(), w.claire.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.claire)
	must(t, with(t, w.alice, func(s *Sender) error {
		return s.SetRole(t.Context(), id, w.bob.Address(), wire.RoleAdmin)
	}))
	must(t, with(t, w.alice, func(s *Sender) error { return s.Leave(t.Context(), id) }))
	eventually(t, "alice is out", func() error {
		receive(t, w.alice)
		for _, d := range []*Device{w.bob, w.claire} {
			receive(t, d)
			if got := roles(t, d, id); len(got) != 2 {
				return fmt.Errorf("%v", got)
			}
		}
		return nil
	})

	hugo, hilda := w.hooli.device("hugo"), w.hooli.device("hilda")
	home := hilda.home.Device
	hilda.home.Device = wrongOrganization{home, hilda.account.Organization}
	for _, d := range []*Device{hugo, hilda} {
		must(t, with(t, w.bob, func(s *Sender) error { return s.Invite(t.Context(), id, d.Address(), wire.RoleMember) }))
	}
	t.Run("somebody who is invited joins", func(t *testing.T) {
		shown := receiveUntil(t, hugo, "he is in", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("joined")) })
		nothingLost(t, shown)
		agreeing(t, id, w.bob, w.claire, hugo)
		sendRoom(t, hugo, id, "by whom is this ordered?")
		for _, d := range []*Device{w.bob, w.claire} {
			if got := texts(receiveUntil(t, d, "his words", hasTexts(1))); !slices.Equal(got, []string{"by whom is this ordered?"}) {
				t.Errorf("%s was shown %q", d.Address(), got)
			}
		}
		if r := hugo.Rooms()[0]; r.Hub != w.acme.name {
			t.Errorf("the hub is called %q", r.Hub)
		}
		m, err := w.alice.chains.get(w.alice.ownKey())
		must(t, err)
		if key, err := hugo.nodeKey(m.Organization.ID, id); err != nil || !key.Public.Equal(m.Organization.Manifest.Node) {
			t.Errorf("notices of the hub: %v, %v", key, err)
		}
		if _, err := hugo.nodeKey(wire.OrganizationID{1}, id); err == nil {
			t.Error("anybody's notices are taken")
		}
	})
	t.Run("not by the manifests of another organization", func(t *testing.T) {
		receiveUntil(t, hilda, "what came is refused", func(all []Shown) bool {
			return slices.ContainsFunc(all, func(s Shown) bool { return s.Event == "unreadable" })
		})
		if got := hilda.Rooms(); len(got) > 0 {
			t.Errorf("she joined %+v", got)
		}
	})
	t.Run("who has fallen behind comes back", func(t *testing.T) {
		w.claire.home.Device = &shortLog{DeviceServiceClient: w.claire.home.Device}
		w.claire.mu.Lock()
		err := errors.Join(w.claire.alter(id, func(r *room) { r.Behind = true }), w.claire.catchUp(t.Context(), id))
		w.claire.mu.Unlock()
		must(t, err)
		shown := receiveUntil(t, w.claire, "she is back", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("resynced")) })
		if slices.ContainsFunc(shown, hasState("not resynced")) {
			t.Errorf("shown: %+v", shown)
		}
	})
	t.Run("the hub takes a partner out and is believed by who knows nobody of it", func(t *testing.T) {
		w.acme.suspends("globex.example", true)
		shown := receiveUntil(t, hugo, "bob's organization is out", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("organization removed")) })
		if !slices.ContainsFunc(shown, func(s Shown) bool {
			return s.State == "organization removed" && s.From == "globex.example" && s.By == "acme.example"
		}) {
			t.Errorf("%+v", shown)
		}
		nothingLost(t, shown)
	})
}
