package device

import (
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (o *organization) block(t *testing.T, who string) {
	t.Helper()
	_, err := node.DialOperator(o.dir).ChangeBlock(t.Context(), connect.NewRequest(&pb.ChangeBlockRequest{Who: who, Reason: "a test"}))
	must(t, err)
}

// hiddenIn adds up what was told of messages that were not shown.
func hiddenIn(list []Shown) (n int) {
	for _, s := range list {
		if s.Event == "blocked" {
			n += s.Count
		}
	}
	return n
}

func TestOnNoDeviceOfAMemberWhatABlockedOneSaysIsShown(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "hello", SendOptions{})
	receiveUntil(t, p.bob, "the first message", func(s []Shown) bool { return slices.Contains(texts(s), "hello") })
	tablet := linkDevice(t, p.bob)
	must(t, p.bob.SetContact(t.Context(), p.alice.Address().String(), "blocked"))
	for _, text := range []string{"one", "two", "three"} {
		send(t, p.alice, p.bob.Address(), text, SendOptions{})
	}
	for name, d := range map[string]*Device{"the device that blocked": p.bob, "the other device": tablet} {
		all := receiveUntil(t, d, name, func(s []Shown) bool { return hiddenIn(s) >= 3 })
		rows := 0
		for _, s := range all {
			switch {
			case s.Event == "message":
				t.Errorf("%s shows %q", name, s.Text)
			case s.Event == "blocked":
				rows++
				if s.From != p.alice.Address().String() || s.Text != "" {
					t.Errorf("%s: %+v", name, s)
				}
			}
		}
		if hiddenIn(all) != 3 || rows > 3 {
			t.Errorf("%s says %d hidden in %d rows", name, hiddenIn(all), rows)
		}
	}
	list, err := tablet.Contacts(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].State != "blocked" || list[0].By != "" || list[0].Hidden != 3 {
		t.Errorf("the contacts: %+v", list)
	}
	must(t, tablet.SetContact(t.Context(), p.alice.Address().String(), "none"))
	send(t, p.alice, p.bob.Address(), "again", SendOptions{})
	for _, d := range []*Device{p.bob, tablet} {
		got := receiveUntil(t, d, "what comes after", func(s []Shown) bool { return slices.Contains(texts(s), "again") })
		if m := texts(got); !slices.Equal(m, []string{"again"}) {
			t.Errorf("after the block: %q", m)
		}
	}
}

func TestWhomTheOrganizationBlocksIsToldInRoomsOfSeveralAndSilentInThoseOfTwo(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.bob, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{w.alice.Address(), w.claire.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.claire)
	send(t, w.alice, w.bob.Address(), "of two", SendOptions{})
	receiveUntil(t, w.bob, "the room of two", func(s []Shown) bool { return slices.Contains(texts(s), "of two") })
	w.globex.block(t, "alice@acme.example")
	if err := w.alice.Send(t.Context(), w.bob.Address(), "and now?", SendOptions{Wait: patience}, func(Progress) {}); err != nil {
		t.Logf("alice is told: %v", err)
	}
	sendRoom(t, w.alice, id, "to all")
	all := receiveUntil(t, w.bob, "what was said to all", func(s []Shown) bool { return slices.Contains(texts(s), "to all") && told(s) != nil })
	if slices.Contains(texts(all), "and now?") {
		t.Error("a message of two people is shown")
	}
	if s := told(all); s.From != w.alice.Address().String() || s.To != "globex.example" || s.Reason == "" {
		t.Errorf("the room's administrator is told %+v", s)
	}
	if s := told(receive(t, w.bob)); s != nil {
		t.Errorf("told again: %+v", s)
	}
	list, err := w.bob.RoomMembers(id)
	must(t, err)
	for _, m := range list {
		if m.Blocked != (m.Address == w.alice.Address().String()) {
			t.Errorf("%s: blocked %v", m.Address, m.Blocked)
		}
	}
	if s := told(receive(t, w.claire)); s != nil {
		t.Errorf("another organization's member is told %+v", s)
	}
}

func told(list []Shown) *Shown {
	for i, s := range list {
		if s.Event == "room" && s.State == "blocked" {
			return &list[i]
		}
	}
	return nil
}

func TestAnInvitationOfWhoIsBlockedIsNotFollowed(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "you are in", SendOptions{}) // waits at bob's node, with its Welcome
	must(t, p.bob.SetContact(t.Context(), p.alice.Address().String(), "blocked"))
	all := receive(t, p.bob)
	if len(all) != 1 || all[0].Event != "blocked" || all[0].State != "invitation" || all[0].From != p.alice.Address().String() {
		t.Fatalf("bob is shown %+v", all)
	}
	if rooms := p.bob.Rooms(); len(rooms) != 0 {
		t.Fatalf("bob is in %+v", rooms)
	}
}
