package sim

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Gossip is a hint that nobody waits for; these runs see that it is enough where links lose
// connections and a node is paused.

const weatherPause = 3 * time.Minute

func TestHeadsConvergeOverALossyNetworkWithAPausedNode(t *testing.T) {
	templates, root := ramFolder(t), ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		const size = 6
		for i := range size {
			must(t, prepare(templates, directoryName(i)))
		}
		l := &logs{world: newWorld(*firstSeed, root), size: size, templates: templates}
		defer func() { must(t, l.close()) }()
		must(t, l.found(ctx, templates))
		time.Sleep(time.Minute) // all have met
		l.storms()
		paused := l.sites[size-1]
		l.pauses(paused, weatherPause)
		began := time.Now()
		for i := range 3 {
			_, err := l.person(ctx, l.sites[0], fmt.Sprint("member", i))
			must(t, err)
		}
		must(t, l.follows(ctx, l.sites[0], 6, l.sites[1:size-1]))
		others := time.Since(began)
		if p, err := paused.holds(ctx, l.sites[0]); others < weatherPause && (err != nil || p.Size != 0) {
			t.Errorf("the paused node holds %v: %v", p, err)
		}
		_, err := eventually(l.sites[1:], 40*time.Minute, func(s *site) error {
			p, err := s.holds(ctx, l.sites[0])
			if err == nil && p.Size != 6 {
				err = fmt.Errorf("%w: %s holds %d entries", errNever, s.name, p.Size)
			}
			return err
		})
		if err != nil {
			t.Logf("nodes said:\n%s", l.logs.b[max(0, len(l.logs.b)-3000):])
		}
		must(t, err)
		t.Logf("held by the others after %s, by all after %s", others, time.Since(began))
		for _, s := range l.sites {
			must(t, s.unaccused(ctx))
		}
	})
}

func TestASplitViewIsProvedOverALossyNetworkWithAPausedNode(t *testing.T) {
	root := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		l := &logs{world: newWorld(*firstSeed, root), lie: splitView, templates: directoryTemplates(), within: 15 * time.Minute}
		l.weather = func() {
			l.storms()
			l.pauses(l.sites[directoryOrgs/2], weatherPause)
		}
		took, err := l.lyingRun(context.Background())
		if err != nil {
			t.Errorf("%v\nnodes said:\n%s", err, l.logs.b[:min(len(l.logs.b), 4<<10)])
		}
		t.Logf("proved to all %d after %s", directoryOrgs-1, took)
	})
}
