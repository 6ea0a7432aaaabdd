package node

import (
	"bytes"
	"context"
	"fmt"

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
	for _, e := range events {
		if e.Item == pb.ItemKind_ITEM_KIND_SUBMIT && !e.Partner.IsZero() {
			s, err := n.result(b, e)
			if err != nil {
				return staged, err
			}
			staged = append(staged, s...)
		}
	}
	for _, row := range n.groupsOf(events) {
		if size := n.rooms.size(row.Key.Room); size > 2 || n.recovering() || !n.told.atOnce(row.Key, row.At) {
			if err := n.told.put(b, *row); err != nil {
				return staged, err
			}
			continue
		}
		s, err := n.sendNotices(b, &toldGroup{row.Key, row.Epoch, row.sayings()})
		staged = append(staged, s...)
		if err != nil {
			return staged, err
		}
	}
	return staged, nil
}

func (n *Node) origin(e mailbox.Event) wire.OrganizationID {
	if e.Origin.IsZero() {
		return n.org.ID
	}
	return e.Origin
}

// sendNotice signs a notice and stages it: to our devices, or to the sender's
// organization, or, without an agreement with it, through the room's hub. Nil where
// nobody is left who could be told.
func (n *Node) sendNotice(b *store.Batch, g *toldGroup, said notice.Notice) (*mailbox.Staged, error) {
	key, now := g.key, n.clock.Now()
	devices, partners := n.toldTo(key, &said)
	if len(devices)+len(partners) == 0 {
		return nil, nil
	}
	text, err := notice.New(said, n.statementKey)
	if err != nil {
		return nil, fmt.Errorf("node: signing a notice: %w", err)
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{
		Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_NOTICE,
		Room: key.Room[:], Generation: key.Generation, Epoch: g.epoch,
		Deadline: now.Add(wire.NoticeDeadline).Unix(), Body: []byte(text),
	})
	if err != nil {
		return nil, err
	}
	return n.mail.Stage(b, mailbox.Delivery{Sender: "notices", Devices: devices, Partners: partners,
		Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}, Origin: bytes.Clone(key.Origin[:])}})
}

// toldTo says who gets a notice; nobody where the agreement has ended.
func (n *Node) toldTo(key toldKey, said *notice.Notice) ([]wire.DeviceID, []wire.OrganizationID) {
	to := key.Through
	switch {
	case key.Origin == n.org.ID:
		return n.noticed(said), nil
	case n.known(key.Origin):
		to = key.Origin
	}
	if to.IsZero() || n.ended(to) {
		return nil, nil
	}
	return nil, []wire.OrganizationID{to}
}

// result tells a device what the hub made of its submission.
func (n *Node) result(b *store.Batch, e mailbox.Event) ([]*mailbox.Staged, error) {
	number, counter, ok := n.handles.open(e.Return)
	device := n.numbers.device(number)
	if !ok || device.IsZero() || !n.active(device) {
		return nil, nil
	}
	status := e.Status
	if status.GetSeq() > 0 {
		if err := n.namedPlace(b, e.Room, status.Seq); err != nil {
			return nil, err
		}
	}
	if status == nil {
		status = wire.Status(pb.Code_CODE_DEADLINE_PASSED, "the room's hub could not be reached in time")
	}
	status = proto.CloneOf(status)
	status.ReturnHandle = nil // a hub has no say in it
	if status.Seq > 0 {
		status.ReturnHandle = bytes.Clone(e.Return)
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
