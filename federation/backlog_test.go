package federation

import (
	"testing"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"

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

func numbers(batch []*entry) (out []uint64) {
	for _, e := range batch {
		out = append(out, e.item.Number)
	}
	return out
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

func TestBacklogTakesTurnsBetweenRooms(t *testing.T) {
	b := newBacklog()
	var all []*pb.Item
	for n := range uint64(600) {
		all = append(all, roomItem(t, n+1, 1, "flood"))
	}
	all = append(all, roomItem(t, 700, 2, "quiet"), roomItem(t, 701, 2, "quiet"))
	b.add(all)
	first := b.batch(time.Now())
	if len(first) != BatchItems {
		t.Fatalf("a batch of %d", len(first))
	}
	equal(t, "beginning of the batch", numbers(first)[:5], 1, 700, 2, 701, 3)
	if b.lowMark() != 1 {
		t.Errorf("low mark %d with everything open", b.lowMark())
	}
	b.answered(first, nil, time.Now())
	if b.lowMark() != 255 || b.entries != 602-BatchItems {
		t.Errorf("after the first batch: low mark %d, %d entries", b.lowMark(), b.entries)
	}
}

func TestBacklogHoldsOnlyTheRoomThatWasRefused(t *testing.T) {
	now := time.Now()
	b := newBacklog()
	b.add([]*pb.Item{roomItem(t, 1, 1, "a"), roomItem(t, 2, 1, "b"), roomItem(t, 3, 2, "c")})
	batch := b.batch(now)
	b.answered(batch, map[uint64]time.Duration{1: 0, 2: 0}, now)
	b.add([]*pb.Item{roomItem(t, 4, 1, "d"), roomItem(t, 5, 2, "e")})
	equal(t, "while room 1 is held", numbers(b.batch(now)), 5)
	if b.lowMark() != 1 {
		t.Errorf("low mark %d: number 1 is open", b.lowMark())
	}
	at, ok := b.due()
	if !ok || at.Before(now.Add(HoldFloor)) {
		t.Errorf("the pause ends %v, %v", at, ok)
	}
	b.release(at)
	if b.cursor != 0 {
		t.Fatalf("cursor %d: what was passed over must be fetched again", b.cursor)
	}
	b.add([]*pb.Item{roomItem(t, 1, 1, "a"), roomItem(t, 2, 1, "b"), roomItem(t, 4, 1, "d"), roomItem(t, 5, 2, "e")})
	equal(t, "after the pause", numbers(b.batch(at)), 5, 1, 2, 4)
	b.answered(b.batch(at), map[uint64]time.Duration{1: 0, 2: 0, 4: 0}, at)
	if next, _ := b.due(); next.Sub(at) < 2*HoldFloor {
		t.Errorf("the second pause lasts %v: it should be longer than the first", next.Sub(at))
	}
	if b.entries != 0 || b.bytes != 0 {
		t.Errorf("%d entries, %d bytes are counted for held rooms", b.entries, b.bytes)
	}
}

func TestBacklogDropsWhatHasExpired(t *testing.T) {
	b := newBacklog()
	b.add([]*pb.Item{roomItem(t, 1, 1, "a")})
	if got := b.batch(time.Now().Add(2 * time.Hour)); len(got) != 0 {
		t.Errorf("an expired item is sent: %v", numbers(got))
	}
	if b.entries != 0 || b.lowMark() != 2 {
		t.Errorf("%d entries, low mark %d", b.entries, b.lowMark())
	}
}

func TestBatchesAreBoundedInBytesButForOneItem(t *testing.T) {
	b := newBacklog()
	big := string(make([]byte, wire.MaxMessageBody))
	for n := range uint64(12) {
		b.add([]*pb.Item{roomItem(t, n+1, 1, big)})
	}
	size := 0
	for _, e := range b.batch(time.Now()) {
		size += proto.Size(e.item)
	}
	if size > BatchBytes || size < BatchBytes/2 {
		t.Errorf("a batch of %d bytes", size)
	}
	huge := newBacklog()
	it := roomItem(t, 1, 1, "")
	it.Bundle = &pb.Bundle{Tree: make([]byte, wire.MaxTree)}
	huge.add([]*pb.Item{it})
	if got := huge.batch(time.Now()); len(got) != 1 {
		t.Error("an item above the size of a batch is never sent")
	}
}
