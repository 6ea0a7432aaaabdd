package mailbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// A bucket outlives a message's own deadline: its place is handed out then, not what it says.
func TestAMessageIsNotHandedOutPastItsOwnDeadline(t *testing.T) {
	w := newWorld(t)
	brief := w.message(100)
	core, err := wire.ParseCore(brief.Envelope.Core)
	if err != nil {
		t.Fatal(err)
	}
	core.Deadline = w.clock.Now().Add(5 * time.Second).Unix()
	if brief.Envelope.Core, err = wire.EncodeCore(core); err != nil {
		t.Fatal(err)
	}
	if got := deadlineIn(brief.Envelope.Core); got != core.Deadline {
		t.Fatalf("read %d, want %d", got, core.Deadline)
	}
	w.put(Delivery{Item: brief, Devices: []wire.DeviceID{dev(1), dev(2)}})
	w.put(Delivery{Item: w.message(100), Devices: []wire.DeviceID{dev(1), dev(2)}})
	got := w.fetch(dev(1), 0, 10)
	want(t, "in time", fmt.Sprint(len(got), got[0].Ended, got[1].Ended), "2 false false")
	w.ack(dev(1), got[1].Seq)
	want(t, "told", fmt.Sprint(states(w.seen())), "map[acknowledged:2]")
	w.clock.advance(6 * time.Second)
	got = w.fetch(dev(2), 0, 10)
	want(t, "too late", fmt.Sprint(len(got), got[0].Ended, got[1].Ended), "2 true false")
	w.ack(dev(2), got[1].Seq)
	want(t, "told then", fmt.Sprint(states(w.seen())), "map[acknowledged:1 expired:1]")
}

func TestExpiredOnesAreToldApartFromUnreadableOnes(t *testing.T) {
	w := newWorld(t)
	w.messages(4, dev(1))
	got := w.fetch(dev(1), 0, 4)
	if err := w.box.Ack(t.Context(), dev(1), Acked{Through: got[3].Seq, Unreadable: []uint64{got[0].Seq}, Expired: []uint64{got[2].Seq}}); err != nil {
		t.Fatal(err)
	}
	want(t, "events", fmt.Sprint(states(w.seen())), "map[acknowledged:2 expired:1 unreadable:1]")
}

// What a device has beyond something that it cannot take yet is gone, and said of as it says;
// the rest lies there still. What was not handed out cannot be named.
func TestWhatIsAcknowledgedAboveIsGoneAndTheRestIsNot(t *testing.T) {
	w := newWorld(t)
	w.messages(5, dev(1))
	got := w.fetch(dev(1), 0, 4)
	ack := func(a Acked) {
		t.Helper()
		if err := w.box.Ack(t.Context(), dev(1), a); err != nil {
			t.Fatal(err)
		}
	}
	ack(Acked{Through: got[0].Seq, Above: []uint64{got[2].Seq, got[2].Seq, got[3].Seq, got[3].Seq + 1, 1 << 60}, Unreadable: []uint64{got[3].Seq}})
	want(t, "events", fmt.Sprint(states(w.seen())), "map[acknowledged:2 unreadable:1]")
	left := w.fetch(dev(1), 0, 10)
	want(t, "left", fmt.Sprint(len(left), left[0].Seq == got[1].Seq, left[1].Seq > got[3].Seq), "2 true true")
	ack(Acked{Through: got[1].Seq, Above: []uint64{got[2].Seq}}) // again
	want(t, "events then", fmt.Sprint(states(w.seen())), "map[acknowledged:1]")
	want(t, "left then", fmt.Sprint(len(w.fetch(dev(1), 0, 10))), "1")
}
