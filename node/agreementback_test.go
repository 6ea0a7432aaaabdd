package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (s *site) with(other *site) federation.PartnerInfo {
	s.t.Helper()
	p, err := s.fed.Partner(other.org.Manifest.Name)
	must(s.t, err)
	return p
}

// proposes has a site propose a file size, and waits until the other is asked.
func (s *site) proposes(other *site, size uint64) {
	s.t.Helper()
	terms := s.with(other).Terms
	terms.FileSize = size
	must(s.t, s.fed.Amend(s.t.Context(), other.org.ID, terms))
	eventually(s.t, "the proposal is there", func() bool { p := other.with(s); return p.Offered != nil && p.Offered.Terms.FileSize == size })
}

// amends has both sign a file size.
func (s *site) amends(other *site, size uint64) {
	s.t.Helper()
	s.proposes(other, size)
	must(s.t, other.fed.AcceptAmendment(s.t.Context(), s.org.ID, other.with(s).Offered.Hash))
	s.agreesWith(other, size)
}

func (s *site) agreesWith(other *site, size uint64) {
	s.t.Helper()
	eventually(s.t, "both have the terms in force", func() bool {
		a, b := s.with(other), other.with(s)
		return a.Agreement == b.Agreement && a.Terms.FileSize == size
	})
}

func TestAnAgreementThatARestoreHasSetBackIsTakenBackFromThePartner(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.halt()
	backup := a.kept()
	a.start()
	a.amends(b, 1)
	b.amends(a, 2)
	lost := a.with(b)
	a.halt()
	a.setBack(backup)
	a.start()
	a.agreesWith(b, 2)
	if got := a.with(b); got.Agreement != lost.Agreement || got.Version != 3 {
		t.Fatalf("version %d with another text", got.Version)
	}
	eventually(t, "linked both ways", func() bool { return a.with(b).State == "connected" && b.with(a).State == "connected" })
	a.amends(b, 3)
	if got := b.with(a).Version; got != 4 {
		t.Errorf("the next version is %d", got)
	}
	eventually(t, "the operator is told", func() bool { return len(a.losses()) > 0 })
}

// TestWhatARestoreHasLostOfStopsIsTakenBack: the partner that was stopped says so. A stop that
// was undone before the copy, or that the operator has undone since, does not come back.
func TestWhatARestoreHasLostOfStopsIsTakenBack(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	stopped := func(theirs string) {
		t.Helper()
		eventually(t, "globex knows of it", func() bool { return b.fed.AgreementState(a.org.ID) == theirs })
	}
	must(t, a.fed.Suspend(t.Context(), b.org.ID, "a first time"))
	stopped(wire.AgreementSuspendedThere)
	must(t, a.fed.Resume(t.Context(), b.org.ID, ""))
	stopped(wire.AgreementInForce)
	eventually(t, "linked both ways", func() bool { return a.with(b).State == "connected" && b.with(a).State == "connected" })
	for _, x := range []struct {
		state, theirs string
		stop, undo    func(context.Context, wire.OrganizationID, string) error
	}{
		{"suspended", wire.AgreementSuspendedThere, a.stops((*federation.Federation).Suspend), a.stops((*federation.Federation).Resume)},
		{"quarantined", wire.AgreementQuarantinedThere, a.stops((*federation.Federation).Quarantine), a.stops((*federation.Federation).Release)},
	} {
		a.halt()
		backup := a.kept()
		a.start()
		must(t, x.stop(t.Context(), b.org.ID, "for a test"))
		since := a.with(b).Changed
		stopped(x.theirs)
		a.halt()
		b.halt() // its memory alone would be no answer after a night
		b.start()
		a.setBack(backup)
		a.start()
		eventually(t, "globex is "+x.state+" again", func() bool { return a.with(b).State == x.state })
		if x.state == "suspended" { // and its devices leave when they would have
			if got := a.with(b).Removal.Sub(since.Add(wire.RemovalDelay)).Abs(); got > time.Second {
				t.Errorf("its devices leave the rooms %s off", got)
			}
		}
		eventually(t, "the operator is told", func() bool {
			all := strings.Join(a.losses(), "; ")
			return strings.Contains(all, "globex.example is "+x.state+" again") && strings.Contains(all, decisionsLost)
		})
		must(t, x.undo(t.Context(), b.org.ID, ""))
		stopped(wire.AgreementInForce)
		a.halt()
		a.start()
		eventually(t, "linked both ways", func() bool { return a.with(b).State == "connected" && b.with(a).State == "connected" })
		must(t, a.fed.Confirm(t.Context(), b.org.ID))
		if got := a.with(b).State; got != "connected" {
			t.Errorf("what was undone is %s again", got)
		}
	}
}

// stops reaches the federation that runs when it is called: a site is restarted in between.
func (s *site) stops(f func(*federation.Federation, context.Context, wire.OrganizationID, string) error) func(context.Context, wire.OrganizationID, string) error {
	return func(ctx context.Context, id wire.OrganizationID, why string) error { return f(s.fed, ctx, id, why) }
}

func TestASuspendedPartnerSaysWhichAgreementIsInForceToo(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.halt()
	backup := a.kept()
	a.start()
	a.amends(b, 1)
	must(t, b.fed.Suspend(t.Context(), a.org.ID, "for a test"))
	a.halt()
	a.setBack(backup)
	a.start()
	a.agreesWith(b, 1)
	must(t, b.fed.Resume(t.Context(), a.org.ID, ""))
	eventually(t, "linked both ways", func() bool { return a.with(b).State == "connected" && b.with(a).State == "connected" })
}

func TestNothingIsSignedWithAPartnerThatHasNotSaidWhatIsInForce(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.halt()
	backup := a.kept()
	a.start()
	a.amends(b, 1)
	a.halt()
	b.halt()
	a.setBack(backup)
	a.start()
	terms := a.with(b).Terms
	terms.FileSize = 7
	if err := a.fed.Amend(t.Context(), b.org.ID, terms); wire.StatusOf(err).Code != pb.Code_CODE_RECOVERING {
		t.Fatalf("version %d may be signed a second time: %v", a.with(b).Version+1, err)
	}
	b.start()
	a.agreesWith(b, 1)
}

func TestAProposalThatARestoreHasLostIsOursAgain(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.halt()
	backup := a.kept()
	a.start()
	a.proposes(b, 1)
	a.halt()
	a.setBack(backup)
	a.start()
	eventually(t, "the proposal is known again", func() bool { p := a.with(b); return p.Proposed != nil && p.Proposed.Terms.FileSize == 1 })
	terms := a.with(b).Terms
	terms.Contact = identity.ContactRequest
	if err := a.fed.Amend(t.Context(), b.org.ID, terms); wire.StatusOf(err).Code != pb.Code_CODE_EXISTS {
		t.Errorf("another text of version 2 is signed: %v", err)
	}
	must(t, b.fed.AcceptAmendment(t.Context(), a.org.ID, b.with(a).Offered.Hash))
	a.agreesWith(b, 1)
}
