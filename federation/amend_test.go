package federation

import (
	"context"
	"testing"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

func (n *node) info(other *node) PartnerInfo {
	n.t.Helper()
	i, err := n.fed.Partner(other.name)
	if err != nil {
		n.t.Fatal(err)
	}
	return i
}

// stricter are the terms of the tests, but for the contact.
func stricter(i PartnerInfo) identity.Terms {
	t := i.Terms
	t.Contact, t.FileSize = identity.ContactRequest, 1<<20
	return t
}

// proposes has n propose terms and waits until the other side has them.
func (n *node) proposes(other *node, t identity.Terms) [32]byte {
	n.t.Helper()
	if err := n.fed.Amend(context.Background(), other.org.ID, t); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, "the proposal is there", func() bool { return other.info(n).Offered != nil && n.info(other).Proposed.Delivered })
	return other.info(n).Offered.Hash
}

func bothAt(t *testing.T, a, b *node, version uint64, contact identity.Contact) {
	t.Helper()
	until(t, "both have the version in force", func() bool {
		x, y := a.info(b), b.info(a)
		return x.Version == version && y.Version == version && x.Agreement == y.Agreement && x.Terms.Contact == contact
	})
	a.linked(b)
	b.linked(a)
	a.outbox.answeredWith(t, a.sends(b, 9, "under the new terms"), pb.Code_CODE_ACCEPTED)
}

func TestAnAmendmentIsInForceOnceBothHaveSigned(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	hash := a.proposes(b, stricter(a.info(b)))
	if x, y := a.info(b), b.info(a); x.Version != 1 || y.Version != 1 || x.Terms.Contact != identity.ContactOpen || y.Terms.Contact != identity.ContactOpen {
		t.Error("a proposal alone changed the terms")
	}
	a.halt() // the proposal outlives both processes
	b.halt()
	a.start()
	b.start()
	if b.info(a).Offered.Hash != hash || a.info(b).Proposed.Hash != hash {
		t.Fatal("the proposal is another after a restart")
	}
	refusedWith(t, b.fed.AcceptAmendment(ctx, a.org.ID, [32]byte{1}), pb.Code_CODE_NOT_FOUND) // not what was shown
	if err := b.fed.AcceptAmendment(ctx, a.org.ID, hash); err != nil {
		t.Fatal(err)
	}
	bothAt(t, a, b, 2, identity.ContactRequest)
	next := a.info(b).Terms
	next.Contact = identity.ContactOpen
	if err := a.fed.AcceptAmendment(ctx, b.org.ID, b.proposes(a, next)); err != nil {
		t.Fatal(err)
	}
	bothAt(t, a, b, 3, identity.ContactOpen)
	until(t, "nothing is left to be told", func() bool { rec, _ := a.fed.find(b.org.ID).recorded(); return !rec.Confirm })
}

func TestASignatureThatTheProposerNeverHeardOfIsMadeUpForOnTheNextLink(t *testing.T) {
	a, b := pair(t)
	hash := a.proposes(b, stricter(a.info(b)))
	a.halt() // and b's operator signs meanwhile
	if err := b.fed.AcceptAmendment(context.Background(), a.org.ID, hash); err != nil {
		t.Fatal(err)
	}
	b.halt() // the worker has not told a
	a.start()
	if a.info(b).Version != 1 {
		t.Fatal("the proposer knows of a signature that it was never told of")
	}
	b.start()
	bothAt(t, a, b, 2, identity.ContactRequest)
}

func TestWhereBothProposeOneOfTheTwoIsInForceInTheEnd(t *testing.T) {
	a, b := pair(t)
	if string(a.org.ID[:]) > string(b.org.ID[:]) {
		a, b = b, a
	}
	ctx := context.Background()
	ta := stricter(a.info(b))
	tb := ta
	tb.FileSize = 7
	fromA := a.proposes(b, ta)
	fromB := b.proposes(a, tb)
	refusedWith(t, a.fed.AcceptAmendment(ctx, b.org.ID, fromB), pb.Code_CODE_EXISTS) // its own goes first
	if err := b.fed.AcceptAmendment(ctx, a.org.ID, fromA); err != nil {
		t.Fatal(err)
	}
	bothAt(t, a, b, 2, identity.ContactRequest)
	if x, y := a.info(b), b.info(a); x.Terms.FileSize != 1<<20 || x.Offered != nil || y.Proposed != nil {
		t.Errorf("what is left: %+v, %+v", x.Offered, y.Proposed)
	}
}

func TestAProposalIsWithdrawnOrDeclined(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	hash := a.proposes(b, stricter(a.info(b)))
	other := stricter(a.info(b))
	other.FileSize = 3
	refusedWith(t, a.fed.Amend(ctx, b.org.ID, other), pb.Code_CODE_EXISTS)
	if err := a.fed.WithdrawAmendment(ctx, b.org.ID); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, b.fed.AcceptAmendment(ctx, a.org.ID, hash), pb.Code_CODE_NOT_FOUND)
	a.proposes(b, other)
	if err := b.fed.DeclineAmendment(ctx, a.org.ID); err != nil {
		t.Fatal(err)
	}
	until(t, "the proposer learns it", func() bool { i := a.info(b); return i.Proposed == nil && !i.Rejected.IsZero() })
	if x, y := a.info(b), b.info(a); x.Version != 1 || y.Version != 1 || y.Offered != nil {
		t.Errorf("after a refusal: %+v %+v", x, y)
	}
	b.halt() // who cannot be asked may have signed
	a.proposeAlone(t, b, other)
	err := a.fed.WithdrawAmendment(ctx, b.org.ID)
	if err == nil || a.info(b).Proposed == nil {
		t.Errorf("withdrawn without the partner's word: %v", err)
	}
}

func (n *node) proposeAlone(t *testing.T, other *node, terms identity.Terms) {
	t.Helper()
	terms.FileSize++
	if err := n.fed.Amend(context.Background(), other.org.ID, terms); err != nil {
		t.Fatal(err)
	}
}

// says has a say something about amendments to b, as its node would be heard.
func says(b, a *node, q *pb.AmendQuery) (*pb.QueryResponse, error) {
	return b.fed.amendAnswer(context.Background(), b.fed.find(a.org.ID), q)
}

func TestAProposalThatIsNotWhatItSaysIsRefused(t *testing.T) {
	a, b := pair(t)
	_, st := a.fed.find(b.org.ID).recorded()
	signed := func(next *identity.Agreement, keys wire.NoteKey) string {
		note, err := identity.SignAgreement(next, keys)
		if err != nil {
			t.Fatal(err)
		}
		return note
	}
	good := st.agreement.Amend(stricter(a.info(b)))
	skips, forks, turned := *good, *good, *good
	skips.Version = 3
	forks.Previous = [32]byte{1}
	turned.Inviter, turned.Acceptor = good.Acceptor, good.Inviter
	first := *good
	first.Version, first.Previous = 1, [32]byte{}
	altered := []byte(signed(good, a.fed.opts.AgreementKey))
	for i := range altered {
		if string(altered[i:i+7]) == "request" {
			altered[i] = 'R'
			break
		}
	}
	for name, note := range map[string]string{
		"signed by nobody that may":    signed(good, wire.NoteKey{Owner: "x.example/node", Private: a.fed.opts.AgreementKey.Private, Public: a.fed.opts.AgreementKey.Public}),
		"signed by ourselves":          signed(good, b.fed.opts.AgreementKey),
		"of a version that skips one":  signed(&skips, a.fed.opts.AgreementKey),
		"of another past":              signed(&forks, a.fed.opts.AgreementKey),
		"with the parties turned":      signed(&turned, a.fed.opts.AgreementKey),
		"of the version that is there": signed(&first, a.fed.opts.AgreementKey),
		"altered":                      string(altered),
		"that is too long":             string(make([]byte, maxAgreement+1)),
		"that is nothing":              "",
	} {
		if _, err := says(b, a, &pb.AmendQuery{Note: note}); err == nil || b.info(a).Offered != nil {
			t.Errorf("a proposal %s was kept: %v", name, err)
		}
	}
	// Signed by both, and still not asked for here: terms do not change behind our back.
	note, err := wire.AddSignature(signed(good, a.fed.opts.AgreementKey), b.fed.opts.AgreementKey, a.org.NodeKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := says(b, a, &pb.AmendQuery{Note: note}); b.info(a).Version != 1 {
		t.Errorf("an amendment that nobody accepted is in force: %v", err)
	}
}

func TestAPartnerThatKeepsProposingIsSlowedDown(t *testing.T) {
	a, b := pair(t)
	_, st := a.fed.find(b.org.ID).recorded()
	var last error
	for i := range 2 * AmendBurst {
		terms := stricter(a.info(b))
		terms.FileSize = uint64(i + 1)
		note, err := identity.SignAgreement(st.agreement.Amend(terms), a.fed.opts.AgreementKey)
		if err != nil {
			t.Fatal(err)
		}
		_, last = says(b, a, &pb.AmendQuery{Note: note})
	}
	refusedWith(t, last, pb.Code_CODE_RATE_LIMITED)
	if got := b.info(a).Offered.Terms.FileSize; got < AmendBurst/2 || got > AmendBurst+1 {
		t.Errorf("the proposal that waits is number %d", got)
	}
}

func TestAnOldVersionThatIsShownAgainChangesNothing(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	rec, _ := b.fed.find(a.org.ID).recorded()
	first := rec.Agreement
	hash := a.proposes(b, stricter(a.info(b)))
	rec, _ = b.fed.find(a.org.ID).recorded()
	proposal := rec.Offered.Note
	if err := b.fed.AcceptAmendment(ctx, a.org.ID, hash); err != nil {
		t.Fatal(err)
	}
	bothAt(t, a, b, 2, identity.ContactRequest)
	if _, err := says(b, a, &pb.AmendQuery{Note: first}); err == nil {
		t.Error("the agreement before is taken for a proposal")
	}
	answer, err := says(b, a, &pb.AmendQuery{Note: proposal}) // a lost answer is asked for again
	if err != nil || answer.GetAmend().Agreement == "" {
		t.Errorf("%v %v", answer, err)
	}
	if b.info(a).Version != 2 || b.info(a).Terms.Contact != identity.ContactRequest {
		t.Error("an older version is in force again")
	}
}

func TestTrafficEndsWithTheAgreementAndIsResumedByAnAmendment(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	short := terms()
	short.ValidUntil = short.ValidFrom.Add(90 * time.Minute)
	befriendOn(t, a, b, short)
	a.linked(b)
	a.clock.move(31 * time.Minute)
	b.clock.move(31 * time.Minute)
	_, err := a.fed.Takes(b.org.ID, a.clock.Now())
	refusedWith(t, err, pb.Code_CODE_NO_AGREEMENT)
	if s := b.fed.decide(b.fed.find(a.org.ID), &pb.DeliverBatch{Items: []*pb.Item{roomItem(t, 1_000, 1, "late")}}).Statuses[0].Status; s.Code != pb.Code_CODE_NO_AGREEMENT {
		t.Errorf("after the last day: %s", wire.CodeName(s.Code))
	}
	if i := a.info(b); i.State != "expired" {
		t.Errorf("the state is %s", i.State)
	}
	renewed := short
	renewed.ValidUntil = renewed.ValidUntil.Add(24 * time.Hour)
	if err := b.fed.AcceptAmendment(context.Background(), a.org.ID, a.proposes(b, renewed)); err != nil {
		t.Fatal(err)
	}
	bothAt(t, a, b, 2, identity.ContactOpen)
}
