package device

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
)

// about lists what was shown of who is in a room, as state, who, by whom and as what.
func about(shown []Shown) (out []string) {
	for _, s := range shown {
		if s.Event == "room" && s.State != "named" {
			out = append(out, s.State+" "+s.From+" by "+s.By+" as "+s.Role)
		}
	}
	return out
}

func TestARoomSaysOnceForEachPersonWhoCameAndWentAndByWhom(t *testing.T) {
	w := newTrio(t)
	tablet := linkDevice(t, w.claire)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{w.bob.Address(), w.adam.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.adam)
	expect := func(what string, d *Device, want ...string) {
		t.Helper()
		got := about(receiveUntil(t, d, what, func(all []Shown) bool { return len(about(all)) >= len(want) }))
		if got = append(got, about(receive(t, d))...); !slices.Equal(got, want) {
			t.Errorf("%s: %s is shown %q, not %q", what, d.Address(), got, want)
		}
	}
	must(t, with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), id, w.claire.Address(), wire.RoleGuest) }))
	expect("a guest with two devices", w.bob, "added claire@hooli.example by alice@acme.example as guest")
	shown := receiveUntil(t, tablet, "the room", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("joined")) })
	if i := slices.IndexFunc(shown, hasState("joined")); shown[i].Count != 4 {
		t.Errorf("joining says %+v", shown[i])
	}
	receive(t, w.claire)
	must(t, with(t, w.alice, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.claire.Address()) }))
	expect("a removal", w.bob, "member removed claire@hooli.example by alice@acme.example as ")
	expect("one's own", w.claire, "removed  by alice@acme.example as ")
	must(t, with(t, w.adam, func(s *Sender) error { return s.Leave(t.Context(), id) }))
	expect("who leaves", w.bob, "left adam@acme.example by adam@acme.example as ")
	must(t, with(t, w.alice, func(s *Sender) error { return s.SetRole(t.Context(), id, w.bob.Address(), wire.RoleAdmin) }))
	expect("a rule", w.bob, "rules changed alice@acme.example by  as ")
}

func TestWhoWasRemovedBeforeTheFirstVisitIsToldSoAndNothingElse(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{w.bob.Address(), w.claire.Address()}})
		return err
	}))
	sendRoom(t, w.alice, id, "while claire was there")
	must(t, with(t, w.alice, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.claire.Address()) }))
	shown := receiveUntil(t, w.claire, "what became of it", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("invited in vain")) })
	for _, s := range append(shown, receive(t, w.claire)...) {
		if s.Event == "unreadable" || s.Event == "room" && s.State != "invited in vain" {
			t.Errorf("claire is shown %+v", s)
		}
	}
}

func TestAdministratorsRenameARoomAndSeveralAreInvitedAtOnce(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{})
		return err
	}))
	everybody := []wire.Address{w.bob.Address(), w.adam.Address(), w.claire.Address()}
	nobody, err := wire.ParseAddress("nobody@globex.example")
	must(t, err)
	if err := with(t, w.alice, func(s *Sender) error { return s.InviteAll(t.Context(), id, append(everybody, nobody), wire.RoleMember) }); err == nil {
		t.Error("invited with somebody who is not there")
	}
	if got := roles(t, w.alice, id); len(got) != 1 {
		t.Errorf("after that, in the room: %v", got)
	}
	must(t, with(t, w.alice, func(s *Sender) error { return s.InviteAll(t.Context(), id, everybody, wire.RoleMember) }))
	agreeing(t, id, w.alice, w.bob, w.adam, w.claire)
	must(t, with(t, w.alice, func(s *Sender) error { return s.RenameRoom(t.Context(), id, "Docks") }))
	receiveUntil(t, w.bob, "the new name", func(all []Shown) bool {
		return slices.ContainsFunc(all, func(s Shown) bool { return s.State == "named" && s.RoomName == "Docks" })
	})
	if err := with(t, w.bob, func(s *Sender) error { return s.RenameRoom(t.Context(), id, "Mine") }); err == nil {
		t.Error("a member renamed the room")
	}
	if _, err := w.bob.FindRoom(id.String()[:4]); err == nil || !strings.Contains(err.Error(), "6 characters") {
		t.Errorf("a short ID: %v", err)
	}
}

func TestATextThatWaitsForAcceptanceIsListedAndCanBeWithdrawn(t *testing.T) {
	p := newAskingPair(t)
	send(t, p.alice, p.bob.Address(), "may I", SendOptions{})
	list, err := p.alice.Asked()
	if err != nil || len(list) != 1 || list[0].Text != "may I" || list[0].State != StateAsked || list[0].Deadline.IsZero() {
		t.Fatalf("asked: %+v, %v", list, err)
	}
	if n, err := p.alice.Withdraw(p.bob.Address()); n != 1 || err != nil {
		t.Fatalf("withdrawn: %d, %v", n, err)
	}
	if _, err := p.alice.Withdraw(p.bob.Address()); err == nil {
		t.Error("withdrawn twice")
	}
	must(t, p.bob.SetContact(t.Context(), p.alice.Address().String(), "accepted"))
	receive(t, p.alice)
	if got := texts(receive(t, p.bob)); len(got) > 0 {
		t.Errorf("bob was shown %q", got)
	}
}

func TestAHubThatIsAwayIsToldToWhoWritesAndChangesAndNothingIsLost(t *testing.T) {
	p := newPair(t)
	carl := p.globex.device("carl")
	var id wire.RoomID
	must(t, with(t, p.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{p.bob.Address()}})
		return err
	}))
	agreeing(t, id, p.alice, p.bob)
	p.acme.halt()
	var events []Progress
	must(t, with(t, p.bob, func(s *Sender) error {
		return s.SendRoom(t.Context(), id, "into the dark", SendOptions{}, func(x Progress) { events = append(events, x) })
	}))
	away := HubAway("acme.example")
	if n := len(events); n != 2 || events[0].Event != "accepted" || events[1].Event != "hub away" || events[1].Reason != away {
		t.Errorf("bob was told %+v", events)
	}
	err := with(t, p.bob, func(s *Sender) error { return s.Invite(t.Context(), id, carl.Address(), wire.RoleMember) })
	var pending *PendingError
	if !errors.As(err, &pending) || pending.Error() != away {
		t.Errorf("the invitation ended with %v", err)
	}
	if r := p.bob.Rooms()[0]; r.Waits != 2 {
		t.Errorf("the list says %+v", r)
	}
	p.acme.start()
	receiveUntil(t, p.alice, "the words", hasTexts(1))
	receiveUntil(t, carl, "the invitation", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("joined")) })
	receive(t, p.bob)
	if r := p.bob.Rooms()[0]; r.Waits != 0 {
		t.Errorf("the list says %+v", r)
	}
}
