package device

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// amends has acme propose terms, globex sign them, and waits until both have them.
func (p *pair) amends(t *pb.TermsChange) {
	p.acme.t.Helper()
	ctx := p.acme.t.Context()
	acme, globex := node.DialOperator(p.acme.dir), node.DialOperator(p.globex.dir)
	before, err := acme.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: p.globex.name}))
	if err != nil {
		p.acme.t.Fatal(err)
	}
	if _, err := acme.AmendPartner(ctx, connect.NewRequest(&pb.AmendPartnerRequest{Name: p.globex.name, Terms: t})); err != nil {
		p.acme.t.Fatal(err)
	}
	eventually(p.acme.t, "the proposal is signed", func() error {
		shown, err := globex.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: p.acme.name}))
		if err != nil || shown.Msg.Offered == nil {
			return fmt.Errorf("nothing is offered: %w", err)
		}
		_, err = globex.AcceptAmendment(ctx, connect.NewRequest(&pb.AcceptAmendmentRequest{Name: p.acme.name, Proposal: shown.Msg.Offered.Hash}))
		return err
	})
	eventually(p.acme.t, "the proposer knows", func() error {
		shown, err := acme.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: p.globex.name}))
		if err == nil && shown.Msg.Version != before.Msg.Version+1 {
			err = fmt.Errorf("version %d", shown.Msg.Version)
		}
		return err
	})
}

// theRoom is the one room of a device.
func theRoom(t *testing.T, d *Device) wire.RoomID {
	t.Helper()
	for id := range d.rooms {
		return id
	}
	t.Fatal("this device is in no room")
	return wire.RoomID{}
}

func holds(t *testing.T, d *Device) Effective {
	t.Helper()
	e, err := d.Effective(theRoom(t, d))
	must(t, err)
	return e
}

func toldOf(shown []Shown, text string) bool {
	for _, s := range shown {
		if s.Event == "room" && s.State == "terms" && strings.Contains(s.Reason, text) {
			return true
		}
	}
	return false
}

func to[T any](v T) *T { return &v }

func TestWhatHoldsInARoomIsTheStrictestAndChangesAreTold(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receiveUntil(t, p.bob, "the first message", func(s []Shown) bool { return len(texts(s)) > 0 })
	receive(t, p.alice)
	e := holds(t, p.alice)
	if e.Retention != 3600 || len(e.Agreements) != 1 || e.Agreements[0].Organization != "globex.example" || e.Agreements[0].Version != 1 || e.Contact != "open" {
		t.Fatalf("under the organization's hour and an open agreement: %+v", e)
	}
	p.amends(&pb.TermsChange{RetentionSeconds: to(int64(1800)), Contact: to("request"), FileSize: to(uint64(1 << 20)), Abuse: to("abuse@acme.example")})
	for _, d := range []*Device{p.alice, p.bob} {
		receiveUntil(t, d, "the changed terms", func(s []Shown) bool { return toldOf(s, "(version 2): contact open, now request") })
		if e := holds(t, d); e.Retention != 1800 || e.FileSize != 1<<20 || e.Contact != "request" || e.Agreements[0].Version != 2 || e.Agreements[0].Abuse != "abuse@acme.example" {
			t.Errorf("under the amendment: %+v", e)
		}
	}
	var deadline time.Time
	must(t, p.alice.Send(t.Context(), p.bob.Address(), "asks for a day", SendOptions{Expires: 24 * time.Hour}, func(s Progress) { deadline = s.Deadline }))
	if ahead := time.Until(deadline); ahead > 31*time.Minute {
		t.Errorf("a message asks to be kept for %s", ahead)
	}
}

func TestAnAgreementThatGoesBehindTheKnownOneIsRefusedAndSaid(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	globex := p.globex.made.ID
	shown, err := call(t.Context(), p.alice.home.Device.GetAgreement, &pb.GetAgreementRequest{Organization: globex[:]})
	must(t, err)
	first := shown.Agreement
	p.amends(&pb.TermsChange{Contact: to("request")})
	receiveUntil(t, p.alice, "the changed terms", func(s []Shown) bool { return toldOf(s, "version 2") })

	take := func(body *pb.AgreementBody) error {
		p.alice.mu.Lock()
		defer p.alice.mu.Unlock()
		return p.alice.vault.update(func(t *txn) error { return p.alice.takeAgreement(t, body) })
	}
	for range 2 { // looser terms that both have signed once, shown by a node that was set back, or lies
		must(t, take(first))
	}
	if e := holds(t, p.alice); e.Contact != "request" || e.Agreements[0].Version != 2 {
		t.Errorf("the older agreement holds: %+v", e)
	}
	said := 0
	for _, s := range receive(t, p.alice) {
		if s.State == "terms" && strings.Contains(s.Reason, "version 2 is known") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("said %d times", said)
	}
	for name, edit := range map[string]func(*pb.AgreementBody){
		"with another text":           func(b *pb.AgreementBody) { b.Note = strings.Replace(b.Note, "contact open", "contact request", 1) },
		"with one signature":          func(b *pb.AgreementBody) { b.Note = b.Note[:strings.LastIndex(b.Note, "—")] },
		"with somebody else's keys":   func(b *pb.AgreementBody) { b.Theirs = b.Ours },
		"of another organization":     func(b *pb.AgreementBody) { b.Organization = make([]byte, 32) },
		"with our own organization":   func(b *pb.AgreementBody) { b.Organization = append([]byte(nil), p.acme.made.ID[:]...) },
		"without our manifests":       func(b *pb.AgreementBody) { b.Ours = nil },
		"that names no organization":  func(b *pb.AgreementBody) { b.Organization = nil },
		"that is nothing but a title": func(b *pb.AgreementBody) { b.Note = "entente.im/agreement/v1\n" },
	} {
		body := proto.CloneOf(first)
		edit(body)
		if err := take(body); err == nil {
			t.Errorf("an agreement %s was taken", name)
		}
	}
}

func TestWhatConcernsSeveralRoomsIsToldOfEachWithHowManyThereAre(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receiveUntil(t, p.bob, "the first message", func(s []Shown) bool { return len(texts(s)) > 0 })
	must(t, with(t, p.alice, func(s *Sender) error {
		_, err := s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{p.bob.Address()}})
		return err
	}))
	receive(t, p.alice)
	p.amends(&pb.TermsChange{Contact: to("request")})
	receiveUntil(t, p.alice, "the changed terms of both rooms", func(all []Shown) bool {
		rooms := make(map[string]bool)
		for _, s := range all {
			if s.State == "terms" && s.Count == 2 {
				rooms[s.Room] = true
			}
		}
		return len(rooms) == 2
	})
}

func TestWhichAgreementsGoBehindTheKnownOne(t *testing.T) {
	from := time.Unix(1_800_000_000, 0)
	known := &agreed{Version: 3, Hash: [32]byte{3}, Terms: identity.Terms{ValidFrom: from}}
	shown := func(version uint64, hash byte, later time.Duration) *identity.Agreement {
		return &identity.Agreement{Version: version, Hash: [32]byte{hash}, Terms: identity.Terms{ValidFrom: from.Add(later)}}
	}
	for _, c := range []struct {
		name  string
		known *agreed
		shown *identity.Agreement
		older bool
	}{
		{"the same", known, shown(3, 3, 0), false},
		{"the one before", known, shown(2, 2, 0), true},
		{"another text of the same version", known, shown(3, 9, 0), true},
		{"the next", known, shown(4, 4, 0), false},
		{"a later one, some missed", known, shown(9, 9, 0), false},
		{"the first one again", known, shown(1, 1, 0), true},
		{"a new agreement that begins later", known, shown(1, 1, time.Second), false},
		{"the first that is shown", nil, shown(1, 1, 0), false},
		{"the first after a node that could not say", &agreed{}, shown(2, 2, 0), false},
	} {
		if got := c.known.older(c.shown); got != c.older {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
