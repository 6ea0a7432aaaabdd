package node

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// tellForked tells our devices in a room that its hub has contradicted what it had said of the
// room's order: all that they would see is that an entry is missing. The refused entry itself is
// not handed on. Each place is told of once, and none below it; what a hub makes of it counts as
// that hub's mail.
func (c *change) tellForked(d *draft, env *pb.Envelope) error {
	if env.Seq <= d.row.Forked {
		return nil
	}
	var devices []wire.DeviceID
	for _, device := range d.row.Devices {
		if c.n.active(device) {
			devices = append(devices, device)
		}
	}
	id := wire.IDOf(env.Core)
	body, err := proto.Marshal(&pb.ForkedBody{Seq: env.Seq, Refused: id[:]})
	if err != nil {
		return fmt.Errorf("node: telling of a fork: %w", err)
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_FORKED,
		Room: d.id[:], Generation: d.row.Generation, Deadline: c.n.clock.Now().Add(wire.RequestDeadline).Unix(), Body: body})
	if err != nil {
		return fmt.Errorf("node: telling of a fork: %w", err)
	}
	if len(devices) > 0 {
		if _, err := c.stage(mailbox.Delivery{From: d.row.Hub, Sender: "forked/" + d.row.Hub.String(), Devices: devices,
			Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}}); err != nil {
			return err
		}
	}
	d.row.Forked, d.dirty.row = env.Seq, true
	c.n.log.Error("a room's hub names another order than before: its entry was refused, our devices are told", "partner", d.row.Hub, "room", d.id, "seq", env.Seq, "envelope", id)
	return nil
}
