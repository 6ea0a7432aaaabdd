package mailbox

import (
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
)

// State says what became of an envelope at one recipient (docs/protocol.md 2.7).
type State = notice.State

// The states of notices; see package notice.
const (
	StateStored       = notice.StateStored
	StateDelivered    = notice.StateDelivered
	StateAcknowledged = notice.StateAcknowledged
	StateUnreadable   = notice.StateUnreadable
	StateExpired      = notice.StateExpired
	StateRefused      = notice.StateRefused
	StateDropped      = notice.StateDropped
)

// Event says that a reference left a queue, and why. Messages cause events in
// inboxes and outboxes; a handshake causes one only where a device waits for the
// hub's answer (an outbox item of kind submit); control never causes any.
//
// Events are at least once: the node that acts on them records what it did in the
// batch that they come with.
type Event struct {
	State      State
	Class      pb.Class
	Kind       pb.Kind
	Item       pb.ItemKind
	Room       wire.RoomID
	Generation uint32
	Epoch      uint64
	Seq        uint64 // the room's sequence; 0: never sequenced
	Envelope   wire.EnvelopeID
	Return     []byte              // return handle, for Origin's node alone; empty: nobody waits
	Origin     wire.OrganizationID // whose node resolves Return; zero: our own
	From       wire.OrganizationID // the partner that handed it to us; zero: our own
	Device     wire.DeviceID       // the inbox it left; zero for outboxes
	Partner    wire.OrganizationID // the outbox it left; zero for inboxes
	Deadline   time.Time           // when it was due; zero where it never had a place
	Status     *pb.Status          // the partner's answer (outboxes) or the refusal; else nil
}

// eventOf returns the event of a reference that leaves b, or false where its class
// causes none.
func eventOf(b *box, m *meta, state State, deadline time.Time, status *pb.Status) (Event, bool) {
	switch {
	case m.class == pb.Class_CLASS_CONTROL:
		return Event{}, false
	case m.class == pb.Class_CLASS_HANDSHAKE && !(b.kind == kindOutbox && m.item == pb.ItemKind_ITEM_KIND_SUBMIT):
		return Event{}, false
	}
	e := Event{
		State: state, Class: m.class, Kind: m.kind, Item: m.item, Room: m.room, Generation: m.generation,
		Epoch: m.epoch, Seq: m.seq, Envelope: m.envelope, Return: m.handle, Origin: m.origin, From: m.from,
		Deadline: deadline, Status: status,
	}
	if b.kind == kindInbox {
		e.Device = wire.DeviceID(b.name)
	} else {
		e.Partner = wire.OrganizationID(b.name)
	}
	return e, true
}
