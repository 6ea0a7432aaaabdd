package device

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// toldState waits until what a member's organization has said of a text is one of states.
func toldState(t *testing.T, d *Device, id string, want string) {
	t.Helper()
	eventually(t, "the sender is told "+want, func() error {
		receive(t, d)
		list, err := d.Sent()
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.ID == id && len(s.Members) == 1 && s.Members[0].State == want {
				return nil
			}
		}
		return fmt.Errorf("told %+v", list)
	})
}

func lastSent(t *testing.T, d *Device) Sent {
	t.Helper()
	list, err := d.Sent()
	must(t, err)
	slices.SortFunc(list, func(a, b Sent) int { return a.At.Compare(b.At) })
	return list[len(list)-1]
}

// expiredOf counts what is told to have ended before it was read.
func expiredOf(shown []Shown, from string) (n int) {
	for _, s := range shown {
		if s.Event == "expired" && s.From == from && s.Text == "" {
			n++
		}
	}
	return n
}

func TestAMessageThatEndsBeforeItIsFetchedIsExpiredToBothSides(t *testing.T) {
	p := newPair(t)
	to, from := p.bob.Address(), p.alice.Address().String()
	send(t, p.alice, to, "a beginning", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	until := time.Now().Add(2 * time.Second)
	send(t, p.alice, to, "for two seconds", SendOptions{Until: until})
	id := lastSent(t, p.alice).ID
	time.Sleep(time.Until(until.Add(1100 * time.Millisecond))) // its end, in whole seconds
	send(t, p.alice, to, "and after it", SendOptions{})
	shown := receiveUntil(t, p.bob, "what follows", hasTexts(1))
	if got := expiredOf(shown, from); got != 1 {
		t.Errorf("bob is told of %d: %+v", got, shown)
	}
	for _, s := range shown {
		if s.Event == "unreadable" || s.State == "gap" || s.Text == "for two seconds" {
			t.Errorf("shown: %+v", s)
		}
	}
	toldState(t, p.alice, id, "expired")
	if again := receive(t, p.bob); expiredOf(again, from) != 0 {
		t.Errorf("told again: %+v", again)
	}
}

// The device has fetched it, and is too late for what the message itself says; it is gone
// before it could acknowledge.
func TestADeviceThatIsTooLateReportsAMessageAsExpired(t *testing.T) {
	p := newPair(t)
	to := p.bob.Address()
	send(t, p.alice, to, "a beginning", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	until := time.Now().Add(3 * time.Second)
	send(t, p.alice, to, "for three seconds", SendOptions{Until: until})
	id := lastSent(t, p.alice).ID
	var ds []*pb.Deliver
	eventually(t, "it lies there", func() error {
		a, err := p.bob.home.Device.Fetch(t.Context(), connect.NewRequest(&pb.FetchRequest{After: p.bob.mark(), Envelopes: 64, Bytes: 1 << 19}))
		if err != nil {
			return err
		}
		if ds = a.Msg.Deliveries; len(ds) == 0 || ds[len(ds)-1].Envelope == nil {
			return fmt.Errorf("%v", ds)
		}
		return nil
	})
	time.Sleep(time.Until(until.Add(1100 * time.Millisecond)))
	unread, err := p.bob.handle(t.Context(), ds, nothing)
	if err != nil || len(unread) != 1 || !unread[0].Expired {
		t.Fatalf("unread: %v, %v", unread, err)
	}
	if shown := receive(t, p.bob); expiredOf(shown, p.alice.Address().String()) != 1 || len(texts(shown)) != 0 {
		t.Errorf("shown: %+v", shown)
	}
	toldState(t, p.alice, id, "expired")
}

// It came in time, and nobody looked.
func TestAMessageThatEndsBeforeItIsShownIsToldOf(t *testing.T) {
	p := newPair(t)
	to := p.bob.Address()
	send(t, p.alice, to, "a beginning", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	until := time.Now().Add(3 * time.Second)
	send(t, p.alice, to, "for three seconds", SendOptions{Until: until})
	id := lastSent(t, p.alice).ID
	eventually(t, "bob's device has it", func() error {
		s, err := p.bob.Sender(t.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.l.submitWaiting(t.Context()); err != nil {
			return err
		}
		mid, err := ParseMessageID(id)
		if err != nil {
			return err
		}
		p.bob.mu.Lock()
		defer p.bob.mu.Unlock()
		return p.bob.vault.view(func(x *txn) error { _, err := x.state(expiringKey(mid)); return err })
	})
	time.Sleep(time.Until(until.Add(1100 * time.Millisecond)))
	if shown := receive(t, p.bob); expiredOf(shown, p.alice.Address().String()) != 1 || len(texts(shown)) != 0 {
		t.Errorf("shown: %+v", shown)
	}
	toldState(t, p.alice, id, "acknowledged")
}
