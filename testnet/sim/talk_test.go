package sim

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the first seed")
	seeds     = flag.Int("seeds", 3, "how many seeds, from the first on")
)

func TestPromisesHoldAmongTwelveDevicesOfFourOrganizations(t *testing.T) {
	templates := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		if err := prepare(templates, organizations...); err != nil {
			t.Fatal(err)
		}
	})
	for seed := *firstSeed; seed < *firstSeed+uint64(*seeds); seed++ {
		perform(t, templates, seed)
	}
}

func perform(t *testing.T, templates string, seed uint64) {
	root := ramFolder(t)
	real := time.Now()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := &talk{world: newWorld(seed, root), out: make(map[*person]bool), did: make(map[string]int)}
		defer func() {
			if err := c.end(); err != nil {
				t.Errorf("ending: %v", err)
			}
		}()
		if err := c.found(templates); err != nil {
			t.Fatal(err)
		}
		founded := time.Since(began)
		if err := c.perform(3*time.Minute, true); err != nil {
			t.Fatal(err)
		}
		quiet, err := c.settle()
		if err != nil {
			t.Fatal(err)
		}
		if !quiet {
			t.Errorf("not quiet: %s", c.busy())
		}
		texts, shown := c.ledger.count()
		t.Logf("seed %d: founded after %s, %s in all, %d texts, %d shown, %v, tap %d", seed, founded, time.Since(began), texts, shown, c.did, len(c.net.tap))
		for _, f := range c.ledger.faults {
			t.Error(f)
		}
		for _, p := range c.people {
			t.Log(p.name, p.errs)
		}
		t.Logf("%.6000s", c.logs.b)
	})
	t.Logf("real %s", time.Since(real))
}
