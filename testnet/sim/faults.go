package sim

import (
	"context"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// disturb does what the seed says to links, nodes and devices until the active part is
// over. It runs in the bubble's first goroutine, because it waits for quiet moments.
func (t *talk) disturb() error {
	for time.Now().Before(t.over) {
		time.Sleep(time.Second + time.Duration(t.rng.Int64N(int64(6*time.Second))))
		if err := t.fault(); err != nil {
			return err
		}
		if t.sabotage != nil {
			if err := t.sabotage(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *talk) fault() error {
	site := t.sites[t.rng.IntN(len(t.sites))]
	other := t.sites[t.rng.IntN(len(t.sites))]
	p := t.devices()[t.rng.IntN(len(t.devices()))]
	switch n := t.rng.IntN(20); {
	case n < 6: // a bad link of a device
		t.count("bad links")
		t.net.between(p.place(), p.home.name).setLoss(t.rng.Float64()/10, time.Duration(1+t.rng.IntN(800))*time.Millisecond)
	case n < 10 && other != site: // a bad link between organizations
		t.count("bad links")
		t.net.between(site.name, other.name).setLoss(t.rng.Float64()/10, time.Duration(1+t.rng.IntN(800))*time.Millisecond)
	case n < 13 && other != site:
		t.count("cut links")
		t.net.between(site.name, other.name).sever()
	case n < 15:
		t.count("cut links")
		t.net.between(p.place(), p.home.name).sever()
	case n < 16:
		t.partition(site)
	case n < 18:
		synctest.Wait()
		t.count("killed devices")
		return p.kill()
	case n < 20:
		t.count("killed nodes")
		if err := site.kill(); err != nil {
			return err
		}
		time.Sleep(time.Duration(t.rng.Int64N(int64(10 * time.Second))))
		return site.start()
	}
	return nil
}

// partition cuts an organization off from its partners for a while; its own devices
// still reach it.
func (t *talk) partition(s *site) {
	t.count("partitions")
	for _, o := range t.sites {
		if o != s {
			t.net.between(s.name, o.name).setDown(true)
		}
	}
	length := time.Duration(5+t.rng.IntN(55)) * time.Second
	time.AfterFunc(length, func() { t.rejoin(s) })
}

func (t *talk) rejoin(s *site) {
	for _, o := range t.sites {
		if o != s {
			t.net.between(s.name, o.name).setDown(false)
		}
	}
}

// calm ends every fault.
func (t *talk) calm() error {
	for _, s := range t.sites {
		if s.stop == nil {
			if err := s.start(); err != nil {
				return err
			}
		}
		t.rejoin(s)
		for _, o := range t.sites {
			t.net.between(s.name, o.name).setLoss(0, 20*time.Millisecond)
		}
	}
	for _, p := range t.devices() {
		t.net.between(p.place(), p.home.name).setLoss(0, 20*time.Millisecond)
	}
	return nil
}

// busy says what is still under way; empty: nothing.
func (t *talk) busy() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	theirs := make(map[string]bool) // what comes to rest or does not, as it likes
	for _, p := range t.people {
		if t.hostile(p) {
			theirs[p.address()] = true
		}
	}
	for _, s := range t.sites {
		if s.alter != nil {
			theirs[s.name] = true
		}
	}
	for _, s := range t.sites {
		if theirs[s.name] {
			continue
		}
		a, err := s.operator.Status(ctx, connect.NewRequest(&pb.NodeStatusRequest{}))
		if err != nil {
			return s.name + ": " + err.Error()
		}
		for _, m := range a.Msg.Mailboxes {
			if m.Count > 0 && !theirs[m.Member] {
				return s.name + ": mail for " + m.Member
			}
		}
		for _, p := range a.Msg.Partners {
			if p.OutboxCount > 0 && !theirs[p.Name] {
				return s.name + ": something for " + p.Name
			}
		}
	}
	gone := t.gone()
	for _, p := range t.devices() {
		if t.hostile(p) || p.of != nil && gone[p] {
			continue
		}
		d, _ := p.now()
		hubs := make(map[string]string)
		for _, r := range d.Rooms() {
			hubs[r.ID] = r.Hub
			if r.State == "behind" && !theirs[r.Hub] {
				return p.label + ": behind in a room of " + r.Hub
			}
		}
		sent, err := d.Sent()
		if err != nil {
			return p.label + ": " + err.Error()
		}
		for _, x := range sent {
			if (x.State == "queued" || x.State == "accepted" || x.State == "waiting") && !theirs[hubs[x.Room]] {
				return p.label + ": " + x.State + " " + x.Text + " at " + hubs[x.Room]
			}
		}
	}
	return ""
}
