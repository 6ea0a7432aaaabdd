package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// person is a member's device and who uses it; it is switched on, used and killed.
type person struct {
	w     *world
	home  *site
	name  string
	label string                                                      // of the device: the member's name, and more for one that is linked
	of    *person                                                     // of a linked device: who has linked it
	id    wire.DeviceID                                               // of a linked device
	blind bool                                                        // is shown things and does not look, for a check of the checks
	via   func(ctx context.Context, address string) (net.Conn, error) // nil: straight to the node

	mu      sync.Mutex
	dir     string
	dev     *device.Device
	life    context.Context // ends when the device is killed
	die     context.CancelFunc
	errs    map[string]int // how attempts failed, for a report
	dropped int            // things that were to be shown to a device that was dead already
}

// owner is the member's first device.
func (p *person) owner() *person {
	if p.of != nil {
		return p.of
	}
	return p
}

var errDead = errors.New("sim: this device was killed")

// person enrols a member's first device.
func (w *world) person(ctx context.Context, home *site, name string) (*person, error) {
	return w.personVia(ctx, home, name, nil)
}

// personVia is person whose device reaches its node in another way.
func (w *world) personVia(ctx context.Context, home *site, name string, via func(context.Context, string) (net.Conn, error)) (*person, error) {
	a, err := home.operator.AddMember(ctx, connect.NewRequest(&pb.AddMemberRequest{Name: name}))
	if err != nil {
		return nil, fmt.Errorf("sim: adding %s: %w", name, err)
	}
	return w.enrol(ctx, home, name, a.Msg.Link, via)
}

// enrol makes a device of whoever has a link.
func (w *world) enrol(ctx context.Context, home *site, name, link string, via func(context.Context, string) (net.Conn, error)) (*person, error) {
	p, err := w.unfold(home, name, name)
	if err != nil {
		return nil, err
	}
	p.via = via
	p.dev, err = device.Enroll(ctx, p.dir, passphrase, link, p.dialing(p.life))
	if err != nil {
		return nil, fmt.Errorf("sim: enrolling %s: %w", name, err)
	}
	w.people = append(w.people, p)
	return p, nil
}

// unfold makes the folder of a device that is still to be enrolled.
func (w *world) unfold(home *site, name, label string) (*person, error) {
	p := &person{w: w, home: home, name: name, label: label, dir: filepath.Join(w.root, "device-"+label), errs: make(map[string]int)}
	p.life, p.die = context.WithCancel(context.Background())
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	master := make([]byte, 32)
	rand.Read(master)
	return p, os.WriteFile(filepath.Join(p.dir, "device.sealed"), sealCheaply(master, "entente.im/device-master/v1"), 0o600)
}

func (p *person) place() string   { return "device of " + p.label }
func (p *person) address() string { return p.name + "@" + p.home.name }

// dialing is how the device reaches its node in this life, and no longer.
func (p *person) dialing(life context.Context) device.Option {
	return device.Dialing(func(ctx context.Context, _, addr string) (net.Conn, error) {
		dial := p.via
		if dial == nil {
			dial = func(ctx context.Context, addr string) (net.Conn, error) { return p.w.net.dial(ctx, p.place(), addr) }
		}
		c, err := dial(ctx, addr)
		if err == nil && life.Err() != nil {
			_ = c.Close()
			err = errDead
		}
		return c, err
	})
}

// now returns the device and the life that it belongs to.
func (p *person) now() (*device.Device, context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dev, p.life
}

// attempt does something with the device for at most so long. People try again later;
// how it failed is counted.
func (p *person) attempt(what string, limit time.Duration, do func(context.Context, *device.Device) error) error {
	d, life := p.now()
	ctx, cancel := context.WithTimeout(life, limit)
	defer cancel()
	err := do(ctx, d)
	if err != nil && life.Err() == nil {
		p.mu.Lock()
		p.errs[what+": "+err.Error()]++
		p.mu.Unlock()
	}
	return err
}

// failures lists how attempts have failed, and how often.
func (w *world) failures() (list []string) {
	for _, p := range w.devices() {
		p.mu.Lock()
		for why, n := range p.errs {
			list = append(list, fmt.Sprintf("%s, %d times: %.300s", p.label, n, why))
		}
		p.mu.Unlock()
	}
	slices.Sort(list)
	return list
}

// visit fetches what waits; with stay it stays that long.
func (p *person) visit(stay time.Duration) error {
	return p.attempt("visit", max(stay, 30*time.Second), func(ctx context.Context, d *device.Device) error {
		if stay > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, stay)
			defer cancel()
		}
		return d.Receive(ctx, stay > 0, func(s device.Shown) error { return p.shown(d, s) })
	})
}

// shown takes what the device shows, unless it was killed: then nobody sees it.
func (p *person) shown(d *device.Device, s device.Shown) error {
	p.mu.Lock()
	dead := p.dev != d || p.life.Err() != nil
	if dead {
		p.dropped++
	}
	p.mu.Unlock()
	if dead {
		return errDead
	}
	if !p.blind {
		p.w.ledger.show(p, s)
	}
	return nil
}

// send writes to the room, or to one other person.
func (p *person) send(to *person, room wire.RoomID, text string) error {
	return p.attempt("send", time.Minute, func(ctx context.Context, d *device.Device) error {
		s, err := d.Sender(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		report := func(device.Progress) {}
		if to != nil {
			return s.Send(ctx, wire.Address{Name: to.name, Organization: to.home.name}, text, device.SendOptions{}, report)
		}
		return s.SendRoom(ctx, room, text, device.SendOptions{}, report)
	})
}

// change changes the room.
func (p *person) change(what string, do func(context.Context, *device.Sender) error) error {
	return p.attempt(what, time.Minute, func(ctx context.Context, d *device.Device) error {
		s, err := d.Sender(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		return do(ctx, s)
	})
}

// kill ends the device as a kill does; it goes on from its files of that moment. The
// caller has seen to it that everything in the bubble waits.
func (p *person) kill() error {
	next, err := p.w.snapshot(p.dir)
	if err != nil {
		return err
	}
	p.w.net.between(p.place(), p.home.name).sever()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.die()
	p.dir = next
	return nil
}

// revive opens the files that a kill left. Whoever uses the device calls it.
func (p *person) revive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() == nil {
		return nil
	}
	p.dev.Close()
	life, die := context.WithCancel(context.Background())
	d, err := device.Open(p.dir, passphrase, p.dialing(life))
	if err != nil {
		die()
		return fmt.Errorf("sim: %s comes back: %w", p.name, err)
	}
	p.dev, p.life, p.die = d, life, die
	return nil
}

func (p *person) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.die()
	p.dev.Close()
}
