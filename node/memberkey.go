package node

import (
	"context"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// RotateMemberKey takes the next key of the caller's member, and leaves for the member's
// other devices what the caller has sealed to them (docs/protocol.md 7.14). Repeating it is
// a success: what it leaves is left again.
func (a deviceAPI) RotateMemberKey(ctx context.Context, r *connect.Request[pb.RotateMemberKeyRequest]) (*connect.Response[pb.RotateMemberKeyResponse], error) {
	chain, err := a.n.rotateMemberKey(context.WithoutCancel(ctx), r.Msg)
	return answer(&pb.RotateMemberKeyResponse{Chain: chain}, err)
}

// maxSealedKey bounds what is sealed to one device: an X-Wing KEM output is 1,120 bytes.
const maxSealedKey = 2 << 10

func (n *Node) rotateMemberKey(ctx context.Context, m *pb.RotateMemberKeyRequest) (*pb.MemberChain, error) {
	device, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.records(ctx); err != nil {
		return nil, err
	}
	if wait, ok := n.rates.device(device); !ok {
		return nil, &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)}
	}
	member := n.memberOf(device)
	if len(m.Keys) > wire.MaxDevicesPerMember {
		return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "keys for %d devices: a member has at most %d", len(m.Keys), wire.MaxDevicesPerMember)
	}
	own := n.devicesOf(member)
	for _, k := range m.Keys {
		id, err := wire.Bytes32(k.Device)
		if err != nil || !slices.Contains(own, id) {
			return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_DEVICE, "a key for a device that is not the member's")
		}
		if proto.Size(k.Body) > maxSealedKey {
			return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a sealed key of %d bytes: at most %d", proto.Size(k.Body), maxSealedKey)
		}
	}
	chain, err := n.dir.RotateKeyBy(ctx, device, m.Rotation)
	if err != nil {
		return nil, err
	}
	return chain, n.leaveKeys(ctx, m.Keys)
}

// leaveKeys puts sealed keys into the mailboxes of the devices that they are for.
func (n *Node) leaveKeys(ctx context.Context, keys []*pb.SealedMemberKey) error {
	c, err := n.begin()
	if err != nil {
		return err
	}
	for _, k := range keys {
		body, err := proto.Marshal(k.Body)
		if err != nil {
			c.abandon()
			return err
		}
		core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_MEMBER_KEY,
			Room: make([]byte, 32), Deadline: n.clock.Now().Add(wire.RequestDeadline).Unix(), Body: body})
		if err == nil {
			_, err = c.stage(mailbox.Delivery{Sender: "member keys", Devices: []wire.DeviceID{wire.DeviceID(k.Device)},
				Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}})
		}
		if err != nil {
			c.abandon()
			return err
		}
	}
	return c.commit(ctx)
}
