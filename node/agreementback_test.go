package node

import (
	"testing"

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
