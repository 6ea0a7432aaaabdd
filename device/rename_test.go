package device

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
)

func TestARenamedOrganizationsPeopleStayWhoTheyAre(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, _ := onlyRoom(t, p.alice)
	bob := memberKey{p.bob.account.Organization, p.bob.account.Member}
	safety, err := p.alice.SafetyNumber(t.Context(), p.bob.Address())
	must(t, err)
	former := p.bob.Address()
	p.globex.halt()
	_, err = node.Rename(p.globex.dir, p.globex.dir+"/"+node.RootFile, testPass, "globex.test", time.Now())
	must(t, err)
	p.globex.start()
	now := wire.Address{Name: former.Name, Organization: "globex.test"}
	for _, address := range []wire.Address{former, now} {
		eventually(t, "bob is found as "+address.String(), func() error {
			m, err := p.alice.resolve(t.Context(), address)
			if err == nil && (m.ID != bob.Member || m.Address() != now) {
				err = fmt.Errorf("%s is %s", address, m.Address())
			}
			return err
		})
	}
	receiveUntil(t, p.alice, "the new name", func(list []Shown) bool {
		return slices.ContainsFunc(list, func(s Shown) bool {
			return s.Event == "identity" && s.State == "name" && s.From == "globex.test" && strings.Contains(s.Reason, former.Organization+" is called globex.test now")
		})
	})
	same, err := p.alice.SafetyNumber(t.Context(), now)
	must(t, err)
	if same.Digits() != safety.Digits() {
		t.Error("another safety number")
	}
	// The room goes on, under the former address as under the new one.
	send(t, p.alice, former, "under the former name", SendOptions{})
	receiveUntil(t, p.bob, "a text", hasTexts(1))
	send(t, p.alice, now, "under the new name", SendOptions{})
	receiveUntil(t, p.bob, "a text", hasTexts(1))
	if room, _ := onlyRoom(t, p.alice); room != id {
		t.Error("another room")
	}
	// bob's own device learns what it is called.
	_, err = p.bob.Account(t.Context())
	must(t, err)
	var a account
	must(t, p.bob.vault.view(func(x *txn) error { return x.metaJSON(accountKey, &a) }))
	if a.OrgName != "globex.test" {
		t.Errorf("bob's organization is called %s", a.OrgName)
	}
}

func TestAFormerNameIsSomebodyElsesAfterThirtyDaysOnly(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	thief := wire.OrganizationID{9}
	bob := p.bob.account.Organization
	renamedFor := func(d time.Duration) error {
		var got error
		must(t, p.alice.vault.update(func(x *txn) error {
			must(t, x.putMetaJSON(orgNameKey(bob), orgNameRow{"globex.test", 1, p.alice.now().Add(-d)}))
			got = x.givenUp("globex.example", bob, p.alice.now())
			return nil
		}))
		return got
	}
	if err := renamedFor(identity.FormerName - time.Hour); !errors.Is(err, ErrIdentityChanged) {
		t.Errorf("before: %v", err)
	}
	must(t, renamedFor(identity.FormerName+time.Hour))
	// A name that nobody has given up, and the present one of who has given up another.
	must(t, p.alice.vault.view(func(x *txn) error {
		for name, by := range map[string]wire.OrganizationID{"initech.example": thief, "globex.test": bob} {
			if err := x.givenUp(name, by, p.alice.now()); !errors.Is(err, ErrIdentityChanged) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	}))
}
