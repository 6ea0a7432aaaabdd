package device

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/node"
)

func TestWhereTheOrganizationAsksForItOutsidersAreVerifiedBeforeTheyAreWrittenTo(t *testing.T) {
	p := newPair(t)
	claire := p.acme.device("claire")
	talk(t, p, 1)
	ask := func(verify bool) {
		t.Helper()
		p.acme.halt()
		p.acme.configure = func(c *node.Config) { c.Verify = verify }
		p.acme.start()
		anHourLater(t, p.alice)
		receive(t, p.alice)
	}
	ask(true)
	refused := func(err error, what string) {
		t.Helper()
		if !errors.Is(err, ErrMustVerify) || !strings.Contains(err.Error(), "acme.example asks you to compare safety numbers with bob@globex.example") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused(p.alice.Send(t.Context(), p.bob.Address(), "too early", SendOptions{}, func(Progress) {}), "in a room that exists")
	// Somebody who has no room yet is asked at the first message, too, and colleagues are not.
	refused(claire.Send(t.Context(), p.bob.Address(), "too early", SendOptions{}, func(Progress) {}), "the first message")
	if n := len(claire.Rooms()); n > 0 {
		t.Errorf("%d rooms were made", n)
	}
	send(t, claire, p.alice.Address(), "hello, colleague", SendOptions{})
	// What comes from outside is read all the same.
	send(t, p.bob, p.alice.Address(), "are you there?", SendOptions{})
	receiveUntil(t, p.alice, "bob's question", func(list []Shown) bool {
		return slices.ContainsFunc(list, func(s Shown) bool { return s.Text == "are you there?" })
	})
	_, b := numbers(t, p.alice, p.bob)
	must(t, p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()))
	send(t, p.alice, p.bob.Address(), "now I am", SendOptions{})
	// A process that is started later knows it, too; and that it is asked no more is told.
	must(t, p.alice.Unverify(p.bob.Address()))
	must(t, p.alice.loadVerified())
	refused(p.alice.Send(t.Context(), p.bob.Address(), "once more", SendOptions{}, func(Progress) {}), "after a restart")
	p.acme.halt()
	p.acme.configure = func(c *node.Config) { c.Verify = false }
	p.acme.start()
	anHourLater(t, p.alice)
	receiveUntil(t, p.alice, "the looser rule", func(list []Shown) bool {
		return slices.ContainsFunc(list, func(s Shown) bool {
			return s.State == "terms" && strings.Contains(s.Reason, "does not ask you any more")
		})
	})
	send(t, p.alice, p.bob.Address(), "at last", SendOptions{})
}

// anHourLater has a device ask again what is agreed.
func anHourLater(t *testing.T, d *Device) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.agreements.at = time.Time{}
	must(t, d.vault.update(func(x *txn) error {
		own, err := x.agreement(d.account.Organization)
		if err != nil || own == nil {
			return err
		}
		own.Checked = time.Time{}
		return x.putAgreement(d.account.Organization, own)
	}))
}
