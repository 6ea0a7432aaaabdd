package federation

import (
	"testing"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// roomItem makes an item of the n-th room whose deadline is an hour after now.
func roomItem(t testing.TB, number uint64, n byte, body string) *pb.Item {
	t.Helper()
	id := wire.RoomID{n}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{
		Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
		Room: id[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte(body),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &pb.Item{Number: number, Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: core}}
}

func numbers[E any](batch []E, of func(E) uint64) (out []uint64) {
	for _, e := range batch {
		out = append(out, of(e))
	}
	return out
}

func chosen(batch []entry) []uint64 { return numbers(batch, func(e entry) uint64 { return e.number }) }

// taken has a batch opened that is all there.
func taken(t *testing.T, b *backlog, now time.Time) []opened {
	t.Helper()
	there := func(numbers []uint64) (out []*pb.Item, err error) {
		for _, n := range numbers {
			out = append(out, &pb.Item{Number: n})
		}
		return out, nil
	}
	batch, err := b.open(b.batch(), there, now)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func equal(t *testing.T, what string, got []uint64, want ...uint64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
}

// list lists items of rooms: number, room, size.
func list(items ...[3]int) (out []Listed) {
	for _, it := range items {
		out = append(out, Listed{Number: uint64(it[0]), Room: wire.RoomID{byte(it[1])}, Size: it[2], Message: true})
	}
	return out
}

func TestBacklogTakesTurnsBetweenRooms(t *testing.T) {
	b := newBacklog()
	var all []Listed
	for n := range 600 {
		all = append(all, list([3]int{n + 1, 1, 100})...)
	}
	b.add(append(all, list([3]int{700, 2, 100}, [3]int{701, 2, 100})...))
	first := taken(t, b, time.Now())
	if len(first) != BatchItems {
		t.Fatalf("a batch of %d", len(first))
	}
	equal(t, "beginning of the batch", numbers(first, func(e opened) uint64 { return e.number })[:5], 1, 700, 2, 701, 3)
	if b.lowMark() != 1 {
		t.Errorf("low mark %d with everything open", b.lowMark())
	}
	b.answered(first, nil, time.Now())
	if b.lowMark() != 255 || b.entries != 602-BatchItems {
		t.Errorf("after the first batch: low mark %d, %d entries", b.lowMark(), b.entries)
	}
}

// An outbox that one room has filled to its bound delays another one by a batch.
func TestARoomThatFillsTheOutboxDelaysNoOther(t *testing.T) {
	b := newBacklog()
	flood := make([]Listed, 110_000)
	for n := range flood {
		flood[n] = Listed{Number: uint64(n) + 1, Room: wire.RoomID{1}, Size: 1_024, Message: true}
	}
	b.add(flood)
	if !b.wants() {
		t.Fatal("it looks no further than the flood")
	}
	b.add(list([3]int{200_000, 2, 100}))
	equal(t, "beginning of the batch", chosen(b.batch())[:2], 1, 200_000)
}

func TestBacklogHoldsOnlyTheRoomThatWasRefused(t *testing.T) {
	now := time.Now()
	b := newBacklog()
	b.add(list([3]int{1, 1, 0}, [3]int{2, 1, 0}, [3]int{3, 2, 0}))
	b.answered(taken(t, b, now), map[uint64]time.Duration{1: 0, 2: 0}, now)
	b.add(list([3]int{4, 1, 0}, [3]int{5, 2, 0}))
	equal(t, "while room 1 is held", chosen(b.batch()), 5)
	if b.lowMark() != 1 {
		t.Errorf("low mark %d: number 1 is open", b.lowMark())
	}
	at, ok := b.due()
	if !ok || at.Before(now.Add(HoldFloor)) {
		t.Errorf("the pause ends %v, %v", at, ok)
	}
	b.release(at)
	equal(t, "after the pause", chosen(b.batch()), 1, 5, 2, 4)
	b.answered(taken(t, b, at), map[uint64]time.Duration{1: 0, 2: 0, 4: 0}, at)
	if next, _ := b.due(); next.Sub(at) < 2*HoldFloor {
		t.Errorf("the second pause lasts %v: it should be longer than the first", next.Sub(at))
	}
	if b.entries != 3 || len(b.batch()) != 0 {
		t.Errorf("%d entries wait, %d would go", b.entries, len(b.batch()))
	}
}

func TestBacklogForgetsWhatHasExpiredOrLeftTheOutbox(t *testing.T) {
	b := newBacklog()
	b.add(list([3]int{1, 1, 0}, [3]int{2, 1, 0}, [3]int{3, 1, 0}))
	fetch := func([]uint64) ([]*pb.Item, error) { // the second one has left
		return []*pb.Item{roomItem(t, 1, 1, "a"), {Number: 3}}, nil
	}
	got, err := b.open(b.batch(), fetch, time.Now().Add(2*time.Hour))
	if err != nil || len(got) != 1 || got[0].number != 3 {
		t.Errorf("%v, %v: want the damaged third one alone", got, err)
	}
	if b.entries != 1 || b.lowMark() != 3 {
		t.Errorf("%d entries, low mark %d", b.entries, b.lowMark())
	}
}

func TestBatchesAreBoundedInBytesButForOneItem(t *testing.T) {
	b := newBacklog()
	for n := range 12 {
		b.add(list([3]int{n + 1, 1, wire.MaxMessageBody}))
	}
	size := 0
	for _, e := range b.batch() {
		size += e.size
	}
	if size > BatchBytes || size < BatchBytes/2 {
		t.Errorf("a batch of %d bytes", size)
	}
	huge := newBacklog()
	huge.add(list([3]int{1, 1, wire.MaxTree}))
	if got := huge.batch(); len(got) != 1 {
		t.Error("an item above the size of a batch is never sent")
	}
}
