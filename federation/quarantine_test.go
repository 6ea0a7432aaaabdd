package federation

import (
	"context"
	"slices"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// change is a handshake of the n-th room, as a hub fans it out.
func (n *node) change(to *node, room byte) uint64 {
	n.t.Helper()
	id := wire.RoomID{room}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE,
		Kind: pb.Kind_KIND_COMMIT, Room: id[:], Body: []byte("a Commit")})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.outbox.add(to.org.ID, &pb.Item{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: core}})
}

func (n *node) sees(t *testing.T, other *node, state string) {
	t.Helper()
	until(t, n.name+" sees "+state, func() bool {
		i, _ := n.fed.Partner(other.name)
		return i.State == state
	})
}

func TestAQuarantineHoldsMessagesOfBothSidesAndLetsHandshakesPass(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	if err := b.fed.Quarantine(ctx, a.org.ID, "odd files"); err != nil {
		t.Fatal(err)
	}
	a.sees(t, b, "quarantinedThere")
	held := []uint64{a.sends(b, 1, "held"), a.sends(b, 2, "held too")}
	ours := b.sends(a, 1, "held as well")
	a.outbox.answeredWith(t, a.change(b, 1), pb.Code_CODE_ACCEPTED)
	b.outbox.answeredWith(t, b.change(a, 1), pb.Code_CODE_ACCEPTED)
	for _, n := range held {
		if s := a.outbox.status(n); s != nil {
			t.Errorf("what a holds was answered %s", wire.CodeName(s.Code))
		}
	}
	if s := b.outbox.status(ours); s != nil {
		t.Errorf("what b holds was answered %s", wire.CodeName(s.Code))
	}
	if _, err := b.fed.Takes(a.org.ID, b.clock.Now()); err != nil {
		t.Errorf("what is sent in quarantine waits: %v", err)
	}
	b.halt() // it outlives the process, and so does the holding back
	b.start()
	a.sees(t, b, "quarantinedThere")
	if i, _ := b.fed.Partner(a.name); i.State != "quarantined" || i.Why != "odd files" {
		t.Errorf("after a restart: %s, because %q", i.State, i.Why)
	}
	a.outbox.answeredWith(t, a.change(b, 2), pb.Code_CODE_ACCEPTED)
	if seen := b.handler.seen(a.org.ID); slices.Contains(seen, held[0]) || slices.Contains(seen, held[1]) {
		t.Errorf("what was held has arrived: %v", seen)
	}
	if err := b.fed.Release(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	for _, n := range held {
		a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	}
	b.outbox.answeredWith(t, ours, pb.Code_CODE_ACCEPTED)
	a.linked(b)
}

func TestAPartnerThatSendsInQuarantineIsAnsweredSo(t *testing.T) {
	a, b := pair(t)
	p := b.fed.find(a.org.ID)
	if err := b.fed.Quarantine(context.Background(), a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	batch := &pb.DeliverBatch{Items: []*pb.Item{roomItem(t, 1_000, 1, "pushed")}}
	for range 2 { // it stays open: the same item passes after the release
		if s := b.fed.decide(p, batch).Statuses[0].Status; s.Code != pb.Code_CODE_QUARANTINED {
			t.Fatalf("answered %s", wire.CodeName(s.Code))
		}
	}
	if err := b.fed.Release(context.Background(), a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	if s := b.fed.decide(p, batch).Statuses[0].Status; s.Code != pb.Code_CODE_ACCEPTED {
		t.Errorf("after the release: %s", wire.CodeName(s.Code))
	}
}

func TestWhatIsHeldInQuarantineIsRefusedBySuspending(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	if err := b.fed.Quarantine(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	a.sees(t, b, "quarantinedThere")
	held := a.sends(b, 1, "held")
	if err := b.fed.Suspend(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	a.outbox.answeredWith(t, held, pb.Code_CODE_SUSPENDED)
	if err := b.fed.Resume(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	b.sees(t, a, "quarantined") // resuming is no release
	if err := b.fed.End(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, b.fed.Release(ctx, a.org.ID, ""), pb.Code_CODE_NO_AGREEMENT)
}

func TestHeldMessagesKeepNothingThatFollowsBack(t *testing.T) {
	b := newBacklog()
	b.parking = true
	items := make([]Listed, 2*Lookahead)
	for n := range items {
		items[n] = Listed{Number: uint64(n) + 5, Room: wire.RoomID{1}, Message: true}
	}
	b.add(items)
	if !b.wants() || b.entries != 0 || b.lowMark() != 5 {
		t.Errorf("%d entries in memory, low mark %d", b.entries, b.lowMark())
	}
}
