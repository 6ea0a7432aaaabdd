package device

import (
	"slices"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestAMessageThatComingBackOvertakesGoesOutWithoutAWord(t *testing.T) {
	for _, c := range []struct {
		name  string
		again bool // the device is closed while the message waits
	}{{"at once", false}, {"after the next start", true}} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			talk(t, p, 1)
			fallBehind(t, p, &p.alice, &p.bob)
			id, _ := onlyRoom(t, p.alice)
			p.alice.mu.Lock()
			err := p.alice.alter(id, func(r *room) { r.Behind = true })
			p.alice.mu.Unlock()
			must(t, err)
			o, err := SendOptions{Wait: patience}.orDefault()
			must(t, err)
			message, err := p.alice.queue(t.Context(), p.bob.Address(), "overtaken", o)
			must(t, err)
			if _, out, err := p.alice.sent(message); err != nil || out.Core == nil {
				t.Fatalf("it was not encrypted at once: %+v, %v", out, err)
			}
			if c.again {
				p.alice = reopened(t, p.alice)
			}
			p.alice.home.Device = &shortLog{DeviceServiceClient: p.alice.home.Device}
			l, err := p.alice.connectSession(t.Context(), false)
			must(t, err)
			var events []string
			err = l.await(t.Context(), message, o.Wait, func(p Progress) { events = append(events, p.Event) })
			l.close()
			if err != nil || !slices.Equal(events, []string{"accepted", "sequenced"}) {
				t.Errorf("alice was told %v, %v", events, err)
			}
			if got := texts(receiveUntil(t, p.bob, "the message", hasTexts(1))); !slices.Equal(got, []string{"overtaken"}) {
				t.Errorf("bob was shown %q", got)
			}
			talk(t, p, 2)
		})
	}
}

func TestACounterThatThisDeviceDidNotTakeIsSaid(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	o, err := SendOptions{}.orDefault()
	must(t, err)
	message, err := p.alice.queue(t.Context(), p.bob.Address(), "twice the same device", o)
	must(t, err)
	_, out, err := p.alice.sent(message)
	must(t, err)
	must(t, p.alice.vault.update(func(x *txn) error {
		_, err := p.alice.settled(x, message, out.Counter, wire.Status(pb.Code_CODE_ROLLED_BACK, ""))
		return err
	}))
	if s, _, err := p.alice.sent(message); err != nil || s.State != stateWaiting || s.Code != pb.Code_CODE_ROLLED_BACK {
		t.Errorf("%+v, %v", s, err)
	}
}
