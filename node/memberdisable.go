package node

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// DisableMember keeps a member out: its record says so, its devices are revoked, in every room
// too, and no link admits it until EnableMember.
func (a operatorAPI) DisableMember(ctx context.Context, r *connect.Request[pb.DisableMemberRequest]) (*connect.Response[pb.DisableMemberResponse], error) {
	return answer(a.n.disableMember(context.WithoutCancel(ctx), r.Msg))
}

// disableMember writes down which devices are to be revoked before the record says that the
// member is disabled: after a crash between the two, and after one later, they are (node/revocations.go).
func (n *Node) disableMember(ctx context.Context, q *pb.DisableMemberRequest) (*pb.DisableMemberResponse, error) {
	why := strings.TrimSpace(q.Why)
	if err := federation.CheckWhy(why); err != nil {
		return nil, err
	}
	m, err := n.toChange(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	defer n.dir.Close(m.ID)() // nobody adds a device between the reading and the record
	if m, err = n.dir.Get(m.ID); err != nil {
		return nil, err
	}
	notes, err := n.revokeAll(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := n.dir.Disable(ctx, q.Name, why); err != nil {
		return nil, err
	}
	if err := n.revokeLinksOf(ctx, q.Name); err != nil {
		return nil, err
	}
	out := &pb.DisableMemberResponse{Devices: uint32(len(notes))}
	for id, note := range notes {
		rooms, err := n.revoke(ctx, note, &identity.Revocation{Organization: n.org.ID, Member: m.ID, Device: id})
		if err != nil {
			return nil, err // what is missing is followed up every minute
		}
		out.Rooms = max(out.Rooms, uint32(rooms))
	}
	n.log.Warn("a member is disabled", "member", m.ID, "devices", len(notes))
	if m, err = n.dir.Get(m.ID); err == nil {
		out.Member = n.memberStatus(m)
	}
	return out, err
}

// revokeAll signs the revocations of a member's devices for the organization and writes them
// down. Whoever is disabled has no active device: there is nothing more to revoke.
func (n *Node) revokeAll(ctx context.Context, m *identity.Member) (map[wire.DeviceID]string, error) {
	notes := make(map[wire.DeviceID]string)
	if m.Disabled || len(m.Devices) == 0 {
		return notes, nil
	}
	var b store.Batch
	for id := range m.Devices {
		note, err := n.dir.SignRevocation(id)
		if err != nil {
			return nil, err
		}
		notes[id] = note
		b.Put(goneKey(id), []byte(note))
	}
	_, err := n.store.Commit(ctx, &b)
	return notes, err
}

// revokeLinksOf voids the links that were made for a member and not used.
func (n *Node) revokeLinksOf(ctx context.Context, name string) error {
	links, err := n.dir.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Name == name && l.State == "open" {
			if err := n.dir.RevokeLink(ctx, l.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// toChange looks up a member whose record is to be changed, and refuses while this node makes
// no records.
func (n *Node) toChange(ctx context.Context, name string) (*identity.Member, error) {
	if err := n.signs(); err != nil {
		return nil, err
	}
	if err := n.records(ctx); err != nil {
		return nil, err
	}
	return n.dir.Lookup(name)
}

// EnableMember lets a disabled member come back by a reset: its devices are revoked for good.
func (a operatorAPI) EnableMember(ctx context.Context, r *connect.Request[pb.ResetMemberRequest]) (*connect.Response[pb.AddMemberResponse], error) {
	return answer(a.n.enableMember(context.WithoutCancel(ctx), r.Msg))
}

func (n *Node) enableMember(ctx context.Context, q *pb.ResetMemberRequest) (*pb.AddMemberResponse, error) {
	if _, err := linkTime(q.ValidSeconds); err != nil {
		return nil, err
	}
	m, err := n.toChange(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	if !m.Disabled {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s is not disabled", m.Address())
	}
	if err := n.finishRevocations(ctx); err != nil { // nobody comes back with a device of before
		return nil, err
	}
	if m, err = n.dir.Get(m.ID); err == nil && len(m.Devices) > 0 {
		return nil, wire.Refuse(pb.Code_CODE_UNREACHABLE, "%d devices of %s are still to be revoked everywhere: try again in a minute", len(m.Devices), m.Address())
	}
	if err := n.dir.Enable(ctx, q.Name); err != nil {
		return nil, err
	}
	n.log.Warn("a member is enabled again", "member", m.ID)
	return n.resetMember(ctx, q)
}
