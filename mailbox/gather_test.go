package mailbox

import (
	"bytes"
	"crypto/ed25519"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
)

func TestGatherMakesRangesOfWhatBelongsTogether(t *testing.T) {
	member := func(d wire.DeviceID) wire.MemberID {
		if d[0] >= 90 {
			return wire.MemberID{}
		}
		return wire.MemberID{d[0] / 10}
	}
	e := func(state State, seq uint64, d byte, room byte) Event {
		return Event{State: state, Seq: seq, Device: dev(d), Room: roomID(room), Origin: partner('a'), Return: handle(seq)}
	}
	events := []Event{
		e(StateAcknowledged, 1, 10, 1), e(StateAcknowledged, 2, 10, 1), e(StateAcknowledged, 3, 11, 1),
		e(StateAcknowledged, 3, 12, 1), // another device of the same member
		e(StateAcknowledged, 7, 10, 1), e(StateExpired, 8, 10, 1), e(StateAcknowledged, 2, 20, 1),
		e(StateAcknowledged, 2, 10, 2),
		e(StateAcknowledged, 9, 95, 1),                                  // of nobody
		e(StateExpired, 0, 10, 1),                                       // never sequenced
		{State: StateExpired, Seq: 5, Device: dev(10), Room: roomID(1)}, // nobody waits
	}
	now := time.Unix(1_800_000_000, 5)
	rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	got := Gather(partner('b'), now, sayings(events, member))
	h := func(n ...uint64) (out [][wire.ReturnHandleLen]byte) {
		for _, x := range n {
			out = append(out, [wire.ReturnHandleLen]byte(handle(x)))
		}
		return out
	}
	one, two := wire.MemberID{1}, wire.MemberID{2}
	wanted := []notice.Notice{
		{Organization: partner('b'), Origin: partner('a'), Room: roomID(1), Issued: time.Unix(1_800_000_000, 0).UTC(), Ranges: []notice.Range{
			{State: StateAcknowledged, From: 1, To: 3, Member: one, Handles: h(1, 2, 3)},
			{State: StateAcknowledged, From: 7, To: 7, Member: one, Handles: h(7)},
			{State: StateExpired, From: 8, To: 8, Member: one, Handles: h(8)},
			{State: StateAcknowledged, From: 2, To: 2, Member: two, Handles: h(2)},
		}},
		{Organization: partner('b'), Origin: partner('a'), Room: roomID(2), Issued: time.Unix(1_800_000_000, 0).UTC(), Ranges: []notice.Range{
			{State: StateAcknowledged, From: 2, To: 2, Member: one, Handles: h(2)},
		}},
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("got  %+v\nwant %+v", got, wanted)
	}
}

func sayings(events []Event, member func(wire.DeviceID) wire.MemberID) (out []Saying) {
	for _, e := range events {
		if s, ok := e.Say(member(e.Device)); ok {
			out = append(out, s)
		}
	}
	return out
}

// Whatever is gathered can be signed, and says everything that was to be said.
func TestGatheredNoticesKeepToTheLimits(t *testing.T) {
	key := noteKey(1, "globex.example/node")
	var events []Event
	for seq := range uint64(10_000) {
		state, status := StateAcknowledged, (*pb.Status)(nil)
		if seq%7 == 0 {
			state, status = StateRefused, wire.Status(pb.Code_CODE_FULL, "")
		}
		events = append(events, Event{State: state, Status: status, Seq: seq + 1, Device: dev(byte(seq / 5000)), Room: roomID(1), Return: handle(seq)})
	}
	said := 0
	for _, n := range Gather(partner('b'), time.Now(), sayings(events, func(d wire.DeviceID) wire.MemberID { d[31] = 1; return wire.MemberID(d) })) {
		signed, err := notice.New(n, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := notice.Parse(signed, partner('b'), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range got.Ranges {
			said += len(g.Handles)
		}
	}
	want(t, "said", said, len(events))
}

func noteKey(seed byte, owner string) wire.NoteKey {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	return wire.NoteKey{Owner: owner, Public: k.Public().(ed25519.PublicKey), Private: k}
}
