package sim

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/libp2p/go-libp2p/core/protocol"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the first seed")
	seeds     = flag.Int("seeds", defaultSeeds, "how many seeds, from the first on")
	active    = flag.Duration("active", defaultActive, "how long people write and things fail, in simulated time")
)

// templates makes the organizations' folders, once for all tests.
var templates = sync.OnceValue(func() string {
	dir := keptFolder
	for _, name := range organizations {
		if err := prepare(dir, name); err != nil {
			panic(err)
		}
	}
	return dir
})

func TestPromisesHoldAmongTwelveDevicesOfFourOrganizations(t *testing.T) {
	n := *seeds
	failed, virtual, texts, shown := 0, time.Duration(0), 0, 0
	real := time.Now()
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		r := run(t, seed, *active, nil)
		virtual, texts, shown = virtual+r.virtual, texts+r.texts, shown+r.shown
		verdict := "held" // in each run's line: a log that was cut says it too
		if len(r.faults) > 0 {
			failed++
			verdict = "FAILED"
			t.Errorf("seed %d:\n  %s\nagain: go test ./testnet/sim -run Promises -v -seeds 1 -active %s -seed %d\nnodes said:\n%s\nfailed attempts:\n  %s",
				seed, strings.Join(r.faults, "\n  "), *active, seed, r.log, strings.Join(r.failed, "\n  "))
		}
		t.Logf("seed %d: %s, %s simulated, %s real, %v", seed, verdict, r.virtual.Round(time.Second), r.real.Round(time.Millisecond), r.did)
	}
	t.Logf("%d runs, %d failed: %d texts, shown %d times; %s simulated in %s", n, failed, texts, shown, virtual.Round(time.Second), time.Since(real).Round(time.Second))
}

// result of one run.
type result struct {
	faults        []string
	virtual, real time.Duration
	texts, shown  int
	did           map[string]int
	log           string
	failed        []string // attempts of people, where something is broken
}

// run is one seed's run, with what spoil changes before it begins.
func run(t *testing.T, seed uint64, length time.Duration, spoil func(*talk)) (r result) {
	t.Helper()
	root, real := ramFolder(t), time.Now()
	defer os.RemoveAll(root) // not at the end of a thousand runs: it is memory
	synctest.Test(t, func(t *testing.T) {
		from := templates()
		began := time.Now()
		c := &talk{world: newWorld(seed, root), side: sideOf(seed), out: make(map[*person]bool), did: make(map[string]int)}
		defer func() {
			if err := c.end(); err != nil {
				t.Errorf("seed %d: ending: %v", seed, err)
			}
		}()
		if err := c.found(from); err != nil {
			t.Errorf("seed %d: %v", seed, err)
			return
		}
		if spoil != nil {
			spoil(c)
		}
		if err := c.perform(length, true); err != nil {
			r.faults = append(r.faults, err.Error())
		}
		quiet, err := c.settle()
		if err != nil {
			r.faults = append(r.faults, err.Error())
		} else if !quiet {
			r.faults = append(r.faults, "P2: it does not come to rest: "+c.busy())
		}
		r.faults = append(r.faults, c.check()...)
		if len(r.faults) > 0 {
			r.failed = c.failures()
		}
		r.texts, r.shown = c.ledger.count()
		r.virtual, r.did, r.log = time.Since(began), c.did, string(c.logs.b[:min(len(c.logs.b), 4<<10)])
	})
	r.real = time.Since(real)
	return r
}

func TestTheChecksFindWhatTheyAreFor(t *testing.T) {
	finds := func(t *testing.T, r result, what string) {
		t.Helper()
		for _, f := range r.faults {
			if strings.HasPrefix(f, what) {
				return
			}
		}
		t.Errorf("%q is not among %q", what, r.faults)
	}
	t.Run("a node that goes back to its files of before loses mail", func(t *testing.T) {
		finds(t, run(t, 9, time.Minute, func(c *talk) {
			copied, back := time.Now().Add(15*time.Second), time.Now().Add(30*time.Second)
			c.sabotage = func() error {
				for _, s := range c.sites {
					switch now := time.Now(); {
					case s.stale == "" && now.After(copied):
						at, err := c.snapshot(s.dir)
						if err != nil {
							return err
						}
						s.stale = at
					case s.stale != "" && s.stop != nil && now.After(back) && s.dir != s.stale:
						if err := errors.Join(s.kill(), s.start()); err != nil {
							return err
						}
					}
				}
				return nil
			}
		}), "P2")
	})
	t.Run("who is out of the room is shown nothing more", func(t *testing.T) {
		finds(t, run(t, 12, 30*time.Second, func(c *talk) { c.out[c.people[2]] = true }), "P4")
	})
	t.Run("somebody who never looks", func(t *testing.T) {
		finds(t, run(t, 18, 30*time.Second, func(c *talk) { c.people[3].blind = true }), "P2")
	})
	t.Run("a text in clear on a link", func(t *testing.T) {
		finds(t, run(t, 15, 30*time.Second, func(c *talk) { c.net.tap = append(c.net.tap, c.ledger.marker...) }), "P4")
	})
	t.Run("two codes", func(t *testing.T) {
		r := result{faults: disagreements([]device.RoomInfo{{State: "open", Epoch: 3, Code: "a"}, {State: "open", Epoch: 3, Code: "b"}}, []string{"alice", "bob"})}
		finds(t, r, "P3")
	})
}

func TestKeysAreGoneWhenEverybodyHasAcknowledged(t *testing.T) {
	root := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		c := &talk{world: newWorld(5, root), out: make(map[*person]bool), did: make(map[string]int)}
		defer func() {
			if err := c.end(); err != nil {
				t.Error(err)
			}
		}()
		ctx := context.Background()
		for i := range 2 {
			s, err := c.site(templates(), organizations[i], nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.person(ctx, s, members[i]); err != nil {
				t.Fatal(err)
			}
		}
		// Not at the hub, which keeps the room's handshakes for who comes back.
		alice, bob, s := c.people[0], c.people[1], c.sites[1]
		if err := agree(ctx, c.sites[0], s); err != nil {
			t.Fatal(err)
		}
		if err := alice.send(bob, wire.RoomID{}, c.ledger.write(alice, bob, nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // it is at bob's node by then
		if err := s.kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		if bodies, faults := c.destroyed(s, s.before[0]); bodies == 0 || len(faults) == 0 {
			t.Errorf("while bob has not fetched, %d bodies open: %v", bodies, faults)
		}
		if err := errors.Join(bob.visit(0), alice.visit(0)); err != nil { // for her, what her node said
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if bodies, faults := c.destroyed(s, s.before[0]); bodies == 0 || len(faults) > 0 {
			t.Errorf("a minute after both have acknowledged: %d bodies before, %v", bodies, faults)
		}
	})
}

func TestWhatIsRefusedAndShownIsAFault(t *testing.T) {
	home, bad := &site{}, &site{alter: func(protocol.ID, []byte) [][]byte { return nil }}
	frank, erin, heidi := &person{home: home}, &person{home: home}, &person{home: bad}
	linked := &person{home: home, of: frank}
	for name, c := range map[string]struct {
		from, shown *person
		fault       bool
	}{
		"to nobody":                    {frank, nil, false},
		"to somebody":                  {frank, erin, true},
		"by a hostile node":            {frank, heidi, false},
		"on another device":            {frank, linked, false},
		"on the first, by another one": {linked, frank, false},
		"by another, to somebody":      {linked, erin, true},
	} {
		k := &talk{world: newWorld(1, t.TempDir())}
		k.ledger.texts["no"] = &written{text: "no", from: c.from, to: erin, shown: map[*person]int{c.shown: 1}}
		if c.shown == nil {
			clear(k.ledger.texts["no"].shown)
		}
		if got := k.accounted(device.Sent{Text: "no", State: "refused"}); len(got) > 0 != c.fault {
			t.Errorf("%s: %q", name, got)
		}
	}
}
