package node

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func codeOf(t *testing.T, err error, want pb.Code) {
	t.Helper()
	if got := wire.StatusOf(err).Code; err == nil || got != want {
		t.Errorf("%v, wanted %v", err, want)
	}
}

func TestALinksSlotTakesEachMessageOnceAndInOrder(t *testing.T) {
	var l linking
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return now }
	slot := [16]byte{1}
	put := func(joining bool, n uint32, m string) error {
		return l.put(&pb.PutLinkMessageRequest{Slot: slot[:], Joining: joining, N: n, Message: []byte(m)}, now)
	}
	get := func(joining bool, n uint32) ([]byte, error) {
		return l.get(t.Context(), &pb.GetLinkMessageRequest{Slot: slot[:], Joining: joining, N: n}, clock)
	}
	codeOf(t, put(true, 0, "offer"), pb.Code_CODE_LINK_UNKNOWN)
	_, err := get(false, 0)
	codeOf(t, err, pb.Code_CODE_LINK_UNKNOWN)
	_, err = l.open(slot, wire.MemberID{1}, now)
	must(t, err)
	must(t, put(true, 0, "offer"))
	must(t, put(true, 0, "offer"))
	codeOf(t, put(true, 0, "another"), pb.Code_CODE_LINK_USED)
	codeOf(t, put(true, 2, "too early"), pb.Code_CODE_MALFORMED)
	codeOf(t, put(true, 1, ""), pb.Code_CODE_TOO_LARGE)
	codeOf(t, put(true, 1, string(make([]byte, wire.MaxLinkMessage+1))), pb.Code_CODE_TOO_LARGE)
	for n := uint32(1); n < maxLinkMessages; n++ {
		must(t, put(true, n, "more"))
	}
	codeOf(t, put(true, maxLinkMessages, "no end"), pb.Code_CODE_MALFORMED)
	got, err := get(true, 0)
	must(t, err)
	if string(got) != "offer" {
		t.Errorf("got %q", got)
	}
	if got, err := get(false, 0); err != nil || got != nil {
		t.Errorf("nothing was said: %q %v", got, err)
	}
	codeOf(t, l.put(&pb.PutLinkMessageRequest{Slot: []byte("short"), Message: []byte("x")}, now), pb.Code_CODE_LINK_UNKNOWN)

	now = now.Add(wire.DeviceLinkLife)
	_, err = get(true, 0)
	codeOf(t, err, pb.Code_CODE_LINK_UNKNOWN)
	_, err = l.open([16]byte{2}, wire.MemberID{2}, now.Add(time.Second))
	must(t, err)
	if len(l.slots) != 1 {
		t.Errorf("%d slots after one has ended", len(l.slots))
	}
}

func TestWhoWaitsAtALinkIsWokenByAMessageAndByItsEnd(t *testing.T) {
	var l linking
	slot := [16]byte{1}
	_, err := l.open(slot, wire.MemberID{1}, time.Now())
	must(t, err)
	type answer struct {
		m   []byte
		err error
	}
	wait := func() <-chan answer {
		out := make(chan answer, 1)
		go func() {
			m, err := l.get(context.Background(), &pb.GetLinkMessageRequest{Slot: slot[:], N: 0, WaitMs: 1 << 31}, time.Now)
			out <- answer{m, err}
		}()
		return out
	}
	a := wait()
	must(t, l.put(&pb.PutLinkMessageRequest{Slot: slot[:], N: 0, Message: []byte("x")}, time.Now()))
	if got := <-a; got.err != nil || !bytes.Equal(got.m, []byte("x")) {
		t.Errorf("%q %v", got.m, got.err)
	}
	// A new link of the same member ends the old one, for who waits there too.
	b := make(chan answer, 1)
	go func() {
		m, err := l.get(context.Background(), &pb.GetLinkMessageRequest{Slot: slot[:], N: 1, WaitMs: 1 << 31}, time.Now)
		b <- answer{m, err}
	}()
	_, err = l.open([16]byte{2}, wire.MemberID{1}, time.Now())
	must(t, err)
	got := <-b
	codeOf(t, got.err, pb.Code_CODE_LINK_UNKNOWN)
}

func TestSlotsOfLinksAreBounded(t *testing.T) {
	var l linking
	now := time.Now()
	for i := range maxLinkSlots {
		_, err := l.open([16]byte{byte(i), byte(i >> 8)}, wire.MemberID{byte(i), byte(i >> 8)}, now)
		must(t, err)
	}
	_, err := l.open([16]byte{0xff, 0xff}, wire.MemberID{0xff, 0xff}, now)
	codeOf(t, err, pb.Code_CODE_FULL)
}
