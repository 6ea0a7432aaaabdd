package mailbox

import (
	"context"
	"testing"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (w *world) log(room wire.RoomID, from uint64, limit int) (epochs []uint64, more bool) {
	w.t.Helper()
	all, more, err := w.box.RoomLog(context.Background(), room, 0, from, limit)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		core, err := wire.ParseCore(e.Core)
		if err != nil {
			w.t.Fatal(err)
		}
		epochs = append(epochs, core.Epoch)
	}
	return epochs, more
}

func TestARoomLogAnswersFromAnEpochOn(t *testing.T) {
	w := newWorld(t)
	room := roomID(1)
	for range 10 { // epochs 1 to 10: the test's serial numbers
		w.put(Delivery{Item: w.commit(), Log: &room, Devices: []wire.DeviceID{dev(1)}})
	}
	for _, c := range []struct {
		from  uint64
		limit int
		first uint64
		n     int
		more  bool
	}{{0, 100, 1, 10, false}, {4, 3, 4, 3, true}, {8, 3, 8, 3, false}, {11, 5, 0, 0, false}, {1, 0, 0, 0, false}} {
		got, more := w.log(room, c.from, c.limit)
		if len(got) != c.n || more != c.more || c.n > 0 && got[0] != c.first {
			t.Errorf("from %d, at most %d: %v, more %v", c.from, c.limit, got, more)
		}
	}
	if got, _ := w.log(roomID(2), 0, 10); got != nil {
		t.Errorf("a room that there is not has %v", got)
	}
	got := w.fetch(dev(1), 0, 100)
	w.ack(dev(1), got[9].Seq)
	if got, _ := w.log(room, 0, 100); len(got) != 10 {
		t.Errorf("a device's acknowledgement took from the log: %v", got)
	}
	w.pass(wire.HandshakeRetention)
	w.sweep()
	if got, _ := w.log(room, 0, 100); len(got) != 0 {
		t.Errorf("after 30 days: %v", got)
	}
}

func TestARoomLogKeepsTheLatestCommits(t *testing.T) {
	w := newWorldIn(t, t.TempDir(), Limits{Log: 5})
	t.Cleanup(w.close)
	room := roomID(1)
	for range 5 {
		proposal := w.envelope(pb.Class_CLASS_HANDSHAKE, pb.Kind_KIND_PROPOSAL, 10)
		w.put(Delivery{Item: proposal, Log: &room})
		w.put(Delivery{Item: w.commit(), Log: &room})
	}
	w.sweep()
	if got, _ := w.log(room, 0, 100); len(got) != 10 {
		t.Fatalf("within the limit: %v", got)
	}
	w.put(Delivery{Item: w.commit(), Log: &room})
	w.put(Delivery{Item: w.commit(), Log: &room})
	w.reopen()
	w.sweep()
	got, _ := w.log(room, 0, 100)
	if len(got) != 8 || got[0] != 5 {
		t.Fatalf("over the limit: %v", got)
	}
	if len(w.seen()) != 0 {
		t.Fatal("a log caused events")
	}
}

func TestTheDefaultLogLimitIsTheProtocols(t *testing.T) {
	want(t, "limit", Limits{}.withDefaults().Log, wire.RoomLogCommits)
}

func TestARoomLogTakesHandshakesOnly(t *testing.T) {
	w := newWorld(t)
	room := roomID(1)
	var batch store.Batch
	_, err := w.box.Stage(&batch, Delivery{Item: w.message(10), Log: &room})
	want(t, "status", wire.StatusOf(err).Code, pb.Code_CODE_UNSUPPORTED)
}
