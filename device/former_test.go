package device

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/entente-im/entente/wire"
)

func TestWhoWasAwayFollowsPastADeviceThatCameAndWent(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{w.bob.Address(), w.claire.Address()}})
		return err
	}))
	receiveUntil(t, w.bob, "the room", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("named")) })
	// While bob is away a device comes, speaks, commits, is lost, and is revoked.
	tablet := linkDevice(t, w.alice)
	receiveUntil(t, tablet, "the room", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("joined")) })
	sendRoom(t, tablet, id, "by the tablet")
	must(t, with(t, tablet, func(s *Sender) error { return s.SetRole(t.Context(), id, w.claire.Address(), wire.RoleGuest) }))
	receiveUntil(t, w.alice, "what the tablet said", hasTexts(1))
	must(t, w.alice.Revoke(t.Context(), tablet.ID()))
	eventually(t, "the tablet is out", func() error {
		receive(t, w.alice)
		return devicesAre(w.alice, id, 3)
	})
	sendRoom(t, w.alice, id, "after the tablet")
	shown := receiveUntil(t, w.bob, "what was said last", func(all []Shown) bool { return slices.Contains(texts(all), "after the tablet") })
	for _, s := range shown {
		// bob could never check the tablet: its words are not put into alice's mouth.
		if s.Text == "by the tablet" || s.State == "stopped" {
			t.Errorf("shown: %+v", s)
		}
	}
	agreeing(t, id, w.alice, w.bob)
	sendRoom(t, w.bob, id, "bob is here")
	receiveUntil(t, w.alice, "bob's words", func(all []Shown) bool { return slices.Contains(texts(all), "bob is here") })
	// claire had no room until now: her Welcome is of the time when the tablet was not there.
	receiveUntil(t, w.claire, "what was said last", func(all []Shown) bool { return slices.Contains(texts(all), "bob is here") })
}

func TestNothingIsSaidInARoomThatARevokedDeviceIsStillIn(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "hello", SendOptions{})
	tablet := linkDevice(t, p.alice)
	receiveUntil(t, p.bob, "the tablet is in the room", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("device added")) })
	id, err := wire.ParseRoomID(p.bob.Rooms()[0].ID)
	must(t, err)
	encrypted := func(text string) bool {
		t.Helper()
		o, err := SendOptions{}.orDefault()
		must(t, err)
		mid, err := p.bob.queueRoom(id, text, o)
		must(t, err)
		_, out, err := p.bob.sent(mid)
		must(t, err)
		return out.Core != nil
	}
	if !encrypted("as ever") {
		t.Fatal("a device in force counts as revoked")
	}
	// bob's device hears of the revocation, and nothing from the hub.
	k := memberKey{p.alice.account.Organization, p.alice.account.Member}
	m, err := p.bob.chains.get(k)
	must(t, err)
	now := *m
	now.Devices = maps.Clone(m.Devices)
	delete(now.Devices, tablet.ID())
	now.Revoked = append(now.Revoked, tablet.ID())
	p.bob.chains.learned(&learned{memberKey: k, member: &now})
	if encrypted("secret") {
		t.Error("a message was encrypted to a device that is revoked")
	}
	if _, committing, err := (&link{d: p.bob}).heldBack(id); !committing || err != nil {
		t.Errorf("it does not wait for the hub: %v", err)
	}
}

// devicesAre fails unless a room has that many devices.
func devicesAre(d *Device, id wire.RoomID, n int) error {
	for _, r := range d.Rooms() {
		if r.ID == id.String() && r.Devices == n {
			return nil
		}
	}
	return errors.New("not yet")
}
