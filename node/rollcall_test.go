package node

import (
	"context"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// isNoLiarTo checks that sites have nothing against another's log.
func (s *site) isNoLiarTo(others ...*site) {
	s.t.Helper()
	for _, o := range others {
		o.follows(s)
		r, err := o.replicas.of(s.org.ID)
		must(s.t, err)
		if st := r.State(); r.Forked() != nil || st.Problem != "" {
			s.t.Errorf("a partner's opinion of the honest node: %+v", st)
		}
	}
}

func TestARestoredNodeWaitsForTheSlowPartnerThatHoldsTheNewestHead(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	a, b, c := sites[0], sites[1], sites[2]
	a.client("alice")
	b.follows(a)
	c.follows(a)
	a.halt()
	backup := a.kept()
	a.start()
	a.client("bob")
	b.follows(a)
	b.halt() // it does not see carol
	a.client("carol")
	c.follows(a)
	newest := a.headOf()
	a.halt()
	c.halt()
	a.setBack(backup)
	b.start()
	a.start()
	eventually(t, "the loss is noticed", func() bool { return a.adopting.ahead.Load() })
	eventually(t, "the one partner has answered", func() bool { return len(a.adopting.roll.missing([]wire.OrganizationID{b.org.ID})) == 0 })
	if err := a.adoptOwn(t.Context()); err == nil || a.Node.signs() == nil {
		t.Fatalf("it went on with what one of two partners holds: %v", err)
	}
	if _, err := a.ownHead(); wire.CodeName(wire.StatusOf(err).Code) != "recovering" {
		t.Errorf("a head is shown: %v", err)
	}
	c.start()
	eventually(t, "the newest log is taken back", func() bool {
		size, _, err := a.Node.dir.Head()
		must(t, err)
		return size >= newest.Size && a.signs() == nil
	})
	if got := a.fed.Incarnation(); got <= 1 {
		t.Errorf("the incarnation is %d as before", got)
	}
	a.client("dave")
	a.isNoLiarTo(b, c)
	if err := a.Node.dir.Fits(newest); err != nil {
		t.Errorf("what was taken back is not what was signed: %v", err)
	}
}

func TestChangesAfterAStartWaitForThePartnerThatHasNotSaidWhatItHolds(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	a.halt()
	backup := a.kept()
	a.start()
	a.client("bob")
	b.follows(a)
	b.halt()
	a.halt()
	a.setBack(backup)
	a.start()
	made := make(chan error, 1)
	go func() { made <- a.Node.records(context.Background()) }()
	b.start()
	if err := <-made; err != nil && wire.CodeName(wire.StatusOf(err).Code) != "recovering" {
		t.Fatal(err)
	}
	eventually(t, "the log is taken back", func() bool {
		size, _, err := a.Node.dir.Head()
		must(t, err)
		return size >= 4 && a.signs() == nil
	})
	a.client("carol")
	a.isNoLiarTo(b)
}

func TestAPartnerThatIsGoneIsWaitedForNoLongerThanDocumented(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	b.halt()
	a.halt()
	a.start()
	began := time.Now()
	a.client("bob")
	if took := time.Since(began); took < startWait/2 || took > 3*startWait {
		t.Errorf("it waited %v", took)
	}
	a.halt()
	a.startWith(Options{AcceptLoss: true}, func(*Config) {})
	began = time.Now()
	a.client("carol")
	if took := time.Since(began); took > startWait/2 {
		t.Errorf("with the operator's word it waited %v", took)
	}
}

// A partner that holds the newest head hands out other leaves than it is of. It makes nobody a
// liar, voids nothing, and the leaves come from another who has them.
func TestLeavesThatAreNotThoseOfTheHeadAreTakenFromSomebodyElse(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	a := sites[0]
	a.client("alice")
	sites[1].follows(a)
	sites[2].follows(a)
	a.halt()
	backup := a.kept()
	a.start()
	a.client("bob")
	sites[1].follows(a)
	sites[2].follows(a)
	newest := a.headOf()
	liar, honest := sites[1], sites[2]
	if a.voters()[0] != liar.org.ID { // the one that is asked first lies
		liar, honest = honest, liar
	}
	a.halt()
	key := append(append([]byte("rp/leaf/"), a.org.ID[:]...), make([]byte, 8)...)
	leaves, err := liar.store.Get(key)
	must(t, err)
	var b store.Batch
	leaves[0] ^= 1
	b.Put(key, leaves)
	_, err = liar.store.Commit(t.Context(), &b)
	must(t, err)
	a.setBack(backup)
	a.start()
	eventually(t, "the log is taken back", func() bool {
		size, _, err := a.Node.dir.Head()
		must(t, err)
		return size >= newest.Size && a.signs() == nil
	})
	if a.adopting.forked.Load() {
		t.Error("the node takes itself for one with two pasts")
	}
	a.isNoLiarTo(honest)
}
