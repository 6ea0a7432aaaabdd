package federation

import (
	"context"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

func TestAProposalThatWasWithdrawnIsNotPutInForceByAPartnerThatSignsItLate(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	a.proposes(b, stricter(a.info(b)))
	p := a.fed.find(b.org.ID)
	rec, _ := p.recorded()
	note, err := wire.AddSignature(rec.Proposed.Note, b.fed.opts.AgreementKey, a.org.NodeKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.fed.WithdrawAmendment(ctx, b.org.ID); err != nil {
		t.Fatal(err)
	}
	late := &pb.AmendAnswer{Agreement: note, Ours: uint64(rec.TheirManifests), Theirs: uint64(rec.OurManifests)}
	refusedWith(t, a.fed.heardInForce(ctx, p, late), pb.Code_CODE_FORBIDDEN)
	if got := a.info(b).Version; got != 1 {
		t.Errorf("version %d is in force", got)
	}
	rec, _ = p.recorded() // as after a restore, which has forgotten that it was withdrawn
	rec.Withdrawn = nil
	if err := a.fed.keep(ctx, p, rec, p.standing()); err != nil {
		t.Fatal(err)
	}
	if err := a.fed.heardInForce(ctx, p, late); err != nil || a.info(b).Version != 2 {
		t.Errorf("a later text that both have signed is not taken over: %v", err)
	}
}

func TestWhatIsInForceIsNotReplacedByAnOlderTextOrOneThatDoesNotStand(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	first, _ := a.fed.find(b.org.ID).recorded()
	if err := b.fed.AcceptAmendment(ctx, a.org.ID, a.proposes(b, stricter(a.info(b)))); err != nil {
		t.Fatal(err)
	}
	until(t, "version 2 is in force", func() bool { return a.info(b).Version == 2 })
	p := a.fed.find(b.org.ID)
	now, _ := p.recorded()
	old := &pb.AmendAnswer{Agreement: first.Agreement, Ours: uint64(first.TheirManifests), Theirs: uint64(first.OurManifests)}
	if err := a.fed.heardInForce(ctx, p, old); err != nil {
		t.Errorf("a partner that is behind: %v", err)
	}
	old.Ours, old.Theirs = 1<<40, 1<<40 // signed under manifests that are not known here
	if err := a.fed.heardInForce(ctx, p, old); err != nil {
		t.Errorf("under manifests that are not known: %v", err)
	}
	for name, answer := range map[string]*pb.AmendAnswer{
		"nothing":      {},
		"noise":        {Agreement: "noise"},
		"no manifests": {Agreement: first.Agreement},
	} {
		if err := a.fed.heardInForce(ctx, p, answer); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if rec, _ := p.recorded(); rec.Agreement != now.Agreement {
		t.Error("the agreement is another")
	}
}
