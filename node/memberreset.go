package node

import (
	"context"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// ResetMember is for a member who has lost all devices: those that the directory has are
// revoked, in every room too, and the link that is made lets one new device in, with a new
// member key that everybody is told of.
func (a operatorAPI) ResetMember(ctx context.Context, r *connect.Request[pb.ResetMemberRequest]) (*connect.Response[pb.AddMemberResponse], error) {
	return answer(a.n.resetMember(context.WithoutCancel(ctx), r.Msg))
}

func (n *Node) resetMember(ctx context.Context, q *pb.ResetMemberRequest) (*pb.AddMemberResponse, error) {
	ttl, err := linkTime(q.ValidSeconds)
	if err != nil {
		return nil, err
	}
	if err := n.signs(); err != nil {
		return nil, err
	}
	m, err := n.dir.Lookup(q.Name)
	if err != nil {
		return nil, err
	}
	// Who has one of the devices in hand adds another before it is revoked, again and again.
	defer n.dir.Close(m.ID)()
	if m, err = n.dir.Get(m.ID); err != nil {
		return nil, err
	}
	for id := range m.Devices {
		note, err := n.dir.SignRevocation(id)
		if err != nil {
			return nil, err
		}
		if _, err := n.revoke(ctx, note, &identity.Revocation{Organization: n.org.ID, Member: m.ID, Device: id}); err != nil {
			return nil, err
		}
	}
	l, err := n.dir.CreateResetLink(ctx, q.Name, ttl)
	if err != nil {
		return nil, err
	}
	n.log.Warn("a member is reset", "member", m.ID, "devices", len(m.Devices))
	return n.linkFor(l), nil
}
