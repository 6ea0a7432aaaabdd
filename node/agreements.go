package node

import (
	"context"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// GetAgreement shows a device what is agreed with a partner, with both signatures, and what
// its own organization asks (docs/protocol.md 7.15).
func (a deviceAPI) GetAgreement(_ context.Context, r *connect.Request[pb.GetAgreementRequest]) (*connect.Response[pb.GetAgreementResponse], error) {
	return answer(a.n.agreementFor(r.Msg.Organization, r.Msg.States))
}

func (n *Node) agreementFor(organization []byte, states [][]byte) (*pb.GetAgreementResponse, error) {
	if len(states) > wire.AgreementStates {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "more organizations than a room has")
	}
	org, err := wire.Bytes32(organization)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(organization))
	}
	out := &pb.GetAgreementResponse{RetentionSeconds: int64(n.config.Retention.Seconds()), FileSize: n.config.Files.MaxSize, VerifyOutsiders: n.config.Verify}
	if org != n.org.ID {
		out.Agreement, err = n.fed.AgreementBody(org)
	}
	for _, id := range states {
		asked, e := wire.Bytes32(id)
		if e != nil {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(id))
		}
		if state := n.fed.AgreementState(asked); state != "" {
			out.States = append(out.States, &pb.AgreementState{Organization: id, State: state})
		}
	}
	return out, err
}

// states is what our devices were told last of the agreements' states, since this node was
// started.
type states struct {
	mu   sync.Mutex
	told map[wire.OrganizationID]string
}

// stateChanged tells our devices in rooms with a partner when the agreement with it is not
// what they were told last. Where there is no place for that now, the next look does it.
func (n *Node) stateChanged(partner wire.OrganizationID) {
	n.background(func(ctx context.Context) {
		if err := n.tellState(ctx, partner); err != nil && ctx.Err() == nil {
			n.log.Warn("devices were not told of an agreement's state; they ask by themselves", "partner", partner, "error", err)
		}
	})
}

// tellState is stateChanged, done. After a start it tells of what is not in force: who was
// told before keeps silent.
func (n *Node) tellState(ctx context.Context, partner wire.OrganizationID) error {
	n.states.mu.Lock()
	defer n.states.mu.Unlock()
	state := n.fed.AgreementState(partner)
	if was, ok := n.states.told[partner]; state == was || !ok && state == wire.AgreementInForce {
		return nil
	}
	if err := n.tellAgreement(ctx, partner); err != nil {
		return err
	}
	if n.states.told == nil {
		n.states.told = make(map[wire.OrganizationID]string)
	}
	n.states.told[partner] = state
	return nil
}

// amended tells our devices in rooms with a partner that the agreement with it is another
// by now, or a new one. Who misses it asks within the hour.
func (n *Node) amended(partner wire.OrganizationID) {
	n.background(func(ctx context.Context) {
		if err := n.tellAgreement(ctx, partner); err != nil && ctx.Err() == nil {
			n.log.Warn("devices were not told of an amendment; they ask by themselves", "partner", partner, "error", err)
		}
	})
}

func (n *Node) tellAgreement(ctx context.Context, partner wire.OrganizationID) error {
	agreement, err := n.fed.AgreementBody(partner)
	if err != nil {
		return err
	}
	devices, err := n.devicesWith(partner)
	if err != nil || len(devices) == 0 {
		return err
	}
	body, err := proto.Marshal(agreement)
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_AGREEMENT,
		Room: make([]byte, 32), Deadline: n.clock.Now().Add(wire.RequestDeadline).Unix(), Body: body})
	if err != nil {
		return err
	}
	c, err := n.begin()
	if err != nil {
		return err
	}
	_, err = c.stage(mailbox.Delivery{Sender: "agreements", Devices: devices,
		Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}})
	if err != nil {
		c.abandon()
		return err
	}
	return c.commit(ctx)
}

// devicesWith lists our devices in rooms that a partner has a leaf in, as far as this node
// knows: those that it orders, and the partner's own.
func (n *Node) devicesWith(partner wire.OrganizationID) ([]wire.DeviceID, error) {
	ids, err := n.rooms.all()
	if err != nil {
		return nil, err
	}
	found := make(map[wire.DeviceID]bool)
	for _, id := range ids {
		row, err := n.rooms.row(id)
		if err != nil {
			continue
		}
		if row.Hub == partner {
			for _, d := range row.Devices {
				found[d] = true
			}
		}
		if row.Hub != n.org.ID {
			continue
		}
		leaves := n.rooms.committed(id)
		if !slices.ContainsFunc(leaves, func(c wire.Credential) bool { return c.Organization == partner }) {
			continue
		}
		for _, c := range leaves {
			if c.Organization == n.org.ID {
				found[c.Device] = true
			}
		}
	}
	var out []wire.DeviceID
	for d := range found {
		if n.active(d) {
			out = append(out, d)
		}
	}
	return out, nil
}
