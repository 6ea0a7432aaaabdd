package federation

import (
	"testing"

	"github.com/entente-im/entente/wire"
)

// says waits until devices of a node are told this of an agreement.
func (n *node) says(t *testing.T, other *node, state string) {
	t.Helper()
	until(t, n.name+" says "+state, func() bool { return n.fed.AgreementState(other.org.ID) == state })
}

// TestAPartnersLastWordOutlivesARestart: devices ask the node whether or not the partner can be
// reached then.
func TestAPartnersLastWordOutlivesARestart(t *testing.T) {
	a, b := pair(t)
	ctx := t.Context()
	restarted := func(state string, change, undo func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		a.says(t, b, state)
		b.halt()
		a.halt()
		a.start()
		if got := a.fed.AgreementState(b.org.ID); got != state {
			t.Errorf("after a restart without the partner: %s, want %s", got, state)
		}
		_, err := a.fed.Takes(b.org.ID, a.clock.Now())
		if refused := err != nil; refused != (state == wire.AgreementSuspendedThere) {
			t.Errorf("%s: what is sent now: %v", state, err)
		}
		a.halt()
		b.start()
		if err := undo(); err != nil { // while a is away
			t.Fatal(err)
		}
		a.start()
		a.says(t, b, wire.AgreementInForce)
		a.linked(b)
		b.halt()
		a.halt()
		a.start()
		if got := a.fed.AgreementState(b.org.ID); got != wire.AgreementInForce {
			t.Errorf("a word that was taken back is %s again", got)
		}
		b.start()
		a.linked(b)
		b.linked(a)
	}
	restarted(wire.AgreementQuarantinedThere,
		func() error { return b.fed.Quarantine(ctx, a.org.ID, "odd files") }, func() error { return b.fed.Release(ctx, a.org.ID, "") })
	restarted(wire.AgreementSuspendedThere,
		func() error { return b.fed.Suspend(ctx, a.org.ID, "for a test") }, func() error { return b.fed.Resume(ctx, a.org.ID, "") })
}
