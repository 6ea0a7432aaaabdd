package device

import (
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// TestASenderLearnsOfWhatCouldNotBeOpenedAlthoughTheAcknowledgementWasLost: the device has
// stored its mark and is gone before it could say what it could not open. When it comes
// back, nothing is delivered again, and the sender must not be told that it was read.
func TestASenderLearnsOfWhatCouldNotBeOpenedAlthoughTheAcknowledgementWasLost(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "a beginning", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	send(t, p.alice, p.bob.Address(), "read", SendOptions{})
	send(t, p.alice, p.bob.Address(), "never read", SendOptions{})
	ctx := t.Context()
	var ds []*pb.Deliver
	eventually(t, "both lie there", func() error {
		a, err := p.bob.home.Device.Fetch(ctx, connect.NewRequest(&pb.FetchRequest{After: p.bob.mark(), Envelopes: 64, Bytes: 1 << 19}))
		if err != nil {
			return err
		}
		if ds = a.Msg.Deliveries; len(ds) < 2 {
			return fmt.Errorf("%d", len(ds))
		}
		return nil
	})
	bad := ds[len(ds)-1]
	core, err := wire.ParseCore(bad.Envelope.Core)
	must(t, err)
	core.Body[len(core.Body)-1] ^= 1
	bad.Envelope.Core, err = wire.EncodeCore(core)
	must(t, err)
	// Stored, and the connection goes before the acknowledgement does.
	unreadable, err := p.bob.handle(ctx, ds, nothing)
	if err != nil || len(unreadable) != 1 || unreadable[0].Seq != bad.Seq {
		t.Fatalf("unreadable: %v, %v", unreadable, err)
	}
	shown := receive(t, p.bob)
	if i := slices.IndexFunc(shown, func(s Shown) bool { return s.Event == "unreadable" }); i < 0 || shown[i].State != "message" || shown[i].To != p.alice.Address().String() || shown[i].Reason == "" || shown[i].Why != "" {
		t.Errorf("bob is told of it: %+v", shown)
	}
	told := map[string]string{}
	eventually(t, "alice is told", func() error {
		receive(t, p.alice)
		list, err := p.alice.Sent()
		if err != nil {
			return err
		}
		for _, s := range list {
			for _, m := range s.Members {
				told[s.Text] = m.State
			}
		}
		if told["read"] == "acknowledged" && (told["never read"] == "acknowledged" || told["never read"] == "unreadable") {
			return nil
		}
		return fmt.Errorf("told %v", told)
	})
	if told["never read"] != "unreadable" {
		t.Errorf("alice is told that what nobody could open was %s", told["never read"])
	}
	if left := (&link{d: p.bob}).unreported(); len(left) != 0 {
		t.Errorf("still to be said: %v", left)
	}
}

func TestNoMoreThanAWindowOfUnreadableNumbersIsKept(t *testing.T) {
	p := newPair(t)
	must(t, p.bob.vault.update(func(tx *txn) error {
		for n := range uint64(3 * wire.DeliverWindow) {
			if err := tx.addUnreported([]session.Unread{{Seq: n + 1}}); err != nil {
				return err
			}
		}
		return tx.putNumber(markName, 3*wire.DeliverWindow)
	}))
	left := (&link{d: p.bob}).unreported()
	if len(left) != wire.DeliverWindow || left[0].Seq != 2*wire.DeliverWindow+1 || left[len(left)-1].Seq != 3*wire.DeliverWindow {
		t.Errorf("%d numbers, from %d to %d", len(left), left[0].Seq, left[len(left)-1].Seq)
	}
}
