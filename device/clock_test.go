package device

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// off gives a device a clock that differs from everybody else's.
func off(by time.Duration) Option {
	return func(d *Device) {
		d.now = func() time.Time { return time.Now().Add(by) }
		d.vault.now = d.now
	}
}

// week has organizations keep messages for a week, as they do by default.
func week(list ...*organization) {
	for _, o := range list {
		o.configure = func(c *node.Config) { c.Retention = 7 * 24 * time.Hour }
		o.halt()
		o.start()
	}
}

// clockSaid gathers what a device says of its clock.
type clockSaid struct {
	mu   sync.Mutex
	list []string
}

func (c *clockSaid) hear(d *Device) {
	d.OnSession(func(state, reason string) {
		if state == "clock" {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.list = append(c.list, reason)
		}
	})
}

func (c *clockSaid) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func TestADeviceWhoseClockIsADayOffIsOfUseAndItsPersonIsTold(t *testing.T) {
	for name, by := range map[string]time.Duration{"ahead": 24 * time.Hour, "behind": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			week(p.acme, p.globex)
			odd, err := Enroll(t.Context(), filepath.Join(t.TempDir(), "odd"), testPass, p.globex.link("odd"), off(by))
			must(t, err)
			t.Cleanup(odd.Close)
			var said clockSaid
			said.hear(odd)

			// Its KeyPackages and certificate are good for others, and theirs for it.
			send(t, p.alice, odd.Address(), "good morning", SendOptions{Wait: patience})
			receiveUntil(t, odd, "alice's words", hasTexts(1))
			send(t, odd, p.alice.Address(), "good night", SendOptions{Wait: patience})
			receiveUntil(t, p.alice, "an answer", hasTexts(1))
			adam := p.acme.device("adam")
			send(t, odd, adam.Address(), "to somebody new", SendOptions{Wait: patience})
			receiveUntil(t, adam, "words of somebody new", hasTexts(1))
			id := groupOf(t, odd, p.alice, p.bob)
			sendRoom(t, p.bob, id, "all of us")
			for _, d := range []*Device{odd, p.alice} {
				receiveUntil(t, d, "bob's words", hasTexts(1))
			}

			want := "24 hours " + name
			if got := said.all(); len(got) != 1 || !strings.Contains(got[0], want) {
				t.Errorf("its person is told %q", got)
			}
			var right clockSaid
			right.hear(p.bob)
			receive(t, p.bob)
			if got := right.all(); len(got) > 0 {
				t.Errorf("bob is told %q", got)
			}
			ends := time.Now().Add(4 * time.Hour)
			if by > 0 { // what ends by everybody else's clock has ended by its own
				send(t, p.alice, odd.Address(), "until noon", SendOptions{Wait: patience, Until: ends})
				shown := receiveUntil(t, odd, "that there was a message", func(all []Shown) bool {
					return slices.ContainsFunc(all, func(s Shown) bool { return s.Event == "expired" })
				})
				if got := texts(shown); len(got) > 0 {
					t.Errorf("it reads %q", got)
				}
				return
			}
			err = odd.Send(t.Context(), p.alice.Address(), "until noon", SendOptions{Wait: patience, Until: ends.Add(by)}, func(Progress) {})
			if wire.StatusOf(err).Code != pb.Code_CODE_DEADLINE_PASSED || !strings.Contains(err.Error(), "clock") {
				t.Errorf("what ends in the past is answered %v", err)
			}
		})
	}
}

func TestAClockIsComplainedOfOnceUntilItIsRight(t *testing.T) {
	var heard []string
	now := time.Now()
	d := &Device{now: func() time.Time { return now }}
	d.OnSession(func(state, reason string) { heard = append(heard, strings.TrimSpace(state+" "+reason)) })
	for _, ahead := range []time.Duration{0, 4 * time.Minute, -4 * time.Minute} {
		d.compareClock(now.Add(-ahead))
	}
	d.compareClock(time.Time{})
	if len(heard) > 0 {
		t.Errorf("a clock that is right enough: %q", heard)
	}
	for _, ahead := range []time.Duration{6 * time.Minute, 50 * time.Hour, 0, 0, -80 * time.Hour} {
		d.compareClock(now.Add(-ahead))
		d.compareClock(time.Time{}) // of a node that does not say: nothing changes
	}
	want := []string{"clock 6 minutes ahead", "clock right", "clock 3 days behind its node's: "}
	if len(heard) != len(want) {
		t.Fatalf("heard %q", heard)
	}
	for i, s := range heard {
		if !strings.HasPrefix(s, want[i]) {
			t.Errorf("heard %q, wanted %q", s, want[i])
		}
	}
}

func TestWhoseClockIsDaysOffIsToldThatWhenEnrolling(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	for name, by := range map[string]time.Duration{"ahead": 50 * time.Hour, "behind": -50 * time.Hour} {
		dir, link := filepath.Join(t.TempDir(), name), o.link(name)
		d, err := Enroll(t.Context(), dir, testPass, link, off(by))
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("%s: %v", name, err)
		}
		// Set right, the same link and folder do.
		d, err = Enroll(t.Context(), dir, testPass, link)
		if err != nil {
			t.Errorf("%s, set right: %v", name, err)
			continue
		}
		d.Close()
	}
}
