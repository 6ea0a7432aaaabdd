package sim

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// backWithin is how soon a partner's directory is followed again, both ways, once it is back.
const backWithin = 30 * time.Second

// catchesUp adds a member at each of two sites while the weather lasts, and measures how long
// after it until each holds the other's head.
func (l *logs) catchesUp(ctx context.Context, t *testing.T, name string, clear func()) time.Duration {
	t.Helper()
	want := make(map[*site]uint64)
	for i, s := range l.sites {
		of := l.sites[1-i]
		p, err := s.holds(ctx, of)
		must(t, err)
		want[s] = p.Size + 2 // the record's leaf and the map's
	}
	for i, s := range l.sites {
		_, err := l.person(ctx, s, fmt.Sprint(name, i))
		must(t, err)
	}
	clear()
	took, err := eventually(l.sites, 40*time.Minute, func(s *site) error {
		for i := range l.sites {
			if l.sites[i] == s {
				p, err := s.holds(ctx, l.sites[1-i])
				if err == nil && p.Size < want[s] {
					err = fmt.Errorf("%w: %s holds %d entries of %d", errNever, s.name, p.Size, want[s])
				}
				return err
			}
		}
		return nil
	})
	must(t, err)
	return took
}

// TestAPartnerThatWasAwayIsCaughtUpWithSoon: its node is paused with its connections for
// twenty minutes, then nobody reaches it for as long.
func TestAPartnerThatWasAwayIsCaughtUpWithSoon(t *testing.T) {
	templates, root := ramFolder(t), ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		const size = 2
		for i := range size {
			must(t, prepare(templates, directoryName(i)))
		}
		l := &logs{world: newWorld(*firstSeed, root), size: size, templates: templates}
		defer func() { must(t, l.close()) }()
		must(t, l.found(ctx, templates))
		time.Sleep(time.Minute)
		const away = 20 * time.Minute
		began := time.Now()
		l.pauses(l.sites[1], away)
		took := l.catchesUp(ctx, t, "paused", func() { time.Sleep(away - time.Since(began)) })
		t.Logf("after a pause of %s all heads were held within %s", away, took)
		if took > backWithin {
			t.Errorf("a paused partner is caught up with after %s", took)
		}
		way := l.net.between(l.sites[0].name, l.sites[1].name)
		way.setDown(true)
		took = l.catchesUp(ctx, t, "cut", func() {
			time.Sleep(away)
			way.setDown(false)
			began = time.Now()
			_, err := eventually(l.sites, 10*time.Minute, func(s *site) error {
				if !partnersLinked(ctx, s) {
					return errNever
				}
				return nil
			})
			must(t, err)
			t.Logf("linked %s after the cut of %s", time.Since(began), away)
		})
		t.Logf("and all heads were held %s later", took)
		if took > backWithin {
			t.Errorf("a partner that is linked again is caught up with after %s", took)
		}
	})
}
