package device

import (
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestReactionsAreTakenBackAndNameWhatTheyAreAbout(t *testing.T) {
	p := newPair(t)
	to, from := p.bob.Address(), p.alice.Address()
	send(t, p.alice, to, "meet at noon", SendOptions{})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	id, _, err := p.bob.FindMessage(find(t, p.bob, "meet at noon").ID[:12])
	must(t, err)
	reaction := func(deleted bool, text string) func([]Shown) bool {
		return func(all []Shown) bool {
			return slices.ContainsFunc(all, func(s Shown) bool {
				return s.Event == "reaction" && s.Deleted == deleted && s.Text == text && s.ReplyTo == id.String() && s.Quote == "meet at noon"
			})
		}
	}
	refused := func(what string, text string, o SendOptions, code pb.Code) {
		t.Helper()
		o.About = id
		if err := p.bob.Send(t.Context(), from, text, o, func(Progress) {}); wire.StatusOf(err).Code != code {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("taking back what is not there", "+1", SendOptions{Action: ActionUnreact}, pb.Code_CODE_NOT_FOUND)
	send(t, p.bob, from, "+1", SendOptions{Action: ActionReact, About: id})
	send(t, p.bob, from, "heart", SendOptions{Action: ActionReact, About: id})
	receiveUntil(t, p.alice, "a reaction", reaction(false, "heart"))
	refused("the same twice", "+1", SendOptions{Action: ActionReact}, pb.Code_CODE_EXISTS)
	send(t, p.bob, from, "+1", SendOptions{Action: ActionUnreact, About: id})
	receiveUntil(t, p.alice, "it is taken back", reaction(true, "+1"))
	refused("taking it back again", "+1", SendOptions{Action: ActionUnreact}, pb.Code_CODE_NOT_FOUND)
	// The other one by its own ID, as any message.
	var hearts []Sent
	list, err := p.bob.Sent()
	must(t, err)
	for _, s := range list {
		if s.Reaction && s.Text == "heart" {
			hearts = append(hearts, s)
		}
	}
	if len(hearts) != 1 {
		t.Fatalf("bob's own: %+v", list)
	}
	heart, _, err := p.bob.FindMessage(hearts[0].ID[:12])
	must(t, err)
	if err := p.bob.Send(t.Context(), from, "x", SendOptions{Action: ActionEdit, About: heart}, func(Progress) {}); wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN {
		t.Errorf("a reaction was edited: %v", err)
	}
	send(t, p.bob, from, "", SendOptions{Action: ActionDelete, About: heart})
	receiveUntil(t, p.alice, "and so is the other", reaction(true, "heart"))
	all, err := p.alice.Timeline(wire.RoomID{})
	must(t, err)
	for i, s := range all {
		if s.Event == "reaction" && !s.Deleted || s.Event == "edited" || s.Text == "" && s.Event == "reaction" {
			t.Errorf("alice still sees %+v", s)
		}
		if i > 0 && s.At.Before(all[i-1].At) {
			t.Errorf("out of order: %+v", s)
		}
	}
	if !slices.ContainsFunc(all, func(s Shown) bool { return s.Sent && s.Text == "meet at noon" && s.Event == "message" }) {
		t.Errorf("alice's own words are not in her timeline: %+v", all)
	}
	send(t, p.bob, from, "fine", SendOptions{Action: ActionReply, About: id})
	receiveUntil(t, p.alice, "a reply with its quote", func(all []Shown) bool {
		return slices.ContainsFunc(all, func(s Shown) bool { return s.Text == "fine" && s.Quote == "meet at noon" })
	})
}

func TestAnEditOfWhatIsDeletedBeforeAnybodyLooksShowsNothing(t *testing.T) {
	p := newPair(t)
	to := p.bob.Address()
	send(t, p.alice, to, "meet at noon", SendOptions{})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	id, err := ParseMessageID(lastSent(t, p.alice).ID)
	must(t, err)
	for name, text := range map[string]string{"nothing": "", "blanks": " \n"} {
		for _, o := range []SendOptions{{}, {Action: ActionReply, About: id}, {Action: ActionEdit, About: id}} {
			if err := p.alice.Send(t.Context(), to, text, o, func(Progress) {}); wire.StatusOf(err).Code != pb.Code_CODE_MALFORMED {
				t.Errorf("%s as a text: %v", name, err)
			}
		}
	}
	send(t, p.alice, to, "meet at one", SendOptions{Action: ActionEdit, About: id})
	send(t, p.alice, to, "", SendOptions{Action: ActionDelete, About: id})
	shown := receiveUntil(t, p.bob, "the deletion", func(all []Shown) bool {
		return slices.ContainsFunc(all, func(s Shown) bool { return s.Event == "deleted" })
	})
	shown = append(shown, receive(t, p.bob)...)
	all, err := p.bob.Timeline(wire.RoomID{})
	must(t, err)
	for _, s := range append(shown, all...) {
		if s.Event == "edited" {
			t.Errorf("shown: %+v", s)
		}
	}
}

func TestAMessageThatBurnsEndsAtItsTimeAtTheLatest(t *testing.T) {
	p := newPair(t)
	to := p.bob.Address()
	send(t, p.alice, to, "a beginning", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	until := time.Now().Add(6 * time.Second).Truncate(time.Second)
	send(t, p.alice, to, "an hour, but not that long", SendOptions{Burn: time.Hour, Until: until})
	shown := receiveUntil(t, p.bob, "the message", hasTexts(1))
	if s := shown[len(shown)-1]; s.Burns != "1h0m0s" || !s.Ends.Equal(until) {
		t.Errorf("shown: %+v", s)
	}
	time.Sleep(time.Until(until.Add(time.Second)))
	for _, d := range []*Device{p.alice, p.bob} {
		must(t, d.Sweep())
		all, err := d.Timeline(wire.RoomID{})
		must(t, err)
		if slices.ContainsFunc(all, func(s Shown) bool { return s.Text == "an hour, but not that long" }) {
			t.Errorf("%s still has it: %+v", d.Address(), all)
		}
	}
}
