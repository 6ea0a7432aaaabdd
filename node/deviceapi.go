package node

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// deviceAPI answers the calls of devices of ours (docs/protocol.md 7). The gate
// has signed the device in and consulted the directory before any of them.
type deviceAPI struct{ n *Node }

// caller returns the device that makes the call.
func caller(ctx context.Context) (wire.DeviceID, error) {
	c, ok := gate.CallerOf(ctx)
	if !ok {
		return c.Device, wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, "")
	}
	return c.Device, nil
}

// answer wraps a result for Connect; an error travels as its status.
func answer[T any](v *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, session.ConnectError(storeRefuses(err))
	}
	return connect.NewResponse(v), nil
}

func (a deviceAPI) OpenSession(ctx context.Context, r *connect.Request[pb.OpenSessionRequest]) (*connect.Response[pb.OpenSessionResponse], error) {
	c, ok := gate.CallerOf(ctx)
	if !ok {
		return answer[pb.OpenSessionResponse](nil, wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, ""))
	}
	return answer(a.n.gate.OpenSession(c, r.Msg.Origin))
}

// Resolve finds a member by address, here or at a partner.
func (a deviceAPI) Resolve(ctx context.Context, r *connect.Request[pb.ResolveRequest]) (*connect.Response[pb.ResolveResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.ResolveResponse](nil, err)
	}
	return answer(a.n.resolve(ctx, device, r.Msg.Address))
}

func (n *Node) resolve(ctx context.Context, device wire.DeviceID, text string) (*pb.ResolveResponse, error) {
	address, err := wire.ParseAddress(text)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "%v", errors.Unwrap(err))
	}
	if n.org.Answers(address.Organization, n.clock.Now()) {
		chain, err := n.resolveLocal(&pb.ResolveQuery{Name: address.Name})
		return &pb.ResolveResponse{Organization: n.org.ID[:], Chain: chain}, err
	}
	partner, err := n.fed.Partner(address.Organization)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "%s has no agreement with %s", n.org.Manifest.Name, address.Organization)
	}
	if _, err := n.mayLookUp(partner.ID); err != nil {
		return nil, err
	}
	if err := n.mayDeal(n.memberOf(device), partner.ID); err != nil {
		return nil, err
	}
	q := &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: address.Name}}}
	got, err := n.ask(ctx, partner.ID, q)
	if err != nil {
		return nil, err
	}
	return &pb.ResolveResponse{Organization: bytes.Clone(partner.ID[:]), Chain: got.GetResolve().GetChain()}, nil
}

// Chain returns a member's certificates, so that a device can check a leaf.
func (a deviceAPI) Chain(ctx context.Context, r *connect.Request[pb.ChainRequest]) (*connect.Response[pb.ChainResponse], error) {
	org, err := wire.Bytes32(r.Msg.Organization)
	if err != nil {
		return answer[pb.ChainResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(r.Msg.Organization)))
	}
	chain, err := a.n.chain(ctx, org, r.Msg.Member)
	return answer(&pb.ChainResponse{Chain: chain}, err)
}

// GetOrganization returns the manifests of an organization that this node knows, from genesis
// on. They prove themselves from the organization's ID.
func (a deviceAPI) GetOrganization(_ context.Context, r *connect.Request[pb.GetOrganizationRequest]) (*connect.Response[pb.GetOrganizationResponse], error) {
	id, err := wire.Bytes32(r.Msg.Organization)
	if err != nil {
		return answer[pb.GetOrganizationResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(r.Msg.Organization)))
	}
	if id == a.n.org.ID {
		return answer(&pb.GetOrganizationResponse{Manifests: a.n.org.Notes}, nil)
	}
	o, ok := a.n.partner(id)
	if !ok {
		if o, err = a.n.metBefore(id); err != nil {
			return answer[pb.GetOrganizationResponse](nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, ""))
		}
	}
	return answer(&pb.GetOrganizationResponse{Manifests: o.Notes}, nil)
}

func (n *Node) chain(ctx context.Context, org wire.OrganizationID, member []byte) (*pb.MemberChain, error) {
	if org == n.org.ID {
		return n.resolveLocal(&pb.ResolveQuery{Member: member})
	}
	if _, partner := n.partner(org); !partner {
		return n.chainThrough(ctx, org, member)
	}
	got, err := n.ask(ctx, org, &pb.QueryRequest{Query: &pb.QueryRequest_Chain{Chain: &pb.ChainQuery{Member: member}}})
	return got.GetChain().GetChain(), err
}

// PublishKeyPackages takes KeyPackages that stand: checked here with the public
// half of MLS, opaque to the directory.
func (a deviceAPI) PublishKeyPackages(ctx context.Context, r *connect.Request[pb.PublishKeyPackagesRequest]) (*connect.Response[pb.PublishKeyPackagesResponse], error) {
	stock, err := a.n.publish(ctx, r.Msg)
	return answer(&pb.PublishKeyPackagesResponse{Stock: uint32(stock)}, err)
}

func (n *Node) publish(ctx context.Context, m *pb.PublishKeyPackagesRequest) (int, error) {
	device, err := caller(ctx)
	if err != nil {
		return 0, err
	}
	lasts := m.LastResorts
	if len(m.LastResort) > 0 {
		lasts = append(lasts[:len(lasts):len(lasts)], m.LastResort)
	}
	offers := make(map[uint16]*directory.Offer)
	for i, list := range [][][]byte{m.KeyPackages, lasts} {
		for _, raw := range list {
			suite, err := n.checkKeyPackage(device, raw, i == 1)
			if err != nil {
				return 0, err
			}
			o := offers[suite]
			if o == nil {
				o = &directory.Offer{Suite: suite}
				offers[suite] = o
			}
			switch {
			case i == 0:
				o.OneTime = append(o.OneTime, raw)
			case o.LastResort == nil:
				o.LastResort = raw
			default:
				return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "two last-resort KeyPackages of one suite")
			}
		}
	}
	var list []directory.Offer
	for _, suite := range slices.Sorted(maps.Keys(offers)) {
		list = append(list, *offers[suite])
	}
	stock, err := n.dir.Publish(ctx, device, list, m.Replace)
	return stock[directory.FirstSuite], err
}

// checkKeyPackage returns the suite of a device's KeyPackage that stands.
func (n *Node) checkKeyPackage(device wire.DeviceID, raw []byte, lastResort bool) (uint16, error) {
	if len(raw) > wire.KeyPackageMax {
		return 0, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a KeyPackage of %d bytes", len(raw))
	}
	kp, err := mls.ParseKeyPackage(raw)
	if err != nil {
		return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "a KeyPackage that does not parse")
	}
	err = kp.Verify(n.clock.Now(), n.validator)
	if errors.Is(err, mls.ErrLifetime) {
		return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "a KeyPackage outside its lifetime: is the device's clock right?")
	}
	if err != nil {
		return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "a KeyPackage that does not stand: %v", err)
	}
	c, err := wire.ParseCredential(kp.Leaf.Credential.Identity)
	if err != nil || c.Device != device {
		return 0, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a KeyPackage of another device")
	}
	if kp.LastResort() != lastResort {
		return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "a last-resort KeyPackage in the wrong place")
	}
	return uint16(kp.Suite), nil
}

// ClaimKeyPackages gets one KeyPackage of each device of a member, for a room that
// this node orders.
func (a deviceAPI) ClaimKeyPackages(ctx context.Context, r *connect.Request[pb.ClaimKeyPackagesRequest]) (*connect.Response[pb.ClaimKeyPackagesResponse], error) {
	return answer(a.n.claim(ctx, r.Msg))
}

func (n *Node) claim(ctx context.Context, m *pb.ClaimKeyPackagesRequest) (*pb.ClaimKeyPackagesResponse, error) {
	device, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	requester := n.memberOf(device)
	org, err := wire.Bytes32(m.Organization)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(m.Organization))
	}
	q := &pb.ClaimQuery{Member: m.Member, Room: m.Room, Suites: m.Suites, Requester: requester[:]}
	if org == n.org.ID {
		got, err := n.claimLocal(ctx, n.org.ID, q)
		return &pb.ClaimKeyPackagesResponse{Packages: got.GetPackages(), Chain: got.GetChain()}, err
	}
	member, err := wire.Bytes32(m.Member)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a member ID of %d bytes", len(m.Member))
	}
	if err := n.mayDeal(requester, org); err != nil {
		return nil, err
	}
	if err := n.reachesBlocked(memberKey{org, member}); err != nil {
		return nil, err
	}
	if err := n.writesFirst(ctx, requester, memberKey{org, member}); err != nil {
		return nil, err
	}
	a, err := n.ask(ctx, org, &pb.QueryRequest{Query: &pb.QueryRequest_Claim{Claim: q}})
	if err != nil {
		return nil, err
	}
	got := a.GetClaim()
	if err := n.chains.remember(org, got.GetChain(), n.clock.Now()); err != nil {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the partner's certificates for that member do not stand")
	}
	return &pb.ClaimKeyPackagesResponse{Packages: got.GetPackages(), Chain: got.GetChain()}, nil
}

// ListContacts lists whom the member has accepted or blocked and who asks.
func (a deviceAPI) ListContacts(ctx context.Context, _ *connect.Request[pb.ListContactsRequest]) (*connect.Response[pb.ListContactsResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.ListContactsResponse](nil, err)
	}
	list, err := a.n.listContacts(a.n.memberOf(device))
	return answer(&pb.ListContactsResponse{Contacts: append(list, a.n.blockedFor()...)}, err)
}

// SetContact writes the member's decision about another or an organization.
func (a deviceAPI) SetContact(ctx context.Context, r *connect.Request[pb.SetContactRequest]) (*connect.Response[pb.SetContactResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.SetContactResponse](nil, err)
	}
	return answer(&pb.SetContactResponse{}, a.n.setContact(ctx, a.n.memberOf(device), r.Msg))
}

func (a deviceAPI) CreateRoom(ctx context.Context, r *connect.Request[pb.CreateRoomRequest]) (*connect.Response[pb.CreateRoomResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.CreateRoomResponse](nil, err)
	}
	return answer(&pb.CreateRoomResponse{Status: a.n.createRoom(ctx, device, r.Msg)}, nil)
}

func (a deviceAPI) SubmitCommit(ctx context.Context, r *connect.Request[pb.SubmitCommitRequest]) (*connect.Response[pb.SubmitCommitResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.SubmitCommitResponse](nil, err)
	}
	return answer(&pb.SubmitCommitResponse{Status: a.n.submitCommit(ctx, device, r.Msg)}, nil)
}

// Complain takes a device's word that it cannot apply a Commit.
func (a deviceAPI) Complain(ctx context.Context, r *connect.Request[pb.ComplainRequest]) (*connect.Response[pb.ComplainResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.ComplainResponse](nil, err)
	}
	return answer(&pb.ComplainResponse{Status: a.n.complain(ctx, device, r.Msg)}, nil)
}

// PublishGroupInfo takes a GroupInfo that a member publishes while others complain.
func (a deviceAPI) PublishGroupInfo(ctx context.Context, r *connect.Request[pb.PublishGroupInfoRequest]) (*connect.Response[pb.PublishGroupInfoResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.PublishGroupInfoResponse](nil, err)
	}
	return answer(&pb.PublishGroupInfoResponse{Status: a.n.publishGroupInfo(ctx, device, r.Msg)}, nil)
}

func (a deviceAPI) GetTree(ctx context.Context, r *connect.Request[pb.GetTreeRequest]) (*connect.Response[pb.GetTreeResponse], error) {
	hub, room, err := a.roomOf(ctx, r.Msg.Hub, r.Msg.Room)
	if err != nil {
		return answer[pb.GetTreeResponse](nil, err)
	}
	hash, err := wire.Bytes32(r.Msg.Hash)
	if err != nil {
		return answer[pb.GetTreeResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a hash of %d bytes", len(r.Msg.Hash)))
	}
	tree, err := a.n.treeFrom(ctx, hub, room, hash)
	return answer(&pb.GetTreeResponse{Tree: tree}, err)
}

func (a deviceAPI) GetGroupInfo(ctx context.Context, r *connect.Request[pb.GetGroupInfoRequest]) (*connect.Response[pb.GetGroupInfoResponse], error) {
	hub, room, err := a.roomOf(ctx, r.Msg.Hub, r.Msg.Room)
	if err != nil {
		return answer[pb.GetGroupInfoResponse](nil, err)
	}
	q := &pb.GroupInfoQuery{Room: room[:], Commit: r.Msg.Commit}
	if hub == a.n.org.ID {
		info, err := a.n.groupInfoFor(a.n.org.ID, q)
		return answer(&pb.GetGroupInfoResponse{Answer: info}, err)
	}
	got, err := a.n.ask(ctx, hub, &pb.QueryRequest{Query: &pb.QueryRequest_GroupInfo{GroupInfo: q}})
	return answer(&pb.GetGroupInfoResponse{Answer: got.GetGroupInfo()}, err)
}

func (a deviceAPI) GetRoomLog(ctx context.Context, r *connect.Request[pb.GetRoomLogRequest]) (*connect.Response[pb.GetRoomLogResponse], error) {
	hub, room, err := a.roomOf(ctx, r.Msg.Hub, r.Msg.Room)
	if err != nil {
		return answer[pb.GetRoomLogResponse](nil, err)
	}
	q := &pb.RoomLogQuery{Room: room[:], FromEpoch: r.Msg.FromEpoch, Generation: r.Msg.Generation}
	var log *pb.RoomLogAnswer
	if hub == a.n.org.ID {
		log, err = a.n.roomLogFor(ctx, a.n.org.ID, q)
	} else {
		var got *pb.QueryResponse
		got, err = a.n.ask(ctx, hub, &pb.QueryRequest{Query: &pb.QueryRequest_RoomLog{RoomLog: q}})
		log = got.GetRoomLog()
	}
	return answer(&pb.GetRoomLogResponse{Handshakes: log.GetHandshakes(), More: log.GetMore()}, err)
}

// RevokeDevice takes a revocation that the member key has signed: possession of
// the bearer token alone is not enough.
func (a deviceAPI) RevokeDevice(ctx context.Context, r *connect.Request[pb.RevokeDeviceRequest]) (*connect.Response[pb.RevokeDeviceResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.RevokeDeviceResponse](nil, err)
	}
	member, err := a.n.dir.Get(a.n.memberOf(device))
	if err != nil {
		return answer[pb.RevokeDeviceResponse](nil, err)
	}
	revocation, err := identity.VerifyRevocation(r.Msg.Revocation, a.n.org, member)
	if err != nil || revocation.Member != member.ID {
		return answer[pb.RevokeDeviceResponse](nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a revocation that the member's key has not signed"))
	}
	_, err = a.n.revoke(context.WithoutCancel(ctx), r.Msg.Revocation, revocation)
	return answer(&pb.RevokeDeviceResponse{}, err)
}

func (a deviceAPI) Account(ctx context.Context, _ *connect.Request[pb.AccountRequest]) (*connect.Response[pb.AccountResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.AccountResponse](nil, err)
	}
	visits, err := a.n.visits(a.n.memberOf(device))
	if err != nil {
		return answer[pb.AccountResponse](nil, err)
	}
	chain, err := a.n.provedChain(a.n.memberOf(device))
	u := a.n.mail.Usage(device)
	var stock []*pb.KeyPackageStock
	for _, suite := range mls.Suites() {
		stock = append(stock, &pb.KeyPackageStock{Suite: uint32(suite), Count: uint32(a.n.dir.KeyPackages(device, uint16(suite)))})
	}
	return answer(&pb.AccountResponse{Chain: chain, NodeCertificate: a.n.certificate, KeyPackages: uint32(a.n.dir.KeyPackages(device, directory.FirstSuite)), Stock: stock, Visits: visits,
		MailboxCount: uint64(u.Messages + u.Control + u.Handshakes), MailboxBytes: uint64(u.Held)}, err)
}

// roomOf is the room that a calling device asks about, which it must be in.
func (a deviceAPI) roomOf(ctx context.Context, hub, room []byte) (h wire.OrganizationID, r wire.RoomID, err error) {
	device, err := caller(ctx)
	if err != nil {
		return h, r, err
	}
	if h, r, err = hubAndRoom(hub, room); err != nil {
		return h, r, err
	}
	return h, r, a.n.inRoom(device, r)
}

// Submit, Fetch and Ack stand for the session where no WebSocket passes; they are the
// gate's, with the same Backend behind them.
func (a deviceAPI) Submit(ctx context.Context, r *connect.Request[pb.SubmitRequest]) (*connect.Response[pb.SubmitResponse], error) {
	c, _ := gate.CallerOf(ctx)
	return answer(a.n.gate.Submit(ctx, c, r.Msg))
}

func (a deviceAPI) Fetch(ctx context.Context, r *connect.Request[pb.FetchRequest]) (*connect.Response[pb.FetchResponse], error) {
	c, _ := gate.CallerOf(ctx)
	return answer(a.n.gate.Fetch(ctx, c, r.Msg))
}

func (a deviceAPI) Ack(ctx context.Context, r *connect.Request[pb.AckRequest]) (*connect.Response[pb.AckResponse], error) {
	c, _ := gate.CallerOf(ctx)
	return answer(a.n.gate.Ack(ctx, c, r.Msg))
}

func hubAndRoom(hub, room []byte) (h wire.OrganizationID, r wire.RoomID, err error) {
	if h, err = wire.Bytes32(hub); err == nil {
		r, err = wire.Bytes32(room)
	}
	if err != nil {
		err = wire.Refuse(pb.Code_CODE_MALFORMED, "a hub or room ID that is not 32 bytes")
	}
	return h, r, err
}
