package node

import (
	"context"
	"errors"
	"math"

	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Query answers a partner's question (docs/protocol.md 5.4). It is called by
// federation for partners in force, within their rates.
func (n *Node) Query(ctx context.Context, from wire.OrganizationID, q *pb.QueryRequest) *pb.QueryResponse {
	a := &pb.QueryResponse{}
	var err error
	switch q := q.Query.(type) {
	case *pb.QueryRequest_Resolve:
		var chain *pb.MemberChain
		if chain, err = n.resolveFor(from, q.Resolve); err == nil {
			a.Answer = &pb.QueryResponse_Resolve{Resolve: &pb.ResolveAnswer{Chain: chain}}
		}
	case *pb.QueryRequest_Chain:
		var chain *pb.MemberChain
		if chain, err = n.chainFor(ctx, from, q.Chain); err == nil {
			a.Answer = &pb.QueryResponse_Chain{Chain: &pb.ChainAnswer{Chain: chain}}
		}
	case *pb.QueryRequest_Claim:
		var claimed *pb.ClaimAnswer
		if claimed, err = n.claimLocal(ctx, from, q.Claim); err == nil {
			a.Answer = &pb.QueryResponse_Claim{Claim: claimed}
		}
	case *pb.QueryRequest_Tree:
		var tree []byte
		if tree, err = n.treeFor(from, q.Tree); err == nil {
			a.Answer = &pb.QueryResponse_Tree{Tree: &pb.TreeAnswer{Tree: tree}}
		}
	case *pb.QueryRequest_GroupInfo:
		var info *pb.GroupInfoAnswer
		if info, err = n.groupInfoFor(from, q.GroupInfo); err == nil {
			a.Answer = &pb.QueryResponse_GroupInfo{GroupInfo: info}
		}
	case *pb.QueryRequest_RoomLog:
		var log *pb.RoomLogAnswer
		if log, err = n.roomLogFor(ctx, from, q.RoomLog); err == nil {
			a.Answer = &pb.QueryResponse_RoomLog{RoomLog: log}
		}
	case *pb.QueryRequest_Blob:
		var chunk *pb.BlobAnswer
		if chunk, err = n.chunkFor(ctx, from, q.Blob); err == nil {
			a.Answer = &pb.QueryResponse_Blob{Blob: chunk}
		}
	case *pb.QueryRequest_Head:
		var head *pb.HeadAnswer
		if head, err = n.headFor(from, q.Head); err == nil {
			a.Answer = &pb.QueryResponse_Head{Head: head}
		}
	case *pb.QueryRequest_Leaves:
		var leaves *pb.LeavesAnswer
		if leaves, err = n.leavesFor(from, q.Leaves); err == nil {
			a.Answer = &pb.QueryResponse_Leaves{Leaves: leaves}
		}
	case *pb.QueryRequest_Cosigned:
		if err = n.takeCosigned(ctx, from, q.Cosigned); err == nil {
			a.Answer = &pb.QueryResponse_Cosigned{Cosigned: &pb.CosignedAnswer{}}
		}
	case *pb.QueryRequest_Revocations:
		var kept *pb.RevocationsAnswer
		if kept, err = n.revocationsFor(from, q.Revocations); err == nil {
			a.Answer = &pb.QueryResponse_Revocations{Revocations: kept}
		}
	case *pb.QueryRequest_Places:
		var places *pb.PlacesAnswer
		if places, err = n.placesFor(from, q.Places); err == nil {
			a.Answer = &pb.QueryResponse_Places{Places: places}
		}
	case *pb.QueryRequest_BlockList:
		a.Answer = &pb.QueryResponse_BlockList{BlockList: n.blockListFor(q.BlockList)}
	default:
		err = wire.Refuse(pb.Code_CODE_UNSUPPORTED, "a question that this node does not know")
	}
	a.Status = wire.StatusOf(err)
	return a
}

// chainFor hands a partner the certificates of a member of ours, or of another partner's.
func (n *Node) chainFor(ctx context.Context, from wire.OrganizationID, q *pb.ChainQuery) (*pb.MemberChain, error) {
	if org, err := wire.Bytes32(q.Organization); err == nil && org != n.org.ID {
		return n.chainOfAnother(ctx, from, org, q.Member)
	}
	return n.resolveLocal(&pb.ResolveQuery{Member: q.Member})
}

// resolveFor answers a partner's look-up, as far as the agreement goes.
func (n *Node) resolveFor(from wire.OrganizationID, q *pb.ResolveQuery) (*pb.MemberChain, error) {
	if err := n.refuseBlocked(memberKey{org: from}); err != nil {
		return nil, err
	}
	if q.Name != "" {
		a, err := n.mayLookUp(from)
		if err != nil {
			return nil, err
		}
		m, err := n.dir.Lookup(q.Name)
		if err == nil && a.Terms.Directory == "groups" && !n.groups.found(m.ID, from) {
			err = wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "")
		}
		if err != nil {
			return nil, err
		}
	}
	return n.resolveLocal(q)
}

// resolveLocal finds a member of ours by name or ID.
func (n *Node) resolveLocal(q *pb.ResolveQuery) (*pb.MemberChain, error) {
	if q.Name != "" {
		m, err := n.dir.Lookup(q.Name)
		if err != nil {
			return nil, err
		}
		return n.provedChain(m.ID)
	}
	id, err := wire.Bytes32(q.Member)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a question without a member")
	}
	return n.provedChain(id)
}

// claimLocal hands out one KeyPackage of each device of a member of ours.
func (n *Node) claimLocal(ctx context.Context, from wire.OrganizationID, q *pb.ClaimQuery) (*pb.ClaimAnswer, error) {
	if err := n.signs(); err != nil { // what was handed out before the loss looks unused
		return nil, err
	}
	id, err := wire.Bytes32(q.Member)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a claim without a member")
	}
	suite := uint16(directory.FirstSuite)
	if len(q.Suites) > 0 { // in the order of preference; of the first one alone
		if q.Suites[0] > math.MaxUint16 {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a suite of more than 16 bits")
		}
		suite = uint16(q.Suites[0])
	}
	if len(q.ProtoReflect().GetUnknown()) > 0 { // who asks first says who it is and nothing else
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a claim with more than a claim has")
	}
	requester, err := wire.Bytes32(q.Requester)
	if err != nil || requester == [32]byte{} {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a claim without a requester")
	}
	if from != n.org.ID && !n.groups.may(id, from) {
		return nil, wire.Refuse(pb.Code_CODE_NO_CONSENT, "")
	}
	if err := n.refuseBlocked(memberKey{from, requester}); err != nil {
		return nil, err
	}
	if m, err := n.dir.Get(id); err == nil && m.Disabled { // its record says so to whoever looks it up
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s is disabled", m.Address())
	}
	if err := n.consent(ctx, id, memberKey{from, requester}); err != nil {
		return nil, err
	}
	packages, err := n.dir.Claim(ctx, from, q.Requester, id, suite)
	if err != nil {
		return nil, err
	}
	chain, err := n.provedChain(id)
	return &pb.ClaimAnswer{Packages: packages, Chain: chain}, err
}

// visible returns a room that is ordered here, when the organization has a leaf in
// it; to everybody else it does not exist.
func (n *Node) visible(from wire.OrganizationID, room []byte) (*draft, func(), error) {
	c, d, err := n.asked(room)
	if err != nil {
		return nil, nil, err
	}
	if d.group != nil {
		for _, m := range members(d.group) {
			if m.Organization == from {
				return d, c.abandon, nil
			}
		}
	}
	c.abandon()
	return nil, nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
}

// asked opens a room that a partner asks about; the caller gives the change up.
func (n *Node) asked(room []byte) (*change, *draft, error) {
	id, err := wire.Bytes32(room)
	if err != nil {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a room ID of %d bytes", len(room))
	}
	c, err := n.begin(id)
	if err != nil {
		return nil, nil, err
	}
	return c, c.room(id), nil
}

// inRoom refuses a device of ours the metadata of a room that it has no leaf in:
// to it the room does not exist.
func (n *Node) inRoom(device wire.DeviceID, id wire.RoomID) error {
	c, err := n.begin(id)
	if err != nil {
		return err
	}
	defer c.abandon()
	d := c.room(id)
	if d.group == nil {
		if d.holds(device) {
			return nil
		}
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
	}
	for _, m := range members(d.group) {
		if m.Organization == n.org.ID && m.Device == device {
			return nil
		}
	}
	return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
}

func (n *Node) treeFor(from wire.OrganizationID, q *pb.TreeQuery) ([]byte, error) {
	_, done, err := n.visible(from, q.Room)
	if err != nil {
		return nil, err
	}
	done()
	return n.storedTree(q.Room, q.Hash)
}

// storedTree reads a tree by its hash.
func (n *Node) storedTree(room, hash []byte) ([]byte, error) {
	h, err := wire.Bytes32(hash)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a tree's hash of %d bytes", len(hash))
	}
	row, err := n.store.Get(treeKey(wire.RoomID(room), h))
	if errors.Is(err, store.ErrNotFound) {
		return nil, wire.Refuse(pb.Code_CODE_NOT_FOUND, "that tree is not kept: resync by GroupInfo")
	}
	if err != nil {
		return nil, err
	}
	_, tree, ok := parseTreeRow(row)
	if !ok || treeHash(tree) != h {
		return nil, wire.Refuse(pb.Code_CODE_INTERNAL, "the stored tree is damaged")
	}
	return tree, nil
}

func (n *Node) groupInfoFor(from wire.OrganizationID, q *pb.GroupInfoQuery) (*pb.GroupInfoAnswer, error) {
	d, done, err := n.visible(from, q.Room)
	if err != nil {
		return nil, err
	}
	defer done()
	if len(q.Commit) > 0 {
		commit, err := wire.Bytes32(q.Commit)
		if err != nil {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a Commit's hash of %d bytes", len(q.Commit))
		}
		made, _, err := n.baseOf(d, commit)
		if err != nil {
			return nil, err
		}
		return &pb.GroupInfoAnswer{GroupInfo: made.Info, Epoch: made.Step.Epoch + 1, Generation: d.row.Generation}, nil
	}
	info, err := n.store.Get(roomKey(infoPrefix, d.id))
	if err != nil {
		return nil, err
	}
	cases, err := n.cases(d)
	return &pb.GroupInfoAnswer{GroupInfo: info, Tree: d.group.Tree(), Epoch: d.group.Epoch(), Seq: d.place.seq,
		Generation: d.row.Generation, Cases: cases}, err
}

// roomLogPage bounds the handshakes of one answer.
const roomLogPage = 256

// followed returns a room that an organization orders and that is followed here; to everybody
// else it does not exist.
func (n *Node) followed(hub wire.OrganizationID, room []byte) (*draft, func(), error) {
	c, d, err := n.asked(room)
	if err != nil {
		return nil, nil, err
	}
	if d.known && d.row.Hub == hub && hub != n.org.ID {
		return d, c.abandon, nil
	}
	c.abandon()
	return nil, nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
}

func (n *Node) roomLogFor(ctx context.Context, from wire.OrganizationID, q *pb.RoomLogQuery) (*pb.RoomLogAnswer, error) {
	see := n.visible
	if q.Own {
		see = n.followed
	}
	d, done, err := see(from, q.Room)
	if err != nil {
		return nil, err
	}
	defer done()
	limit := roomLogPage
	if q.Limit > 0 {
		limit = min(limit, int(q.Limit))
	}
	handshakes, more, err := n.mail.RoomLog(ctx, d.id, q.Generation, q.FromEpoch, limit)
	return &pb.RoomLogAnswer{Handshakes: handshakes, More: more}, err
}

// ask sends a question to a partner and returns its answer when it is a success.
func (n *Node) ask(ctx context.Context, to wire.OrganizationID, q *pb.QueryRequest) (*pb.QueryResponse, error) {
	if err := n.believes(to, q); err != nil {
		return nil, err
	}
	a, err := n.fed.Query(ctx, to, q)
	if err != nil {
		return nil, err
	}
	n.asKnown(to, a)
	return a, wire.Err(a.Status)
}

// recall asks a partner for what it holds of us.
func (n *Node) recall(ctx context.Context, from wire.OrganizationID, q *pb.QueryRequest) (*pb.QueryResponse, error) {
	a, err := n.fed.Recall(ctx, from, q)
	if err != nil {
		return nil, err
	}
	return a, wire.Err(a.Status)
}

// prefetchTree gets the tree that a Welcome points to, once for all our devices.
func (n *Node) prefetchTree(ctx context.Context, hub wire.OrganizationID, room wire.RoomID, hash [32]byte) {
	if _, err := n.treeFrom(ctx, hub, room, hash); err != nil {
		n.log.Warn("a room's tree was not fetched; devices will ask again", "partner", hub, "room", room, "error", err)
	}
}

// treeFrom returns a tree from the store, or from the room's hub and then stores it.
func (n *Node) treeFrom(ctx context.Context, hub wire.OrganizationID, room wire.RoomID, hash [32]byte) ([]byte, error) {
	tree, err := n.storedTree(room[:], hash[:])
	if err == nil || hub == n.org.ID {
		return tree, err
	}
	a, err := n.ask(ctx, hub, &pb.QueryRequest{Query: &pb.QueryRequest_Tree{Tree: &pb.TreeQuery{Room: room[:], Hash: hash[:]}}})
	if err != nil {
		return nil, err
	}
	tree = a.GetTree().GetTree()
	if len(tree) > wire.MaxTree || treeHash(tree) != hash {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "the hub sent another tree than it was asked for")
	}
	c, err := n.begin()
	if err != nil {
		return nil, err
	}
	c.putTree(room, tree)
	return tree, c.commit(ctx)
}
