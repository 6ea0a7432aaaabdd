package device

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestTwoWhoWriteToEachOtherAtOnceEndInOneRoom(t *testing.T) {
	p := newPair(t)
	rounds := 2
	if s := os.Getenv("ENTENTE_ROUNDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		must(t, err)
	}
	for round := range rounds {
		a, b := p.acme.device(fmt.Sprintf("ann%d", round)), p.globex.device(fmt.Sprintf("ben%d", round))
		var wg sync.WaitGroup
		for from, to := range map[*Device]*Device{a: b, b: a} {
			wg.Go(func() {
				if err := from.Send(t.Context(), to.Address(), "at once", SendOptions{Wait: patience}, func(Progress) {}); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		receiveUntil(t, a, "ben's words", hasTexts(1))
		receiveUntil(t, b, "ann's words", hasTexts(1))
		// Whatever was made in between, both go on in the same one.
		rooms := make(map[string]bool)
		for from, to := range map[*Device]*Device{a: b, b: a} {
			send(t, from, to.Address(), "next", SendOptions{Wait: patience})
			for _, s := range receiveUntil(t, to, "the next words", hasTexts(1)) {
				if s.Event == "message" {
					rooms[s.Room] = true
				}
			}
		}
		if len(rooms) != 1 {
			t.Errorf("round %d: they go on in %d rooms", round, len(rooms))
		}
		oneRoom(t, a, b)
	}
}

// oneRoom visits until devices have one room with another each, all the same, and have left
// what else there was.
func oneRoom(t *testing.T, list ...*Device) string {
	t.Helper()
	id := ""
	eventually(t, "one room", func() error {
		ids := make(map[string]bool)
		for _, d := range list {
			for _, s := range receive(t, d) {
				if s.Event == "room" || s.Event == "unreadable" {
					t.Errorf("%s is shown what is nobody's concern: %+v", d.Address(), s)
				}
			}
		}
		for _, d := range list {
			rooms := d.Rooms()
			if len(rooms) != 1 {
				return fmt.Errorf("%s lists %+v", d.Address(), rooms)
			}
			id = rooms[0].ID
			ids[id] = true
			d.mu.Lock()
			for _, r := range d.rooms {
				if r.ID.String() != id && !r.Ended {
					id = ""
				}
			}
			d.mu.Unlock()
			if id == "" {
				return fmt.Errorf("%s has not left the other room", d.Address())
			}
			if found, err := d.FindRoom(rooms[0].With); err != nil || found.String() != id {
				return fmt.Errorf("%s finds %v, %v", d.Address(), found, err)
			}
		}
		if len(ids) != 1 {
			return fmt.Errorf("rooms: %v", ids)
		}
		return nil
	})
	return id
}

// twoRooms has two members make a room each before either has heard of the other's.
func twoRooms(t *testing.T, a, b *Device) {
	t.Helper()
	for from, to := range map[*Device]*Device{a: b, b: a} {
		from.mu.Lock()
		m, err := from.resolve(t.Context(), to.Address())
		if err == nil {
			_, err = from.ensureRoom(t.Context(), m)
		}
		from.mu.Unlock()
		must(t, err)
	}
}

func TestWhatWasSaidInARoomThatLosesStaysAndCanBeAnsweredAndChanged(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	a, b := o.device("ann"), o.device("ben")
	twoRooms(t, a, b)
	send(t, a, b.Address(), "ann's", SendOptions{Wait: patience})
	send(t, b, a.Address(), "ben's", SendOptions{Wait: patience})
	receiveUntil(t, a, "ben's words", hasTexts(1))
	receiveUntil(t, b, "ann's words", hasTexts(1))
	id := oneRoom(t, a, b)
	for _, d := range []*Device{a, b} {
		sent, err := d.Sent()
		must(t, err)
		text, room, err := d.FindMessage(sent[0].ID[:10])
		if err != nil || room.String() != id {
			t.Fatalf("%s: %v, %v", d.Address(), room, err)
		}
		must(t, with(t, d, func(s *Sender) error {
			return s.SendRoom(t.Context(), room, "changed", SendOptions{Action: ActionEdit, About: text}, func(Progress) {})
		}))
		other := a
		if d == a {
			other = b
		}
		receiveUntil(t, other, "the edit", func(all []Shown) bool {
			return slices.ContainsFunc(all, func(s Shown) bool { return s.Event == "edited" && s.Text == "changed" })
		})
	}
}

func TestTwoRoomsWithOnePersonBecomeOneOnEveryDeviceAndAfterARestart(t *testing.T) {
	p := newPair(t)
	alice2, bob2 := linkDevice(t, p.alice), linkDevice(t, p.bob)
	twoRooms(t, p.alice, bob2)
	// Each has words under way in the room that it has made, on both devices.
	for _, x := range []struct{ from, to *Device }{{p.alice, p.bob}, {bob2, p.alice}} {
		send(t, x.from, x.to.Address(), "of "+x.from.Address().String(), SendOptions{Wait: patience})
	}
	for _, d := range []*Device{p.bob, alice2} {
		receiveUntil(t, d, "the words", hasTexts(1))
	}
	alice := reopened(t, p.alice)
	oneRoom(t, alice, alice2, reopened(t, p.bob), bob2)
	send(t, alice2, p.bob.Address(), "after all", SendOptions{Wait: patience})
	for _, d := range []*Device{bob2, alice} {
		got := texts(receiveUntil(t, d, "what is said then", hasTexts(1)))
		if !slices.Contains(got, "after all") {
			t.Errorf("%s was shown %q", d.Address(), got)
		}
	}
}

// A message that was not taken yet when its room was merged goes out in the one that wins:
// nobody else than its recipients is to be left in the other.
func TestAMessageThatWaitsInARoomThatLosesGoesOutInTheOther(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	a, b := o.device("ann"), o.device("ben")
	twoRooms(t, a, b)
	receive(t, a)
	receive(t, b)
	a.mu.Lock()
	win := a.roomWith(memberKey{b.account.Organization, b.account.Member})
	var lose *room
	for _, r := range a.rooms {
		if r != win {
			lose = r
		}
	}
	first := queueUnsent(t, a, lose, "late", SendOptions{})
	queueUnsent(t, a, lose, "and this", SendOptions{Action: ActionReply, About: first})
	a.mu.Unlock()
	oneRoom(t, a, b)
	var all []Shown
	eventually(t, "both come", func() error {
		receive(t, a)
		receive(t, b)
		shown, err := b.History()
		must(t, err)
		if all = slices.DeleteFunc(shown, func(s Shown) bool { return s.Event != "message" }); len(all) < 2 {
			raw, _ := b.History()
			out, _ := a.Sent()
			return fmt.Errorf("ben has %+v of %+v; ann has sent %+v", all, raw, out)
		}
		return nil
	})
	sent, err := a.Sent()
	must(t, err)
	if len(sent) != 2 {
		t.Fatalf("ann has sent %+v", sent)
	}
	if len(all) != 2 || all[0].Text != "late" || all[1].Text != "and this" || all[1].ReplyTo != all[0].ID {
		t.Errorf("ben has %+v", all)
	}
}

// queueUnsent stores a message as it lies while its room encrypts nothing.
func queueUnsent(t *testing.T, d *Device, r *room, text string, o SendOptions) MessageID {
	t.Helper()
	m, err := d.compose(r, text, o)
	must(t, err)
	encoded, id, err := newContent(wire.MemberURI(d.account.Organization, d.account.Member), wire.RoomURI(r.Hub, r.ID), m)
	must(t, err)
	out := &outgoing{ID: id, Room: r.ID, Content: encoded, Deadline: d.now().Add(time.Hour).Unix(), Queued: d.now()}
	must(t, d.vault.update(func(x *txn) error {
		return errors.Join(out.save(x), x.putSent(d, out, m, Sent{ID: id.String(), To: "ben", Room: r.ID.String(), Text: text, At: d.now(), State: "queued", Of: 1}))
	}))
	return id
}

// Who leaves the room that stands for both has left both: the other one does not come up
// again, neither here nor where the other member is alone in it.
func TestWhoLeavesARoomThatAnotherWasMergedIntoHasLeftBoth(t *testing.T) {
	for _, who := range []string{"who made the room that wins", "who was invited into it"} {
		t.Run(who, func(t *testing.T) {
			o := newOrganization(t, "acme.example", defaultBucket)
			a, b := o.device("ann"), o.device("ben")
			twoRooms(t, a, b)
			receive(t, a)
			receive(t, b)
			win := a.roomWith(memberKey{b.account.Organization, b.account.Member})
			goes, stays := a, b
			if win.Invited == (who == "who made the room that wins") {
				goes, stays = b, a
			}
			must(t, with(t, goes, func(s *Sender) error { return s.Leave(t.Context(), win.ID) }))
			var shown []Shown
			eventually(t, "both rooms are over", func() error {
				shown = append(shown, receive(t, stays)...)
				receive(t, goes)
				for _, i := range goes.Rooms() {
					if i.State != "ended" {
						return fmt.Errorf("%s lists %+v", goes.Address(), i)
					}
				}
				for _, i := range stays.Rooms() {
					if i.ID != win.ID.String() || i.People != 1 {
						return fmt.Errorf("%s lists %+v", stays.Address(), i)
					}
				}
				for _, d := range []*Device{a, b} {
					for id, r := range d.rooms {
						if id != win.ID && !r.Ended {
							return fmt.Errorf("%s is still in the room that loses, leaving %v", d.Address(), r.Leaving)
						}
					}
				}
				return nil
			})
			if !slices.ContainsFunc(shown, func(s Shown) bool { return s.State == "left" && s.Room == win.ID.String() }) {
				t.Errorf("%s is not told: %+v", stays.Address(), shown)
			}
			// What is written next, by whomever, begins a new room.
			send(t, stays, goes.Address(), "come back", SendOptions{Wait: patience})
			for _, s := range receiveUntil(t, goes, "the words", hasTexts(1)) {
				if s.Event == "message" && s.Room == win.ID.String() {
					t.Errorf("said in a room that was left: %+v", s)
				}
			}
		})
	}
}

func TestARoomThatWasMergedIsFoundByTheBeginningOfItsIDToo(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	a, b := o.device("ann"), o.device("ben")
	twoRooms(t, a, b)
	id := oneRoom(t, a, b)
	for r := range a.rooms {
		if found, err := a.FindRoom(r.String()[:8]); err != nil || found.String() != id {
			t.Errorf("%v finds %v, %v", r, found, err)
		}
	}
}

// What was written into a room of two before it was known here that the other one leaves it is
// refused, and its sender told: it would be ordered in a room that nobody else is in.
func TestWhatIsWrittenToWhoLeavesTheRoomIsNotLostInSilence(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	receive(t, p.bob)
	id, _ := onlyRoom(t, p.bob)
	must(t, with(t, p.alice, func(s *Sender) error { return s.Leave(t.Context(), id) }))
	receiveUntil(t, p.bob, "alice has left", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("left")) })
	queueUnsent(t, p.bob, p.bob.rooms[id], "too late", SendOptions{})
	receive(t, p.bob)
	list, err := p.bob.Sent()
	must(t, err)
	if last := list[len(list)-1]; last.Text != "too late" || last.State != "refused" || last.Code != pb.Code_CODE_UNKNOWN_ROOM {
		t.Errorf("bob is told %+v", last)
	}
	send(t, p.bob, p.alice.Address(), "in a new room", SendOptions{Wait: patience})
	if got := texts(receiveUntil(t, p.alice, "the message", hasTexts(1))); !slices.Equal(got, []string{"in a new room"}) {
		t.Errorf("alice reads %q", got)
	}
}
