package device

import (
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
)

// unsent is a message of a device's that was encrypted and handed to nobody.
func (d *Device) unsent(t *testing.T, id wire.RoomID, text string) []byte {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	m, err := d.compose(r, text, SendOptions{})
	must(t, err)
	content, _, err := newContent(wire.MemberURI(d.account.Organization, d.account.Member), wire.RoomURI(r.Hub, r.ID), m)
	must(t, err)
	tag, err := tagOf(content)
	must(t, err)
	next, body, err := r.state.Encrypt(tag, content, 0)
	must(t, err)
	r.state = next
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
		Room: id[:], Generation: r.Generation, Epoch: r.state.Epoch(), Deadline: time.Now().Add(time.Hour).Unix(), Body: body})
	must(t, err)
	return core
}

// handed has a device take an envelope that no node has brought.
func (d *Device) handed(t *testing.T, env *pb.Envelope) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.newBatch(t.Context())
	must(t, b.deliver(&pb.Deliver{Envelope: env}))
	must(t, b.commit(d.mark()))
}

func (p *pair) room(t *testing.T) wire.RoomID {
	t.Helper()
	for id := range p.alice.rooms {
		return id
	}
	t.Fatal("no room")
	return wire.RoomID{}
}

// A hub that was set back gives a place a second time: the message is new, and is shown.
func TestAMessageInAPlaceThatWasTakenIsShownAndSaidToBeAnotherOrder(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "truth one", SendOptions{})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	id := p.room(t)
	env := &pb.Envelope{Core: p.alice.unsent(t, id, "truth two"), Seq: p.bob.rooms[id].Seq, Previous: make([]byte, 32), AcceptedMs: time.Now().UnixMilli()}
	for range 2 { // the second time it is what it looks like: a repetition
		p.bob.handed(t, env)
	}
	got := receiveUntil(t, p.bob, "the other message", hasTexts(1))
	if want := []string{"truth two"}; !slices.Equal(texts(got), want) {
		t.Errorf("shown: %q", texts(got))
	}
	if !slices.ContainsFunc(got, func(s Shown) bool { return s.Event == "room" && s.State == "forked" }) {
		t.Error("nobody is told of two orders")
	}
}

func TestWhatIsSaidOfAnotherMessageInThePlaceOfOursIsNotCreditedToIt(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "truth two", SendOptions{})
	sent := func() Sent {
		list, err := p.alice.Sent()
		must(t, err)
		return list[len(list)-1]
	}
	id, seq := p.room(t), sent().Seq
	var handle []byte
	must(t, p.alice.vault.view(func(tx *txn) error {
		v, err := tx.history(placeKey(id, seq))
		_, handle, _ = placed(v)
		return err
	}))
	if len(handle) != wire.ReturnHandleLen {
		t.Fatalf("the home node has told a return handle of %d bytes", len(handle))
	}
	other := [wire.ReturnHandleLen]byte(handle)
	other[0] ^= 1
	says := func(h [wire.ReturnHandleLen]byte) {
		p.alice.mu.Lock()
		defer p.alice.mu.Unlock()
		b := p.alice.newBatch(t.Context())
		b.noticeRange(&notice.Notice{Organization: p.bob.account.Organization, Room: id, Issued: time.Now()},
			notice.Range{State: notice.StateAcknowledged, From: seq, To: seq, Member: p.bob.account.Member, Handles: [][wire.ReturnHandleLen]byte{h}})
		must(t, b.commit(p.alice.mark()))
	}
	if says(other); sent().State != "sequenced" {
		t.Errorf("what was said of another message is taken: %+v", sent())
	}
	if says([wire.ReturnHandleLen]byte(handle)); sent().State != "acknowledged" {
		t.Errorf("what was said of this one is not: %+v", sent())
	}
}
