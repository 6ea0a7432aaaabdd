package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
	"google.golang.org/protobuf/proto"
)

// notify turns what left the queues into what people are told, in the batch that
// removes it: results of submissions for devices of ours, and signed notices for
// whoever sent what our members got, or did not get. It is mailbox.Notify.
func (n *Node) notify(ctx context.Context, b *store.Batch, events []mailbox.Event) (staged []*mailbox.Staged, err error) {
	notices := make(map[noticeKey][]notice.Range)
	for _, e := range events {
		switch {
		case e.Item == pb.ItemKind_ITEM_KIND_SUBMIT && !e.Partner.IsZero():
			s, err := n.result(b, e)
			if err != nil {
				return staged, err
			}
			staged = append(staged, s...)
		case len(e.Return) == wire.ReturnHandleLen && e.Seq > 0:
			key := noticeKey{n.origin(e), e.From, e.Room, e.Generation, e.Epoch}
			notices[key] = append(notices[key], n.ranges(e)...)
		}
	}
	for key, ranges := range notices {
		for part := range slices.Chunk(ranges, notice.MaxRanges) {
			s, err := n.sendNotice(ctx, b, key, part)
			if err != nil {
				return staged, err
			}
			staged = append(staged, s...)
		}
	}
	return staged, nil
}

// noticeKey is what one notice is about: who is told, through whom, and the room.
type noticeKey struct {
	origin, through wire.OrganizationID
	room            wire.RoomID
	generation      uint32
	epoch           uint64
}

func (n *Node) origin(e mailbox.Event) wire.OrganizationID {
	if e.Origin.IsZero() {
		return n.org.ID
	}
	return e.Origin
}

// ranges says what became of one envelope at one member, or, where a partner has
// refused it, at each of the partner's members in the room.
func (n *Node) ranges(e mailbox.Event) []notice.Range {
	if !e.Partner.IsZero() && e.State == mailbox.StateStored {
		return nil // the partner's own notices say more
	}
	r := notice.Range{State: e.State, From: e.Seq, To: e.Seq, Handles: [][wire.ReturnHandleLen]byte{[wire.ReturnHandleLen]byte(e.Return)}}
	if e.State == mailbox.StateRefused {
		r.Reason = pb.Code_CODE_FULL
		if e.Status != nil {
			r.Reason = e.Status.Code
		}
	}
	if e.Partner.IsZero() {
		r.Member = n.memberOf(e.Device)
		return []notice.Range{r}
	}
	var out []notice.Range
	for _, member := range n.partnerMembers(e.Room, e.Partner) {
		r.Member = member
		out = append(out, r)
	}
	return out
}

// sendNotice signs a notice and stages it: to our devices, or to the sender's
// organization, or, without an agreement with it, through the room's hub.
func (n *Node) sendNotice(_ context.Context, b *store.Batch, key noticeKey, ranges []notice.Range) ([]*mailbox.Staged, error) {
	now := n.clock.Now()
	said := notice.Notice{Organization: n.org.ID, Origin: key.origin, Room: key.room, Issued: now.UTC().Truncate(time.Second), Ranges: ranges}
	text, err := notice.New(said, n.statementKey)
	if err != nil {
		return nil, fmt.Errorf("node: signing a notice: %w", err)
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{
		Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_NOTICE,
		Room: key.room[:], Generation: key.generation, Epoch: key.epoch,
		Deadline: now.Add(wire.NoticeDeadline).Unix(), Body: []byte(text),
	})
	if err != nil {
		return nil, err
	}
	d := mailbox.Delivery{Sender: "notices", Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL,
		Envelope: &pb.Envelope{Core: core}, Origin: bytes.Clone(key.origin[:])}}
	switch {
	case key.origin == n.org.ID:
		d.Devices = n.noticed(&said)
	case n.known(key.origin):
		d.Partners = []wire.OrganizationID{key.origin}
	case !key.through.IsZero():
		d.Partners = []wire.OrganizationID{key.through}
	}
	d.Partners = slices.DeleteFunc(d.Partners, n.ended) // they are strangers now
	if len(d.Devices)+len(d.Partners) == 0 {
		return nil, nil
	}
	s, err := n.mail.Stage(b, d)
	if err != nil {
		return nil, err
	}
	return []*mailbox.Staged{s}, nil
}

// result tells a device what the hub made of its submission.
func (n *Node) result(b *store.Batch, e mailbox.Event) ([]*mailbox.Staged, error) {
	number, counter, ok := n.handles.open(e.Return)
	device := n.numbers.device(number)
	if !ok || device.IsZero() || !n.active(device) {
		return nil, nil
	}
	status := e.Status
	if status == nil {
		status = wire.Status(pb.Code_CODE_DEADLINE_PASSED, "the room's hub could not be reached in time")
	}
	body, err := proto.Marshal(&pb.SubmitResult{Counter: counter, Status: status, Room: e.Room[:]})
	if err != nil {
		return nil, err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{
		Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_RESULT,
		Room: e.Room[:], Generation: e.Generation, Epoch: e.Epoch,
		Deadline: n.clock.Now().Add(wire.NoticeDeadline).Unix(), Body: body,
	})
	if err != nil {
		return nil, err
	}
	s, err := n.mail.Stage(b, mailbox.Delivery{Sender: "results", Devices: []wire.DeviceID{device},
		Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}})
	if err != nil {
		return nil, err
	}
	return []*mailbox.Staged{s}, nil
}
