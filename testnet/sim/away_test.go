package sim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// TestAMemberComesBackAfterFortyDays: the room has moved on, its log has let go of what the
// member would need to follow, and what was written for it has expired.
func TestAMemberComesBackAfterFortyDays(t *testing.T) {
	root := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, w := context.Background(), newWorld(1, root)
		acme, err := w.site(templates(), "acme.example", nil)
		must(err)
		globex, err := w.site(templates(), "globex.example", nil)
		must(err)
		defer func() { must(acme.halt()); must(globex.halt()) }()
		must(agree(ctx, acme, globex))
		alice, err := w.person(ctx, acme, "alice")
		must(err)
		defer alice.close()
		carol, err := w.person(ctx, acme, "carol")
		must(err)
		defer carol.close()
		bob, err := w.person(ctx, globex, "bob")
		must(err)
		defer bob.close()
		var room wire.RoomID
		must(alice.change("create", func(ctx context.Context, s *device.Sender) (err error) {
			room, err = s.CreateRoom(ctx, "Harbour", device.RoomOptions{Members: []wire.Address{
				{Name: "carol", Organization: acme.name}, {Name: "bob", Organization: globex.name}}})
			return err
		}))
		say := func(from *person) string {
			text := w.ledger.write(from, nil, nil)
			must(from.send(nil, room, text))
			return text
		}
		must(carol.visit(0))
		until(t, bob, func() bool { d, _ := bob.now(); return len(d.Rooms()) == 1 })
		say(bob)
		// bob is away. The room has a new epoch every four days, and something to say in each.
		for day := range 10 {
			role := wire.RoleGuest
			if day%2 == 1 {
				role = wire.RoleMember
			}
			must(alice.change("role", func(ctx context.Context, s *device.Sender) error {
				return s.SetRole(ctx, room, wire.Address{Name: "carol", Organization: acme.name}, role)
			}))
			say(alice)
			must(carol.visit(0))
			// The nodes sleep: a second of theirs costs as much as one of a day's work.
			must(acme.halt())
			must(globex.halt())
			time.Sleep(4 * 24 * time.Hour)
			must(acme.start())
			must(globex.start())
		}
		until(t, alice, func() bool { return partnersLinked(ctx, acme) })
		until(t, bob, func() bool {
			must(alice.visit(0))
			d, _ := bob.now()
			a, _ := alice.now()
			return len(d.Rooms()) == 1 && d.Rooms()[0].State == "open" && d.Rooms()[0].Code == a.Rooms()[0].Code
		})
		after := say(alice)
		until(t, bob, func() bool {
			w.ledger.mu.Lock()
			defer w.ledger.mu.Unlock()
			return w.ledger.texts[after].shown[bob] == 1
		})
		back := say(bob)
		until(t, carol, func() bool {
			w.ledger.mu.Lock()
			defer w.ledger.mu.Unlock()
			return w.ledger.texts[back].shown[carol] == 1
		})
		if w.ledger.gaps[bob] == "" || len(w.ledger.faults) > 0 {
			t.Errorf("bob was told of the gap: %q; faults %v", w.ledger.gaps[bob], w.ledger.faults)
		}
	})
}

// TestAHubIsAwayForADay: mail and Commits wait at the others' node, people are told, and
// nothing is lost when the hub is back.
func TestAHubIsAwayForADay(t *testing.T) {
	root := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, w := context.Background(), newWorld(1, root)
		acme, err := w.site(templates(), "acme.example", nil)
		must(err)
		globex, err := w.site(templates(), "globex.example", nil)
		must(err)
		defer func() { must(acme.halt()); must(globex.halt()) }()
		for _, s := range []*site{acme, globex} {
			must(s.halt())
			must(longer(s.dir))
			must(s.start())
		}
		must(agree(ctx, acme, globex))
		var people [3]*person
		for i, x := range []struct {
			at   *site
			name string
		}{{acme, "alice"}, {globex, "bob"}, {globex, "carl"}} {
			people[i], err = w.person(ctx, x.at, x.name)
			must(err)
			defer people[i].close()
		}
		alice, bob, carl := people[0], people[1], people[2]
		var room wire.RoomID
		must(alice.change("create", func(ctx context.Context, s *device.Sender) (err error) {
			room, err = s.CreateRoom(ctx, "Harbour", device.RoomOptions{Members: []wire.Address{{Name: "bob", Organization: globex.name}}})
			return err
		}))
		until(t, bob, func() bool { d, _ := bob.now(); return len(d.Rooms()) == 1 })
		must(acme.halt())
		words := w.ledger.write(bob, nil, nil)
		told := ""
		must(bob.change("say", func(ctx context.Context, s *device.Sender) error {
			return s.SendRoom(ctx, room, words, device.SendOptions{}, func(p device.Progress) { told += p.Event + " " })
		}))
		if told != "accepted hub away " {
			t.Errorf("bob was told %q", told)
		}
		// What attempt makes of an error is not of interest here: the Commit stands.
		err = bob.change("invite", func(ctx context.Context, s *device.Sender) error {
			err := s.Invite(ctx, room, wire.Address{Name: "carl", Organization: globex.name}, wire.RoleMember)
			var pending *device.PendingError
			if !errors.As(err, &pending) {
				t.Errorf("the invitation ended with %v", err)
			}
			return nil
		})
		must(err)
		waits := func(p *person) int { d, _ := p.now(); return d.Rooms()[0].Waits }
		if n := waits(bob); n != 2 {
			t.Errorf("%d wait for the hub", n)
		}
		must(globex.halt()) // it sleeps, as above
		time.Sleep(24 * time.Hour)
		must(globex.start())
		must(bob.visit(0))
		if n := waits(bob); n != 2 {
			t.Errorf("after a day %d wait for the hub", n)
		}
		must(acme.start())
		until(t, alice, func() bool { return partnersLinked(ctx, acme) })
		until(t, alice, func() bool {
			must(bob.visit(0)) // what the Commit has overtaken goes out anew
			w.ledger.mu.Lock()
			defer w.ledger.mu.Unlock()
			return w.ledger.texts[words].shown[alice] == 1
		})
		until(t, carl, func() bool { d, _ := carl.now(); return len(d.Rooms()) == 1 })
		until(t, bob, func() bool { return waits(bob) == 0 })
		if len(w.ledger.faults) > 0 {
			t.Errorf("faults %v", w.ledger.faults)
		}
	})
}

// longer has a node keep mail for a week: the templates' retention is minutes.
func longer(dir string) error {
	name := filepath.Join(dir, "node.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text := regexp.MustCompile(`(?m)^retention:.*$`).ReplaceAllString(string(b), "retention: 168h")
	return os.WriteFile(name, []byte(text), 0o600)
}

// until has a person visit until something is so.
func until(t *testing.T, p *person, so func() bool) {
	t.Helper()
	for range 60 {
		if err := p.visit(0); err == nil && so() {
			return
		}
		time.Sleep(20 * time.Second)
	}
	d, _ := p.now()
	t.Fatalf("%s: not within 20 minutes: %+v", p.name, d.Rooms())
}

func partnersLinked(ctx context.Context, s *site) bool {
	a, err := s.operator.Status(ctx, connect.NewRequest(&pb.NodeStatusRequest{}))
	return err == nil && len(a.Msg.Partners) == 1 && a.Msg.Partners[0].State == "connected"
}
