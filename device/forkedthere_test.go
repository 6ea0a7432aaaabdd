package device

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// The home node has refused an entry that contradicts the room's order; its word of that is shown.
func TestPeopleAreToldOfAContradictionThatTheirNodeHasRefused(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "one", SendOptions{})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	id := p.room(t)
	told := func(room wire.RoomID) []Shown {
		body, err := proto.Marshal(&pb.ForkedBody{Seq: 7, Refused: make([]byte, 32)})
		must(t, err)
		core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_FORKED,
			Room: room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: body})
		must(t, err)
		p.bob.mu.Lock()
		mark := p.bob.mark()
		p.bob.mu.Unlock()
		_, err = p.bob.handle(t.Context(), []*pb.Deliver{{Seq: mark + 1, Envelope: &pb.Envelope{Core: core}}}, nothing)
		must(t, err)
		var out []Shown
		out = append(out, shownNew(t, p.bob)...)
		return out
	}
	if !slices.ContainsFunc(told(id), func(s Shown) bool {
		return s.State == "forked" && s.Seq == 7 && strings.Contains(s.Reason, "compare the room's code")
	}) {
		t.Error("nobody is told")
	}
	if got := told(wire.RoomID{1}); len(got) > 0 {
		t.Errorf("of a room that is not there: %+v", got)
	}
}
