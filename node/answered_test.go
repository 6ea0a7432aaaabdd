package node

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// The hub's answer to a submission comes another way than its entries, and may come after
// them, or never when the link is lost. A device learns the place of its own handshake from
// the entry, and before what follows it.
func TestADeviceHearsOfItsHandshakesPlaceBeforeWhatFollowsIt(t *testing.T) {
	f := newFollowing(t)
	f.takes()
	number, err := f.acme.numbers.of(f.alice.id)
	must(t, err)
	handshake := func(kind pb.Kind, epoch uint64, handle []byte) {
		t.Helper()
		item := f.next(f.entry(func(i *pb.Item, c *pb.EnvelopeCore) {
			c.Class, c.Kind, c.Deadline, c.Epoch, c.ReturnHandle = pb.Class_CLASS_HANDSHAKE, kind, 0, epoch, handle
			i.Origin = bytes.Clone(f.acme.org.ID[:])
		}))
		if st := f.deliver(f.globex, item); st.Code != pb.Code_CODE_ACCEPTED {
			t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
	handshake(pb.Kind_KIND_COMMIT, 1, f.acme.handles.seal(number, 7))
	handshake(pb.Kind_KIND_PROPOSAL, 2, nil)
	handshake(pb.Kind_KIND_PROPOSAL, 2, f.globex.handles.seal(number, 8)) // not ours to open
	entries, err := f.acme.mail.Fetch(t.Context(), f.alice.id, 0, 100, 1<<20)
	must(t, err)
	said := ""
	for _, e := range entries {
		core, err := wire.ParseCore(e.Envelope.Core)
		must(t, err)
		if core.Kind != pb.Kind_KIND_RESULT {
			said += fmt.Sprintf("%d; ", e.Envelope.Seq)
			continue
		}
		var r pb.SubmitResult
		must(t, proto.Unmarshal(core.Body, &r))
		if [32]byte(core.Room) != f.room || !bytes.Equal(r.Room, f.room[:]) {
			t.Error("an answer of another room")
		}
		said += fmt.Sprintf("%s, %d at %d, epoch %d; ", wire.CodeName(r.Status.Code), r.Counter, r.Status.Seq, r.Status.Epoch)
	}
	if want := "0; 1; sequenced, 7 at 2, epoch 2; 3; 4; "; said != want {
		t.Errorf("alice has %s, wanted %s", said, want)
	}
	f.takes()
}

// A hub hands a handshake to the organization that it is from, also when that has nobody else
// in the room: it follows the room by it, and its device hears of the place.
func TestAHandshakeGoesToTheOrganizationThatItIsFromToo(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		class pb.Class
		wants bool
	}{{pb.Class_CLASS_HANDSHAKE, true}, {pb.Class_CLASS_MESSAGE, false}} {
		ch, err := w.acme.begin(w.room)
		must(t, err)
		_, partners := ch.recipients(ch.room(w.room), submission{from: w.globex.org.ID, parsed: &pb.EnvelopeCore{Class: c.class}})
		ch.abandon()
		if got := len(partners) == 1 && partners[0] == w.globex.org.ID; got != c.wants {
			t.Errorf("%s: goes to %v", c.class, partners)
		}
	}
}
