package device

import (
	"bytes"
	"errors"
	"slices"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
	"google.golang.org/protobuf/proto"
)

// result is the hub's answer to a submission of ours.
func (b *batch) result(core *pb.EnvelopeCore) error {
	var res pb.SubmitResult
	if err := proto.Unmarshal(core.Body, &res); err != nil || res.Status == nil {
		return errors.New("device: a result that does not parse")
	}
	if r := b.room(wire.RoomID(core.Room)); r != nil && r.Committing == res.Counter && r.Committing > 0 {
		return b.committed(r, res.Status)
	}
	if res.Status.Seq > 0 {
		// Whatever it was: nobody delivers it to us, and its place is no gap.
		b.ownPlace(wire.RoomID(core.Room), res.Status.Seq)
	}
	waiting, err := b.d.waiting()
	if err != nil {
		return err
	}
	message := false
	for _, o := range waiting {
		if o.Counter == res.Counter && o.Room == wire.RoomID(core.Room) {
			message = true
			b.writes = append(b.writes, func(t *txn) error {
				_, err := b.d.settled(t, o.ID, res.Counter, res.Status)
				return err
			})
			if res.Status.Seq > 0 {
				if r := b.room(o.Room); r != nil && res.Status.Seq == r.Seq+1 {
					b.advanceSeq(r, res.Status.Seq)
				}
			}
		}
	}
	if !message {
		b.proposed(wire.RoomID(core.Room), res.Counter, res.Status)
	}
	return nil
}

// ownPlace notes an entry of our own in a room's sequence; that of a message is
// replaced by its ID when it is settled.
func (b *batch) ownPlace(room wire.RoomID, seq uint64) {
	if r := b.room(room); r != nil && r.fill(seq) {
		b.touch(room)
	}
	b.own[ownEntry{room, seq}] = true
	b.writes = append(b.writes, func(t *txn) error { return t.ownPlace(room, seq) })
}

func (t *txn) ownPlace(room wire.RoomID, seq uint64) error {
	key := placeKey(room, seq)
	if _, err := t.history(key); err == nil {
		return nil
	}
	return t.putHistory(key, t.v.now().Add(HistoryLife), []byte("handshake"))
}

// notice notes what an organization states about messages of ours.
func (b *batch) notice(core *pb.EnvelopeCore) error {
	org, err := notice.OrganizationOf(string(core.Body))
	if err != nil {
		return err
	}
	room := wire.RoomID(core.Room)
	return b.d.withChains(b.ctx, func() error {
		key, err := b.d.nodeKey(org, room)
		if err != nil {
			return err
		}
		said, err := notice.Parse(string(core.Body), org, key)
		if err != nil {
			return err
		}
		if said.Room != room || said.Origin != b.d.account.Organization {
			return errors.New("device: a notice of another room, or for another organization")
		}
		for _, r := range said.Ranges {
			b.noticeRange(said, r)
		}
		return nil
	})
}

// nodeKey is the statement key of the room's hub, or of an organization with a member in it.
func (d *Device) nodeKey(org wire.OrganizationID, id wire.RoomID) (wire.NoteKey, error) {
	r := d.rooms[id]
	if r == nil || r.state == nil {
		return wire.NoteKey{}, errors.New("device: a notice of an unknown room")
	}
	if org != r.Hub && !slices.ContainsFunc(r.people(), func(k memberKey) bool { return k.Org == org }) {
		return wire.NoteKey{}, errors.New("device: a notice of an organization that is not in the room")
	}
	o, err := d.organizationOf(r, org)
	if err != nil {
		return wire.NoteKey{}, err
	}
	return o.NodeKey(), nil
}

// maxRange bounds the entries of a range that are looked at.
const maxRange = 10_000

func (b *batch) noticeRange(said *notice.Notice, r notice.Range) {
	who, ok := b.whom(said, r)
	if !ok || who == b.d.ownKey() { // our own other devices are nobody to be told of
		return
	}
	for seq := r.From; seq <= r.To && seq-r.From < maxRange; seq++ {
		b.writes = append(b.writes, func(t *txn) error {
			raw, err := t.history(placeKey(said.Room, seq))
			id, handle, ok := placed(raw)
			if err != nil || !ok || !speaksOf(r, handle) {
				return nil // not ours
			}
			if _, err := t.history(sentKey(id)); err != nil {
				return nil // about the room itself (Silent), or its day is over
			}
			changed := false
			s, err := t.changeSent(id, func(s *Sent) { changed = s.state(b.d.nameOf(who), said, r) })
			if err != nil || !changed || r.State == notice.StateAcknowledged || r.State == notice.StateDelivered || r.State == notice.StateStored {
				return err
			}
			to := s.To
			if s.Of > 1 {
				to = b.d.nameOf(who) + " in " + s.To
			}
			if err := t.withSentText(s); err != nil {
				return err
			}
			return t.show(Shown{Event: "notice", ID: s.ID, To: to, Text: s.Text, State: r.State.String(),
				Reason: reasonOf(r), Room: said.Room.String(), Seq: seq, At: said.Issued})
		})
	}
}

// speaksOf reports whether a range means the message with a return handle. One without handles
// means all in it, and of a message that was sent with an older version none is known.
func speaksOf(r notice.Range, handle []byte) bool {
	return len(r.Handles) == 0 || len(handle) == 0 || slices.ContainsFunc(r.Handles, func(h [wire.ReturnHandleLen]byte) bool { return bytes.Equal(h[:], handle) })
}

// whom finds the member that a range speaks of. An organization speaks of its own
// members; our own node and the room's hub also of those of others, whom what they hold
// or refuse was for.
func (b *batch) whom(said *notice.Notice, r notice.Range) (memberKey, bool) {
	who := memberKey{said.Organization, r.Member}
	room := b.room(said.Room)
	if room == nil {
		return who, false
	}
	if room.holds(who) {
		return who, true
	}
	if _, err := b.d.chains.get(who); err == nil {
		return who, true
	}
	if said.Organization != room.Hub && said.Organization != b.d.account.Organization {
		return who, false
	}
	for _, k := range room.people() {
		if k.Member == r.Member {
			return k, true
		}
	}
	if room.Peer != (memberKey{}) {
		return room.Peer, true
	}
	return who, true
}

// reasonOf names why a range was refused; empty in every other state.
func reasonOf(r notice.Range) string {
	if r.Reason == 0 {
		return ""
	}
	return wire.CodeName(r.Reason)
}

// state notes what an organization says of a message at one of its members, and
// whether that is news. What one device has acknowledged was shown, whatever becomes of
// the copies for the member's others.
func (s *Sent) state(member string, said *notice.Notice, r notice.Range) bool {
	m := MemberState{Address: member, State: r.State.String(), At: said.Issued, Until: r.Until}
	m.Reason = reasonOf(r)
	at := slices.IndexFunc(s.Members, func(x MemberState) bool { return x.Address == member })
	switch {
	case at < 0 && len(s.Members) >= wire.MaxRoomDevices:
		return false
	case at < 0:
		s.Members = append(s.Members, m)
	case s.Members[at].State == notice.StateAcknowledged.String() || s.Members[at].State == m.State:
		return false
	default:
		s.Members[at] = m
	}
	if s.Of <= 1 {
		s.State, s.Reason, s.Code = m.State, m.Reason, r.Reason
	}
	return true
}
