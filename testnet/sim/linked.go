package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/entente-im/entente/device"
)

// linked links a further device of somebody's.
func (w *world) linked(ctx context.Context, of *person, label string) (*person, error) {
	p, err := w.unfold(of.home, of.name, of.name+"-"+label)
	if err != nil {
		return nil, err
	}
	p.of = of
	d, _ := of.now()
	l, err := d.OpenLink(ctx)
	if err != nil {
		return nil, fmt.Errorf("sim: linking a device of %s: %w", of.name, err)
	}
	joined := make(chan error, 1)
	go func() {
		var err error
		p.dev, err = device.Enroll(ctx, p.dir, passphrase, l.Link, p.dialing(p.life))
		joined <- err
	}()
	if _, _, err = l.Wait(ctx); err == nil {
		p.id, err = l.Confirm(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("sim: linking a device of %s: %w", of.name, err)
	}
	w.linkedTo = append(w.linkedTo, p)
	return p, <-joined
}

// devices are all devices of the run: everybody's first one, and those that are linked.
func (w *world) devices() []*person {
	return append(w.people[:len(w.people):len(w.people)], w.linkedTo...)
}

// revokeLinked has a member revoke two linked devices one after the other, so that the second
// revocation is signed by a key that nobody has seen who was not there in between. Works tries
// until it has worked, or as long as it likes.
func (t *talk) revokeLinked(p *person, works func(string, func() error) bool) {
	gone := t.gone()
	for _, lost := range t.linkedTo {
		if lost.of != p || gone[lost] {
			continue
		}
		revoke := func() error {
			err := p.attempt("revoke", time.Minute, func(ctx context.Context, d *device.Device) error { return d.Revoke(ctx, lost.id) })
			_ = p.visit(0) // the other device may have been faster with the next key
			return err
		}
		if works("revocations", revoke) {
			t.mu.Lock()
			t.out[lost] = true
			t.mu.Unlock()
		}
	}
}

// finishRevoking does what a device that could not reach its node has left, which people do
// not leave.
func (t *talk) finishRevoking() {
	p := t.people[careless]
	t.revokeLinked(p, func(what string, do func() error) bool {
		for range 10 {
			if p.revive() == nil && do() == nil {
				t.count(what)
				return true
			}
		}
		return false
	})
}
