package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// gradeOf is how a person's device grades another's directory.
func (p *person) gradeOf(room wire.RoomID, other *person) string {
	d, _ := p.now()
	members, err := d.RoomMembers(room)
	if err != nil {
		return err.Error()
	}
	for _, m := range members {
		if m.Address == other.address() {
			return m.Directory.Grade
		}
	}
	return "not in the room"
}

// sees reports whether somebody was shown a text once.
func (l *ledger) sees(p *person, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.texts[text].shown[p] == 1
}

// unaccused is an error when a site holds anything against another's directory.
func (s *site) unaccused(ctx context.Context) error {
	a, err := s.operator.ListLogs(ctx, connect.NewRequest(&pb.ListLogsRequest{}))
	if err != nil {
		return err
	}
	for _, p := range a.Msg.Logs {
		if p.Fork || p.Roots || p.Problem != "" {
			return fmt.Errorf("sim: %s holds against %s: %s", s.name, p.Organization, p.Problem)
		}
	}
	return nil
}

// TestAPartnerAwayForAWeekendGoesStaleAndIsCaughtUpWith: its node is down for 60 hours. The
// others sleep as well, as machines of a simulation do, and wake every six hours.
func TestAPartnerAwayForAWeekendGoesStaleAndIsCaughtUpWith(t *testing.T) {
	root := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, w := context.Background(), newWorld(1, root)
		var sites []*site
		for _, name := range organizations[:3] {
			s := &site{w: w, name: name, dir: filepath.Join(w.root, name), gossips: true,
				set: func(c *node.Config) { c.Retention, c.Bucket = wire.DefaultRetention, wire.DefaultBucket }}
			must(t, os.CopyFS(s.dir, os.DirFS(filepath.Join(templates(), name))))
			must(t, s.start())
			sites = append(sites, s)
		}
		defer func() {
			for _, s := range sites {
				must(t, s.halt())
			}
		}()
		acme, globex, hooli := sites[0], sites[1], sites[2]
		must(t, agree(ctx, acme, globex))
		must(t, agree(ctx, acme, hooli))
		must(t, agree(ctx, globex, hooli))
		var people []*person
		for i, name := range []string{"alice", "bob", "carol"} {
			p, err := w.person(ctx, sites[i], name)
			must(t, err)
			defer p.close()
			people = append(people, p)
		}
		alice, bob, carol := people[0], people[1], people[2]
		var room wire.RoomID
		must(t, alice.change("create", func(ctx context.Context, s *device.Sender) (err error) {
			room, err = s.CreateRoom(ctx, "Harbour", device.RoomOptions{Members: []wire.Address{
				{Name: "bob", Organization: globex.name}, {Name: "carol", Organization: hooli.name}}})
			return err
		}))
		say := func(from *person) string {
			text := w.ledger.write(from, nil, nil)
			must(t, from.send(nil, room, text))
			return text
		}
		for _, p := range people {
			until(t, p, func() bool { d, _ := p.now(); return len(d.Rooms()) == 1 && d.Rooms()[0].State == "open" })
		}
		// Devices ask about the people in their rooms once an hour.
		witnessed := func(who string) {
			t.Helper()
			for range 6 {
				must(t, alice.visit(0))
				if alice.gradeOf(room, bob) == "witnessed" && alice.gradeOf(room, carol) == "witnessed" {
					return
				}
				time.Sleep(15 * time.Minute)
			}
			t.Fatalf("%s: bob is %s, carol %s", who, alice.gradeOf(room, bob), alice.gradeOf(room, carol))
		}
		witnessed("before")

		must(t, globex.halt())
		left := time.Now()
		var waiting, grades []string
		for time.Since(left) < 60*time.Hour {
			text := say(alice)
			until(t, carol, func() bool { return w.ledger.sees(carol, text) })
			answer := say(carol)
			until(t, alice, func() bool { return w.ledger.sees(alice, answer) })
			waiting = append(waiting, text, answer)
			away := time.Since(left)
			grades = append(grades, fmt.Sprintf("%s: bob %s, carol %s", away.Round(time.Hour), alice.gradeOf(room, bob), alice.gradeOf(room, carol)))
			if got := alice.gradeOf(room, bob); away > 25*time.Hour && got != "stale" || away < 23*time.Hour && got != "witnessed" {
				t.Errorf("after %s bob's organization is graded %s", away, got)
			}
			if got := alice.gradeOf(room, carol); got != "witnessed" {
				t.Errorf("after %s the grade of who is there is %s", away, got)
			}
			must(t, acme.unaccused(ctx))
			must(t, hooli.unaccused(ctx))
			must(t, acme.halt())
			must(t, hooli.halt())
			time.Sleep(6 * time.Hour)
			must(t, acme.start())
			must(t, hooli.start())
			time.Sleep(time.Minute)
		}
		t.Logf("globex was away for %s: %q", time.Since(left).Round(time.Minute), grades)
		if !slices.ContainsFunc(waiting, func(text string) bool { return !w.ledger.sees(bob, text) }) {
			t.Fatal("nothing has waited for bob")
		}

		must(t, globex.start())
		until(t, bob, func() bool {
			return !slices.ContainsFunc(waiting, func(text string) bool { return !w.ledger.sees(bob, text) })
		})
		back := say(bob)
		until(t, alice, func() bool { return w.ledger.sees(alice, back) })
		witnessed("after")
		for _, s := range sites {
			must(t, s.unaccused(ctx))
		}
		if len(w.ledger.faults) > 0 || w.ledger.gaps[bob] != "" {
			t.Errorf("faults %v; bob was told of a gap: %q", w.ledger.faults, w.ledger.gaps[bob])
		}
	})
}
