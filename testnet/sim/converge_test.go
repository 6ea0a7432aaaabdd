package sim

import (
	"context"
	"flag"
	"testing"
	"testing/synctest"
	"time"
)

var (
	manyOrganizations = flag.Int("organizations", 6, "how many organizations watch each other's directories when that is measured")
	watched           = flag.Duration("watched", 5*time.Minute, "and for how long, in virtual time, their bytes are counted")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHeadsConvergeAndCostLittle measures what RESULTS.md says of directories among many: how
// long until everybody concerned holds a change, and what an organization sends for all of it.
func TestHeadsConvergeAndCostLittle(t *testing.T) {
	templates, root := ramFolder(t), ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		for i := range *manyOrganizations {
			must(t, prepare(templates, directoryName(i)))
		}
		l := &logs{world: newWorld(*firstSeed, root), size: *manyOrganizations, templates: templates}
		defer func() { must(t, l.close()) }()
		must(t, l.found(ctx, templates))
		time.Sleep(2 * time.Minute) // all have met
		sent := func() (all int64) {
			for _, s := range l.sites {
				all += l.fabric.sentBy(s)
			}
			return all
		}
		hour := func(n int64) int64 {
			return int64(float64(n) * time.Hour.Seconds() / watched.Seconds() / float64(len(l.sites)))
		}
		before := sent()
		time.Sleep(*watched)
		quiet := sent() - before
		before = sent()
		began := time.Now()
		for i := range 10 {
			p, err := l.person(ctx, l.sites[0], "member"+string(rune('a'+i)))
			must(t, err)
			asked := time.Now()
			must(t, l.follows(ctx, l.sites[0], uint64(2+2*i), l.sites[1:]))
			took := time.Since(asked)
			p.close()
			if i == 0 {
				t.Logf("%d organizations: a change is held and computed anew by all %d partners after %s", len(l.sites), len(l.sites)-1, took)
			}
			if took > 5*time.Second {
				t.Errorf("change %d is held by all after %s", i, took)
			}
		}
		time.Sleep(*watched - time.Since(began))
		changed := sent() - before
		t.Logf("%d organizations, one the partner of all, the others of two more: %d bytes an hour sent by each while nothing changes, %d when 10 members come within %s at the one", len(l.sites), hour(quiet), hour(changed), *watched)
	})
}
