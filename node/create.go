package node

import (
	"bytes"
	"context"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// createRoom takes a new room under this node as its hub: the group of epoch 0,
// with its creator alone, and the Commit that makes epoch 1. Repeating it with the
// same bytes is a success.
func (n *Node) createRoom(ctx context.Context, device wire.DeviceID, m *pb.CreateRoomRequest) *pb.Status {
	id, err := wire.Bytes32(m.Room)
	if err != nil {
		return wire.Status(pb.Code_CODE_MALFORMED, "a room ID of %d bytes", len(m.Room))
	}
	if len(m.GroupInfo) > wire.MaxWelcome || len(m.Tree) > wire.MaxTree {
		return wire.Status(pb.Code_CODE_TOO_LARGE, "a GroupInfo or tree over its limit")
	}
	if err := checkBundle(m.Bundle); err != nil {
		return wire.StatusOf(err)
	}
	if !n.active(device) {
		return wire.Status(pb.Code_CODE_REVOKED, "")
	}
	if n.store.Status().Recovering {
		return wire.Status(pb.Code_CODE_RECOVERING, "") // it orders nothing
	}
	if wait, ok := n.rates.device(device); !ok {
		return wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)
	}
	return n.withChains(ctx, func() *pb.Status {
		c, err := n.begin(id)
		if err != nil {
			return wire.StatusOf(err)
		}
		status, err := c.create(device, id, m)
		if err != nil {
			c.abandon()
			return wire.StatusOf(err)
		}
		if err := c.commit(ctx); err != nil {
			return wire.StatusOf(err)
		}
		return status
	})
}

func (c *change) create(device wire.DeviceID, id wire.RoomID, m *pb.CreateRoomRequest) (*pb.Status, error) {
	d := c.room(id)
	if d.known {
		return c.createdBefore(d, device, m)
	}
	group, err := mls.NewPublicGroup(m.GroupInfo, m.Tree, c.n.rooms.options)
	if err != nil {
		return nil, commitRefused(d, submission{}, err)
	}
	if err := c.checkNewRoom(device, id, m.Generation, group); err != nil {
		return nil, err
	}
	d.known, d.group = true, group
	d.row = roomRow{Version: roomRowVersion, Hub: c.n.org.ID, Generation: m.Generation}
	d.dirty.row = true
	number, err := c.n.numbers.of(device)
	if err != nil {
		return nil, err
	}
	core := &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT,
		Room: id[:], Generation: m.Generation, ReturnHandle: c.n.handles.seal(number, 0)}
	if err := c.orderCommit(d, submission{sender: device, parsed: core, bundle: m.Bundle}); err != nil {
		return nil, err
	}
	return d.sequenced(), nil
}

// createdBefore answers a repeated call of the creator's: the room stands at the
// epoch that its first Commit made, or later.
func (c *change) createdBefore(d *draft, device wire.DeviceID, m *pb.CreateRoomRequest) (*pb.Status, error) {
	log, _, err := c.n.mail.RoomLog(context.Background(), d.id, m.Generation, 0, 1)
	if err != nil || len(log) == 0 || d.group == nil {
		return nil, wire.Refuse(pb.Code_CODE_EXISTS, "a room of that ID exists")
	}
	first, err := wire.ParseCore(log[0].Core)
	if err != nil || !bytes.Equal(first.Body, m.Bundle.Commit) || c.n.senderOf(first.ReturnHandle, c.n.org.ID) != device {
		return nil, wire.Refuse(pb.Code_CODE_EXISTS, "a room of that ID exists")
	}
	st := wire.Status(pb.Code_CODE_SEQUENCED, "")
	st.Seq, st.AcceptedMs, st.Epoch = log[0].Seq, log[0].AcceptedMs, 1
	return st, nil
}

// checkNewRoom: the creator is alone, the room extension names this hub and
// organizations with agreements in force, and the hub is the one external sender.
func (c *change) checkNewRoom(device wire.DeviceID, id wire.RoomID, generation uint32, group *mls.PublicGroup) error {
	list := members(group)
	if group.Epoch() != 0 || len(list) != 1 || list[0].Device != device || list[0].Organization != c.n.org.ID {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a new room begins at epoch 0 with its creator alone")
	}
	if !bytes.Equal(group.GroupID(), wire.GroupID(id, generation)) {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "the group ID is not the room's")
	}
	rules, err := policy.Of(group.Extensions())
	if err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "room or roles extension that do not stand")
	}
	if rules.Roles != nil && rules.Role(policy.PersonOf(list[0])) != wire.RoleAdmin {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a room whose creator is not its administrator")
	}
	room := rules.Room
	if err := policy.CheckSuite(room.SuiteFloor, group.Suite().ID); err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "%v", err)
	}
	if !bytes.Equal(room.ID, id[:]) || room.Generation != generation || !bytes.Equal(room.Hub, c.n.org.ID[:]) || !bytes.Equal(room.HubNode, c.n.peer[:]) || room.Ended {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a room extension of another room or hub")
	}
	var others []wire.OrganizationID
	for _, o := range room.Organizations {
		others = append(others, wire.OrganizationID(o.Organization))
	}
	if err := c.n.allowed(nil, rules, others); err != nil {
		return err
	}
	if err := policy.CheckHubSender(group.Extensions(), c.n.org.ID, c.n.org.Manifest.Hub); err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "the room's external sender is not its hub")
	}
	return nil
}

// submitCommit takes a later Commit of a device of ours, for a room that is
// ordered here or at a partner.
func (n *Node) submitCommit(ctx context.Context, device wire.DeviceID, m *pb.SubmitCommitRequest) *pb.Status {
	if err := checkBundle(m.Bundle); err != nil {
		return wire.StatusOf(err)
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT,
		Room: m.Room, Generation: m.Generation, Epoch: m.Epoch})
	if err != nil {
		return wire.Status(pb.Code_CODE_MALFORMED, "a Commit without a room")
	}
	return n.withChains(ctx, func() *pb.Status {
		return n.submit(ctx, device, []ownSubmission{{counter: m.Counter, core: core, bundle: m.Bundle}})[0]
	})
}
