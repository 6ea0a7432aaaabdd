package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing/synctest"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// names of the organizations, and of the three members of each.
var organizations = []string{"acme.example", "globex.example", "hooli.example", "initech.example"}

var members = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj"}

// Who does what: founder makes the room with all but the late ones, who are invited
// while it is in use; leaver leaves and removed is removed. The others are in the room
// all the time, and everything sequenced in it is theirs.
const (
	founder  = 0
	deputy   = 1 // the second administrator
	careless = 4 // loses two linked devices, and revokes them
	handy    = 5 // writes and reads on two
	removed  = 7
	leaver   = 8
	late1    = 9
	late2    = 11
)

// talk is a run: people who write, come and go, and what befalls them.
type talk struct {
	*world
	side     side // who is hostile
	stop     func()
	room     wire.RoomID
	over     time.Time    // of the active part
	sabotage func() error // after each fault; nil: nothing

	mu  sync.Mutex
	out map[*person]bool // of the room, as far as everybody knows
	did map[string]int   // what happened, counted
}

func (t *talk) count(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.did[what]++
}

func (t *talk) gone() map[*person]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[*person]bool, len(t.out))
	for p := range t.out {
		out[p] = true
	}
	return out
}

// stable are the people who are in the room all the time.
func (t *talk) stable() (list []*person) {
	for i, p := range t.people {
		if i != removed && i != leaver && i != late1 && i != late2 && !t.hostile(p) {
			list = append(list, p)
		}
	}
	return list
}

// found starts the organizations, makes them partners, enrols everybody and makes the room.
func (t *talk) found(templates string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for i, name := range organizations {
		var alter func(protocol.ID, []byte) [][]byte
		if t.side == aNode && i == hostileOrg {
			alter = t.newLiar().alter
		}
		if _, err := t.site(templates, name, alter); err != nil {
			return err
		}
	}
	for i, a := range t.sites {
		for _, b := range t.sites[i+1:] {
			if err := agree(ctx, a, b); err != nil {
				return err
			}
		}
	}
	for i, name := range members {
		if _, err := t.person(ctx, t.sites[i%len(t.sites)], name); err != nil {
			return err
		}
	}
	for _, i := range []int{careless, careless, handy} {
		if _, err := t.linked(ctx, t.people[i], fmt.Sprintf("linked-%d", len(t.linkedTo))); err != nil {
			return err
		}
	}
	var invited []wire.Address
	for i, p := range t.people {
		if i != founder && i != late1 && i != late2 {
			invited = append(invited, wire.Address{Name: p.name, Organization: p.home.name})
		}
	}
	err := t.people[founder].change("create", func(ctx context.Context, s *device.Sender) (err error) {
		t.room, err = s.CreateRoom(ctx, "Harbour", device.RoomOptions{Members: invited})
		return err
	})
	if err != nil {
		return fmt.Errorf("sim: making the room: %w", err)
	}
	t.everybody(func(p *person) { _ = p.visit(0) })
	admins := []int{deputy}
	if t.side == aMember {
		admins = append(admins, mallory)
		if t.stop, err = t.tamper(t.people[mallory]); err != nil {
			return err
		}
	}
	for _, i := range admins {
		d := t.people[i]
		err := t.people[founder].change("role", func(ctx context.Context, s *device.Sender) error {
			return s.SetRole(ctx, t.room, wire.Address{Name: d.name, Organization: d.home.name}, wire.RoleAdmin)
		})
		if err != nil {
			return fmt.Errorf("sim: making %s an administrator: %w", d.name, err)
		}
	}
	return nil
}

// everybody does something at once.
func (t *talk) everybody(do func(*person)) {
	var wg sync.WaitGroup
	for _, p := range t.devices() {
		wg.Go(func() { do(p) })
	}
	wg.Wait()
}

// live is what a person does until the active part is over.
func (t *talk) live(p *person, index int) error {
	h := fnv.New64a()
	h.Write([]byte(p.label))
	r := rand.New(rand.NewPCG(t.seed, h.Sum64()))
	for time.Now().Before(t.over) && !(p.of != nil && t.gone()[p]) {
		if err := p.revive(); err != nil {
			return err
		}
		t.step(p, index, r)
		p.pause(time.Duration(r.Int64N(int64(12 * time.Second))))
	}
	return nil
}

// pause waits, or until the device is killed.
func (p *person) pause(d time.Duration) {
	_, life := p.now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-life.Done():
	}
}

func (t *talk) step(p *person, index int, r *rand.Rand) {
	switch n := r.IntN(20); {
	case n < 9:
		t.count("texts to the room")
		_ = p.send(nil, t.room, t.ledger.write(p, nil, t.gone()))
	case n < 11:
		to := t.people[r.IntN(len(t.people))]
		if to == p || to == p.of {
			return
		}
		t.count("texts to one person")
		_ = p.send(to, wire.RoomID{}, t.ledger.write(p, to, nil))
	case n < 14:
		t.count("visits")
		_ = p.visit(0)
	case n < 18:
		t.count("stays")
		_ = p.visit(time.Duration(1+r.IntN(15)) * time.Second)
	default:
		t.changes(p, index, r)
	}
	if p.via != nil && r.IntN(3) == 0 {
		t.changes(p, index, r)
	}
}

// changes has administrators change roles, which makes Commits that race.
func (t *talk) changes(p *person, index int, r *rand.Rand) {
	if index != founder && index != deputy && p.via == nil {
		return
	}
	who := t.people[2+r.IntN(4)]
	role := []wire.Role{wire.RoleMember, wire.RoleGuest}[r.IntN(2)]
	t.count("changes of roles")
	_ = p.change("role", func(ctx context.Context, s *device.Sender) error {
		return s.SetRole(ctx, t.room, wire.Address{Name: who.name, Organization: who.home.name}, role)
	})
}

// membership invites the late ones, removes one, has one leave and one revoke devices, each
// until it has worked or the active part is over.
func (t *talk) membership(index int) {
	p := t.people[index]
	works := func(what string, do func() error) bool {
		for time.Now().Before(t.over) {
			if p.revive() == nil && do() == nil {
				t.count(what)
				return true
			}
			p.pause(3 * time.Second)
		}
		return false
	}
	until := func(what string, do func(ctx context.Context, s *device.Sender) error) bool {
		return works(what, func() error { return p.change(what, do) })
	}
	of := func(i int) wire.Address {
		return wire.Address{Name: t.people[i].name, Organization: t.people[i].home.name}
	}
	switch index {
	case founder:
		until("invitations", func(ctx context.Context, s *device.Sender) error {
			return s.Invite(ctx, t.room, of(late1), wire.RoleMember)
		})
		if until("removals", func(ctx context.Context, s *device.Sender) error {
			return s.RemoveMember(ctx, t.room, of(removed))
		}) {
			t.mu.Lock()
			t.out[t.people[removed]] = true
			t.mu.Unlock()
		}
	case deputy:
		until("invitations", func(ctx context.Context, s *device.Sender) error {
			return s.Invite(ctx, t.room, of(late2), wire.RoleMember)
		})
	case careless:
		t.revokeLinked(p, works)
	case leaver:
		until("departures", func(ctx context.Context, s *device.Sender) error { return s.Leave(ctx, t.room) })
	}
}

// perform is the active part.
func (t *talk) perform(length time.Duration, faults bool) error {
	t.over = time.Now().Add(length)
	var broke error
	var wg sync.WaitGroup
	errs := make([]error, len(t.devices()))
	for i, p := range t.devices() {
		wg.Go(func() {
			if i == founder || i == deputy || i == leaver || i == careless {
				p.pause(time.Duration(t.seed%7+uint64(i)) * length / 20)
				t.membership(i)
			}
			errs[i] = t.live(p, i)
		})
	}
	if faults {
		broke = t.disturb()
	}
	wg.Wait()
	return errors.Join(append(errs, broke)...)
}

// settle ends all faults and lets everybody visit until nothing is under way. A member
// who hands in Commits that nobody can apply sends devices out of the room, and they come
// back once an hour at most (docs/protocol.md 6.4): then everybody waits an hour longer.
func (t *talk) settle() (quiet bool, err error) {
	if err := t.calm(); err != nil {
		return false, err
	}
	t.finishRevoking()
	quiet, err = t.rest()
	for range 2 {
		if err != nil || quiet || t.side != aMember {
			break
		}
		t.count("hours of waiting")
		time.Sleep(time.Hour)
		quiet, err = t.rest()
	}
	return quiet, err
}

func (t *talk) rest() (quiet bool, err error) {
	for range 30 {
		errs := make([]error, len(t.devices()))
		var wg sync.WaitGroup
		for i, p := range t.devices() {
			wg.Go(func() {
				if errs[i] = p.revive(); errs[i] == nil {
					_ = p.visit(0)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return false, err
		}
		if t.quiet() {
			return true, nil
		}
		time.Sleep(20 * time.Second)
	}
	return false, nil
}

// quiet looks twice: nodes are asked one after the other, and what one hands to another
// meanwhile is seen at neither.
func (t *talk) quiet() bool {
	for range 2 {
		synctest.Wait()
		if t.busy() != "" {
			return false
		}
		time.Sleep(2 * time.Second)
	}
	return true
}

// end stops everything.
func (t *talk) end() error {
	var errs []error
	for _, p := range t.devices() {
		p.close()
	}
	if t.stop != nil {
		t.stop()
	}
	for _, s := range t.sites {
		errs = append(errs, s.halt())
	}
	return errors.Join(errs...)
}
