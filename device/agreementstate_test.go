package device

import (
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// inState is an event that tells of an agreement's state.
func inState(organization, state string) func([]Shown) bool {
	return func(all []Shown) bool {
		return slices.ContainsFunc(all, func(s Shown) bool { return s.State == "agreement" && s.From == organization && s.Reason == state })
	}
}

func infoOf(t *testing.T, d *Device, id wire.RoomID) RoomInfo {
	t.Helper()
	for _, r := range d.Rooms() {
		if r.ID == id.String() {
			return r
		}
	}
	t.Fatal("no such room")
	return RoomInfo{}
}

// withheldOf sends to a room and returns whom that reported not to get it.
func withheldOf(t *testing.T, d *Device, id wire.RoomID) (out []string) {
	t.Helper()
	must(t, with(t, d, func(s *Sender) error {
		return s.SendRoom(t.Context(), id, "to all", SendOptions{Wait: patience}, func(p Progress) {
			if p.Event == "withheld" {
				out = append(out, fmt.Sprint(p.To, " ", p.Reason, " ", p.Members))
			}
		})
	}))
	return out
}

func TestARoomShowsInWhatStateAnAgreementIsAndWhoDoesNotGetWhatIsSent(t *testing.T) {
	w, id := harbour(t)
	for _, d := range []*Device{w.alice, w.bob, w.claire} {
		eventually(t, "the agreements are known", func() error {
			receive(t, d)
			for _, p := range infoOf(t, d, id).Partners {
				if p.State != wire.AgreementInForce {
					return fmt.Errorf("%+v", infoOf(t, d, id).Partners)
				}
			}
			return nil
		})
	}
	if got := withheldOf(t, w.alice, id); len(got) != 0 {
		t.Errorf("with all in force: %v", got)
	}
	w.acme.suspends("globex.example", false)
	// Sent before this device has looked into its mailbox.
	if got := withheldOf(t, w.alice, id); !slices.Equal(got, []string{"globex.example suspended [bob@globex.example]"}) {
		t.Errorf("while globex is suspended: %v", got)
	}
	if !inState("globex.example", wire.AgreementSuspended)(receive(t, w.alice)) {
		t.Error("alice is not told")
	}
	want := []PartnerState{{"globex.example", wire.AgreementSuspended}, {"hooli.example", wire.AgreementInForce}}
	got := infoOf(t, w.alice, id)
	slices.SortFunc(got.Partners, func(a, b PartnerState) int { return len(b.Organization) - len(a.Organization) })
	if got.State != "open" || !slices.Equal(got.Partners, want) {
		t.Errorf("alice's room: %+v", got)
	}
	// The suspended side: the room is ordered by who takes nothing from it.
	receiveUntil(t, w.bob, "bob is told", inState("acme.example", wire.AgreementSuspendedThere))
	if r := infoOf(t, w.bob, id); r.State != "read-only" || r.Reason == "" {
		t.Errorf("bob's room: %+v", r)
	}
	if got := withheldOf(t, w.claire, id); len(got) != 0 || inState("globex.example", wire.AgreementSuspended)(receive(t, w.claire)) {
		t.Errorf("claire's organization has suspended nobody: %v", got)
	}
	w.acme.resumes("globex.example")
	receiveUntil(t, w.alice, "alice is told", inState("globex.example", wire.AgreementInForce))
	receiveUntil(t, w.bob, "bob is told", inState("acme.example", wire.AgreementInForce))
	if r := infoOf(t, w.bob, id); r.State != "open" {
		t.Errorf("bob's room: %+v", r)
	}
	if got := withheldOf(t, w.alice, id); len(got) != 0 {
		t.Errorf("once it is resumed: %v", got)
	}
	_, err := node.DialOperator(w.acme.dir).QuarantinePartner(t.Context(), connect.NewRequest(&pb.ChangePartnerRequest{Name: "globex.example"}))
	must(t, err)
	receiveUntil(t, w.alice, "alice is told", inState("globex.example", wire.AgreementQuarantined))
	receiveUntil(t, w.bob, "bob is told", inState("acme.example", wire.AgreementQuarantinedThere))
	if got := withheldOf(t, w.alice, id); !slices.Equal(got, []string{"globex.example quarantined [bob@globex.example]"}) {
		t.Errorf("in quarantine: %v", got)
	}
}

func TestANewAgreementIsToldAndRoomsOfBeforeItAreLeft(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receiveUntil(t, p.bob, "the first message", hasTexts(1))
	ordered := theRoom(t, p.bob) // by acme
	var globexs wire.RoomID
	must(t, with(t, p.bob, func(s *Sender) (err error) {
		globexs, err = s.CreateRoom(t.Context(), "Theirs", RoomOptions{Members: []wire.Address{p.alice.Address()}})
		return err
	}))
	agreeing(t, globexs, p.alice, p.bob)
	_, err := node.DialOperator(p.acme.dir).EndPartner(t.Context(), connect.NewRequest(&pb.ChangePartnerRequest{Name: p.globex.name}))
	must(t, err)
	receiveUntil(t, p.alice, "alice is told of the end", inState("globex.example", wire.AgreementEnded))
	receiveUntil(t, p.bob, "bob is told", inState("acme.example", wire.AgreementRefusedThere))
	if r := infoOf(t, p.alice, globexs); r.State != "read-only" {
		t.Errorf("a room that globex orders: %+v", r)
	}
	invited, err := node.DialOperator(p.acme.dir).InvitePartner(t.Context(), connect.NewRequest(&pb.InvitePartnerRequest{Name: p.globex.name, Terms: &pb.TermsChange{FileSize: to(uint64(1 << 20))}}))
	must(t, err)
	_, err = node.DialOperator(p.globex.dir).AcceptPartner(t.Context(), connect.NewRequest(&pb.AcceptPartnerRequest{Token: invited.Msg.Token}))
	must(t, err)
	for _, d := range []*Device{p.alice, p.bob} {
		receiveUntil(t, d, "the new terms", func(all []Shown) bool { return toldOf(all, "files") })
	}
	eventually(t, "it is in force for alice", func() error {
		receive(t, p.alice)
		if r := infoOf(t, p.alice, globexs); r.State != "open" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	// bob was taken out of acme's room and not told: the first message finds out, the next
	// makes a room.
	eventually(t, "they talk again", func() error {
		return p.bob.Send(t.Context(), p.alice.Address(), "again", SendOptions{Wait: patience}, func(Progress) {})
	})
	receiveUntil(t, p.alice, "bob's words", func(all []Shown) bool { return slices.Contains(texts(all), "again") })
	if r := infoOf(t, p.bob, ordered); r.State != "ended" {
		t.Errorf("the room of before: %+v", r)
	}
}
