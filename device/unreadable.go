package device

import (
	"errors"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What nobody reads here is told to people: what it was, in which room, and why.

var (
	errDamaged    = errors.New("device: the node's copy is damaged")
	errNoKeys     = errors.New("device: it is for a KeyPackage that this device does not have")
	errNotIn      = errors.New("device: a message of a room that this device is not in")
	errGeneration = errors.New("device: of another generation of the room, before or after a reset")
)

// unreadable tells people of a delivery that cannot be read. What is said in a room whose
// invitation the rules forbade follows from that, and is told to its senders alone.
func (b *batch) unreadable(x *pb.Deliver, err error) {
	s := Shown{Reason: err.Error(), At: b.d.now()}
	if core, e := wire.ParseCore(x.GetEnvelope().GetCore()); e == nil {
		id := wire.RoomID(core.Room)
		if errors.Is(err, errNotIn) && b.forbidden(id) {
			return
		}
		if core.Kind == pb.Kind_KIND_WELCOME && wire.ClassOf(wire.StatusOf(err).Code) == wire.Policy {
			b.forbid(id)
		}
		s = b.d.ofRoom(b.roomOrID(id), unreadableKind(core.Kind), s.Reason)
	}
	s.Event, s.Why = "unreadable", whyUnreadable(err)
	b.show(s)
}

func forbiddenKey(id wire.RoomID) []byte { return append([]byte("forbidden-room/"), id[:]...) }

// forbid notes that the rules forbade an invitation.
func (b *batch) forbid(id wire.RoomID) {
	b.shut[id] = true
	b.writes = append(b.writes, func(t *txn) error { return t.putMeta(forbiddenKey(id), []byte{1}) })
}

func (b *batch) forbidden(id wire.RoomID) bool {
	return b.shut[id] || b.d.vault.view(func(t *txn) error { _, err := t.meta(forbiddenKey(id)); return err }) == nil
}

// unreadableKind is Shown.State of what could not be read: what it was.
func unreadableKind(k pb.Kind) string {
	switch k {
	case pb.Kind_KIND_APPLICATION:
		return "message"
	case pb.Kind_KIND_WELCOME:
		return "invitation"
	case pb.Kind_KIND_COMMIT, pb.Kind_KIND_PROPOSAL:
		return "change"
	}
	return "other"
}

// whyUnreadable is Shown.Why: one of these words, the name of a status (docs/statuses.md), or
// nothing where it does not fit this device's keys or was altered.
func whyUnreadable(err error) string {
	var against *policyError
	var epoch *mls.EpochError
	var st *wire.StatusError
	switch {
	case errors.As(err, &against):
		return "rules"
	case errors.Is(err, ErrIdentityChanged):
		return "identity"
	case errors.Is(err, errDamaged):
		return wire.CodeName(pb.Code_CODE_DAMAGED)
	case errors.Is(err, errGivenUp):
		return "waited"
	case errors.Is(err, errContent):
		return "content"
	case errors.Is(err, errNoKeys):
		return "keys"
	case errors.Is(err, errGeneration):
		return "generation"
	case errors.Is(err, errNotIn):
		return "room"
	case errors.Is(err, group.ErrReplay):
		return "late"
	case errors.As(err, &epoch):
		return "epoch"
	case errors.As(err, &st):
		return wire.CodeName(st.Status.Code)
	}
	return ""
}
