package sim

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var directorySeeds = flag.Int("directoryseeds", 2, "how many runs of lying directories, and as many of honest ones, from -seed on")

// directoryTemplates are the folders of the organizations, made once.
var directoryTemplates = sync.OnceValue(func() string {
	for i := range directoryOrgs {
		if err := prepare(keptFolder, directoryName(i)); err != nil {
			panic(err)
		}
	}
	return keptFolder
})

func TestADirectoryThatLiesIsCaughtWhereThereIsOneHonestPath(t *testing.T) {
	longest := make(map[lie]time.Duration)
	real, runs := time.Now(), max(*directorySeeds, len(lies))
	for seed := *firstSeed; seed < *firstSeed+uint64(runs); seed++ {
		which := lies[seed%uint64(len(lies))]
		root := ramFolder(t)
		var failed string // a run that fails inside the bubble would end the test
		synctest.Test(t, func(t *testing.T) {
			templates, began := directoryTemplates(), time.Now()
			l := &logs{world: newWorld(seed, root), lie: which, templates: templates}
			took, err := l.lyingRun(context.Background())
			if err != nil {
				failed = fmt.Sprintf("seed %d, %s: %v\nnodes said:\n%s", seed, which, err, l.logs.b)
			}
			longest[which] = max(longest[which], took)
			t.Logf("seed %d: %s, cut at %d, caught after %s; %s simulated", seed, which, l.cut, took, time.Since(began).Round(time.Second))
		})
		if failed != "" {
			t.Error(failed)
		}
	}
	t.Logf("%d runs in %s; longest until caught: %v", runs, time.Since(real).Round(time.Second), longest)
}

// clockSetBack is a seed in which a node's clock goes back before its agreements, and the
// node to a backup: what it has signed meanwhile was heard of, and nobody had its leaves.
const clockSetBack = 39

// setBackTwice is one in which a node is restored twice, and its clock goes back in between:
// the incarnation that it raises by that is lower than what partners have met.
const setBackTwice = 104

// manifestsToo is one in which a node is set back behind an amendment, and behind a manifest of
// its own that stood when the amendment was signed.
const manifestsToo = 3

func TestHonestDirectoriesThatAreRestoredAndDamagedAreNeverAccused(t *testing.T) {
	did := make(map[string]int)
	real := time.Now()
	seeds := []uint64{clockSetBack, setBackTwice, manifestsToo}
	for n := range uint64(*directorySeeds) {
		seeds = append(seeds, *firstSeed+n)
	}
	for _, seed := range seeds {
		root := ramFolder(t)
		var failed string // a run that fails inside the bubble would end the test
		synctest.Test(t, func(t *testing.T) {
			templates, began := directoryTemplates(), time.Now()
			h := &honest{logs: logs{world: newWorld(seed, root), templates: templates}, backups: make(map[*site]string), roots: make(map[*site]string), texts: make(map[string]string), did: did}
			if err := h.run(context.Background()); err != nil {
				failed = fmt.Sprintf("seed %d: %v\nnodes said:\n%s", seed, err, h.world.logs.b)
			}
			t.Logf("seed %d: %s simulated", seed, time.Since(began).Round(time.Second))
		})
		if failed != "" {
			t.Error(failed)
		}
	}
	t.Logf("%d runs in %s: %v", len(seeds), time.Since(real).Round(time.Second), did)
}
