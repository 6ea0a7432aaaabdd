package node

import (
	"context"
	"testing"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// refusedFor counts what is to be told of messages that a member did not get, by the
// reason, and fails on anything else that is to be told.
func (s *site) refusedFor(member wire.MemberID, reason pb.Code) int {
	s.t.Helper()
	count := 0
	must(s.t, eachTold(s.store, func(_ uint64, row *toldRow) {
		for _, say := range row.sayings() {
			if say.Member != member || say.State != mailbox.StateRefused || say.Reason != reason {
				s.t.Errorf("to be told: %+v", say)
			}
			count++
		}
	}))
	return count
}

// sweepsUntil runs the sweeper of partners until something is so.
func (s *site) sweepsUntil(what string, is func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.sweepPartners(ctx) }()
	eventually(s.t, what, is)
	cancel()
	must(s.t, <-done)
}

func TestASuspensionHoldsOverACrashAndForTheirMembersAlone(t *testing.T) {
	w := newWorld(t)
	w.bob.acksEach()
	w.says(2)
	out := w.acme.mail.Outbox(w.globex.org.ID)
	before := out.Usage()
	if before.Messages != 2 || before.Control == 0 {
		t.Fatalf("what waits for globex: %+v", before)
	}
	must(t, w.acme.fed.Suspend(t.Context(), w.globex.org.ID, "")) // and here the process dies
	w.acme.halt()
	w.acme.reopen(false)
	out = w.acme.mail.Outbox(w.globex.org.ID)
	w.acme.sweepsUntil("the messages are dropped", func() bool { return out.Usage().Messages == 0 })
	if u := out.Usage(); u.Control != before.Control || u.Handshakes != before.Handshakes {
		t.Errorf("what is kept for the end of the suspension: %+v, before %+v", u, before)
	}
	if n := w.acme.refusedFor(w.pat.member, pb.Code_CODE_SUSPENDED); n != 2 {
		t.Errorf("alice is to be told of %d refusals", n)
	}
	// A new message reaches bob and is refused for pat; a Commit waits for globex. Bob is told
	// of the suspension too.
	w.says(1)
	if n := w.bob.acksEach(); n != 4 {
		t.Errorf("bob got %d envelopes", n)
	}
	if u := out.Usage(); u.Messages != 0 {
		t.Errorf("%d messages wait for a suspended partner", u.Messages)
	}
	b, next := w.alice.commit(w.alice.state, group.CommitParams{})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
	if u := out.Usage(); u.Handshakes != before.Handshakes+1 {
		t.Errorf("handshakes that wait: %d, before %d", u.Handshakes, before.Handshakes)
	}

	ended, err := w.acme.changePartner(t.Context(), &pb.ChangePartnerRequest{Name: "globex.example"}, w.acme.fed.End)
	must(t, err)
	if ended.Kept != 0 || ended.Dropped == 0 || ended.Partner.State != "ended" {
		t.Errorf("after the end: %v", ended)
	}
	w.commits() // globex is taken out
	if u := out.Usage(); waiting(u) != 0 {
		t.Errorf("an ended partner is still written to: %+v", u)
	}
}
