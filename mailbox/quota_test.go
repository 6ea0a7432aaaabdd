package mailbox

import (
	"context"
	"fmt"
	"testing"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// fill stages deliveries in batches until one is refused or n are taken, and
// returns how many were taken and the refusal.
func (w *world) fill(n int, make func(i int) Delivery) (taken int, refusal *pb.Status) {
	w.t.Helper()
	for taken < n {
		var batch store.Batch
		var staged []*Staged
		for bytes := 0; taken < n && refusal == nil && len(staged) < 500 && bytes < 4<<20; {
			s, err := w.box.Stage(&batch, make(taken))
			if err != nil {
				w.t.Fatal(err)
			}
			staged = append(staged, s)
			bytes += int(s.meta.size)
			if s.Accepted() == 0 {
				refusal = append(s.Devices, s.Partners...)[0]
				break
			}
			taken++
		}
		if _, err := w.store.Commit(context.Background(), &batch); err != nil {
			w.t.Fatal(err)
		}
		settleAll(staged, true)
		if refusal != nil {
			return taken, refusal
		}
	}
	return taken, nil
}

// Each limit of docs/protocol.md 9 is reached, answered with full, and reached at
// the same place after a restart.
func TestEveryQuotaIsReachedAndAnswersFull(t *testing.T) {
	sender := func(i int) string { return fmt.Sprint("sender ", i/wire.MailboxPerSender) }
	perShare := wire.MailboxEnvelopes * wire.MailboxPartnerShare / 100
	for _, c := range []struct {
		name  string
		limit int
		make  func(w *world, i int) Delivery
	}{
		{"mailbox of 10,000 envelopes", wire.MailboxEnvelopes, func(w *world, i int) Delivery {
			return Delivery{Item: w.message(10), Sender: sender(i), Devices: []wire.DeviceID{dev(1)}}
		}},
		{"one sender 500", wire.MailboxPerSender, func(w *world, i int) Delivery {
			return Delivery{Item: w.message(10), Sender: "one", Devices: []wire.DeviceID{dev(1)}}
		}},
		{"one partner a tenth", perShare, func(w *world, i int) Delivery {
			return Delivery{Item: w.message(10), Sender: sender(i), From: partner('b'), Devices: []wire.DeviceID{dev(1)}}
		}},
		{"control 1,000", wire.ControlPerMailbox, func(w *world, i int) Delivery {
			return Delivery{Item: w.control(), Devices: []wire.DeviceID{dev(1)}}
		}},
		{"control of one partner", wire.ControlPerMailbox * ControlPartnerShare / 100, func(w *world, i int) Delivery {
			return Delivery{Item: w.control(), From: partner('b'), Devices: []wire.DeviceID{dev(1)}}
		}},
		{"outbox of one sender", OutboxPerSender, func(w *world, i int) Delivery {
			return Delivery{Item: w.message(10), Sender: "one", Partners: []wire.OrganizationID{partner('b')}}
		}},
		{"outbox control", OutboxControl, func(w *world, i int) Delivery {
			return Delivery{Item: w.control(), Partners: []wire.OrganizationID{partner('b')}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			taken, refusal := w.fill(c.limit+10, func(i int) Delivery { return c.make(w, i) })
			want(t, "taken", taken, c.limit)
			want(t, "status", refusal.GetCode(), pb.Code_CODE_FULL)
			w.reopen()
			taken, refusal = w.fill(10, func(i int) Delivery { return c.make(w, taken+i) })
			want(t, "taken after a restart", taken, 0)
			want(t, "status after a restart", refusal.GetCode(), pb.Code_CODE_FULL)
		})
	}
}

func TestBytesAreBoundedForMailboxAndPartner(t *testing.T) {
	const size = wire.MaxMessageBody
	w := newWorld(t)
	overhead := func(i int, from wire.OrganizationID) Delivery {
		return Delivery{Item: w.message(size), Sender: fmt.Sprint(i), From: from, Devices: []wire.DeviceID{dev(1)}}
	}
	// A body on disk is a little more than the message's body.
	share, refusal := w.fill(1000, func(i int) Delivery { return overhead(i, partner('b')) })
	want(t, "of a partner", share, wire.MailboxBytes/10/(size+200))
	want(t, "status", refusal.GetCode(), pb.Code_CODE_FULL)
	rest, refusal := w.fill(1000, func(i int) Delivery { return overhead(i, wire.OrganizationID{}) })
	want(t, "in all", share+rest, wire.MailboxBytes/(size+200))
	want(t, "status", refusal.GetCode(), pb.Code_CODE_FULL)
	if u := w.box.Usage(dev(1)); u.Bytes > wire.MailboxBytes || u.Messages != share+rest {
		t.Fatalf("usage %+v", u)
	}
}

func TestAFullMailboxRefusesTheNewAndKeepsTheOldAndTakesHandshakes(t *testing.T) {
	w := newWorldIn(t, t.TempDir(), Limits{Inbox: Quota{Envelopes: 2, Control: 1}})
	t.Cleanup(func() {})
	to := []wire.DeviceID{dev(1)}
	first := w.message(10)
	w.put(Delivery{Item: first, Devices: to})
	w.put(Delivery{Item: w.message(10), Devices: to})
	w.put(Delivery{Item: w.control(), Devices: to})

	s := w.put(Delivery{Item: w.message(10), Devices: []wire.DeviceID{dev(1), dev(2)}})
	want(t, "full device", s.Devices[0].Code, pb.Code_CODE_FULL)
	want(t, "other device", s.Devices[1].Code, pb.Code_CODE_ACCEPTED)
	want(t, "events of the refusal", len(s.Events), 1)
	want(t, "state", s.Events[0].State, StateRefused)
	want(t, "device", s.Events[0].Device, dev(1))

	s = w.put(Delivery{Item: w.control(), Devices: to})
	want(t, "control", s.Devices[0].Code, pb.Code_CODE_FULL)
	want(t, "events of refused control", len(s.Events), 0)
	for range 10 {
		s = w.put(Delivery{Item: w.commit(), Devices: to})
		want(t, "handshake", s.Devices[0].Code, pb.Code_CODE_ACCEPTED)
	}
	got := w.fetch(dev(1), 0, 100)
	want(t, "entries", len(got), 13)
	want(t, "the first is still there", string(got[0].Envelope.Core), string(first.Envelope.Core))

	w.ack(dev(1), got[0].Seq)
	s = w.put(Delivery{Item: w.message(10), Devices: to})
	want(t, "room again after an acknowledgement", s.Devices[0].Code, pb.Code_CODE_ACCEPTED)
}

func TestABatchThatFailsGivesItsRoomBack(t *testing.T) {
	w := newWorldIn(t, t.TempDir(), Limits{Inbox: Quota{Envelopes: 1}})
	d := Delivery{Item: w.message(10), Devices: []wire.DeviceID{dev(1)}}
	var lost store.Batch
	s, err := w.box.Stage(&lost, d)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "reserved", w.put(d).Devices[0].Code, pb.Code_CODE_FULL)
	s.Done(false)
	s.Done(false) // once is enough
	s.Done(true)
	want(t, "given back", w.put(d).Devices[0].Code, pb.Code_CODE_ACCEPTED)
	want(t, "no more than that", w.put(d).Devices[0].Code, pb.Code_CODE_FULL)
	w.reopen() // the row of the queue came with the batch that was committed
	want(t, "after a restart", len(w.fetch(dev(1), 0, 10)), 1)
}

func TestQueueNumbersAreNeverGivenTwice(t *testing.T) {
	w := newWorld(t)
	given := make(map[store.QueueID]boxName)
	for round := range 3 {
		for i := range 5 {
			d := dev(byte(10*round + i))
			w.put(Delivery{Item: w.message(10), Devices: []wire.DeviceID{d}})
			id := w.box.find(boxKey{kindInbox, boxName(d)}).id
			if other, ok := given[id]; ok {
				t.Fatalf("queue %d was given to %x and %x", id, other, d)
			}
			given[id] = boxName(d)
			if i%2 == 0 {
				if err := w.box.Erase(context.Background(), d); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.reopen()
	}
}
