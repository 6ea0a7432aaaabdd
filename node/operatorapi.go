package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// operatorAPI answers operators' commands (docs/protocol.md 8).
type operatorAPI struct{ n *Node }

func (a operatorAPI) AddMember(ctx context.Context, r *connect.Request[pb.AddMemberRequest]) (*connect.Response[pb.AddMemberResponse], error) {
	return answer(a.n.addMember(ctx, r.Msg))
}

func (n *Node) addMember(ctx context.Context, m *pb.AddMemberRequest) (*pb.AddMemberResponse, error) {
	if err := n.signs(); err != nil {
		return nil, err
	}
	name, organization, whole := strings.Cut(m.Name, "@") // as `member list` shows it
	if whole && organization != n.org.Manifest.Name {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "members of %s are added here: name one without the @, such as alice", n.org.Manifest.Name)
	}
	if err := wire.CheckMemberName(name); err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "member names are 1 to 64 of a-z 0-9 . - _, beginning and ending with a letter or digit")
	}
	ttl, err := linkTime(m.ValidSeconds)
	if err != nil {
		return nil, err
	}
	l, err := n.dir.CreateLink(ctx, name, ttl)
	if err != nil {
		return nil, err
	}
	return n.linkFor(l), nil
}

// linkTime is how long a link is good for.
func linkTime(seconds int64) (time.Duration, error) {
	if seconds == 0 {
		return wire.LinkLifetime, nil
	}
	if seconds < 0 || seconds > int64(wire.LinkLifetime/time.Second) {
		return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "a link is good for at most 72 hours")
	}
	return time.Duration(seconds) * time.Second, nil
}

// linkFor is what an operator is given of a new link.
func (n *Node) linkFor(l directory.CreatedLink) *pb.AddMemberResponse {
	link := identity.Link{Host: n.apiHost, Name: l.Name, Organization: n.org.Manifest.Name, Pin: n.peer, Web: n.config.Proxied, Secret: l.Secret}
	return &pb.AddMemberResponse{
		Link: link.String(), LinkId: fmt.Sprintf("%x", l.ID), ExpiresUnix: l.Expires.Unix(),
		Address: wire.Address{Name: l.Name, Organization: n.org.Manifest.Name}.String(),
	}
}

func (a operatorAPI) ListMembers(context.Context, *connect.Request[pb.ListMembersRequest]) (*connect.Response[pb.ListMembersResponse], error) {
	out := &pb.ListMembersResponse{}
	for _, m := range a.n.dir.Members() {
		out.Members = append(out.Members, a.n.memberStatus(m))
	}
	return answer(out, nil)
}

func (n *Node) memberStatus(m *identity.Member) *pb.MemberStatus {
	state := "active"
	if m.Disabled {
		state = "disabled"
	}
	return &pb.MemberStatus{Address: m.Address().String(), MemberId: m.ID.String(), Version: m.Version,
		Devices: uint32(len(m.Devices)), Disabled: m.Disabled, State: state, Why: n.dir.WhyDisabled(m)}
}

func (a operatorAPI) ListDevices(_ context.Context, r *connect.Request[pb.ListDevicesRequest]) (*connect.Response[pb.ListDevicesResponse], error) {
	out := &pb.ListDevicesResponse{}
	members := a.n.dir.Members()
	if r.Msg.Name != "" {
		m, err := a.n.named(r.Msg.Name)
		if err != nil {
			return answer[pb.ListDevicesResponse](nil, err)
		}
		members = []*identity.Member{m}
	}
	for _, m := range members {
		for id, d := range m.Devices {
			last, err := a.n.lastSeen(id, d.Issued)
			if err != nil {
				return answer[pb.ListDevicesResponse](nil, err)
			}
			out.Devices = append(out.Devices, &pb.DeviceStatus{SeenUnix: last.Unix(), Idle: a.n.idle(last),
				Address: m.Address().String(), DeviceId: id.String(),
				IssuedUnix: d.Issued.Unix(), ExpiresUnix: d.Expires.Unix(), Online: a.n.gate.Online(id),
				KeyPackages: uint32(a.n.dir.KeyPackages(id, directory.FirstSuite))})
		}
		for _, id := range m.Revoked {
			out.Devices = append(out.Devices, &pb.DeviceStatus{Address: m.Address().String(), DeviceId: id.String(), Revoked: true})
		}
	}
	return answer(out, nil)
}

// DisableDevice revokes a device for the organization: the directory key signs.
func (a operatorAPI) DisableDevice(ctx context.Context, r *connect.Request[pb.DisableDeviceRequest]) (*connect.Response[pb.DisableDeviceResponse], error) {
	id, err := wire.ParseDeviceID(r.Msg.DeviceId)
	if err != nil {
		return answer[pb.DisableDeviceResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "that is no device ID: see entente member devices"))
	}
	note, err := a.n.dir.SignRevocation(id)
	if err != nil {
		return answer[pb.DisableDeviceResponse](nil, err)
	}
	rooms, err := a.n.revoke(context.WithoutCancel(ctx), note, &identity.Revocation{Organization: a.n.org.ID, Member: a.n.memberOf(id), Device: id})
	return answer(&pb.DisableDeviceResponse{Rooms: uint32(rooms)}, err)
}

func (a operatorAPI) ListLinks(context.Context, *connect.Request[pb.ListLinksRequest]) (*connect.Response[pb.ListLinksResponse], error) {
	links, err := a.n.dir.Links()
	out := &pb.ListLinksResponse{}
	for _, l := range links {
		out.Links = append(out.Links, &pb.LinkStatus{LinkId: fmt.Sprintf("%x", l.ID), ExpiresUnix: l.Expires.Unix(), State: l.State,
			Address: wire.Address{Name: l.Name, Organization: a.n.org.Manifest.Name}.String()})
	}
	return answer(out, err)
}

func (a operatorAPI) RevokeLink(ctx context.Context, r *connect.Request[pb.RevokeLinkRequest]) (*connect.Response[pb.RevokeLinkResponse], error) {
	raw, err := hex.DecodeString(r.Msg.LinkId)
	if err != nil || len(raw) != 16 {
		return answer[pb.RevokeLinkResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a link's ID is 32 hex digits: see entente member links"))
	}
	return answer(&pb.RevokeLinkResponse{}, a.n.dir.RevokeLink(ctx, [16]byte(raw)))
}

func (a operatorAPI) InvitePartner(ctx context.Context, r *connect.Request[pb.InvitePartnerRequest]) (*connect.Response[pb.InvitePartnerResponse], error) {
	return answer(a.n.invitePartner(ctx, r.Msg))
}

func (n *Node) invitePartner(ctx context.Context, m *pb.InvitePartnerRequest) (*pb.InvitePartnerResponse, error) {
	if err := wire.CheckOrganizationName(m.Name); err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "%q is no organization's name, such as globex.example", m.Name)
	}
	if m.Name == n.org.Manifest.Name {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization needs no agreement with itself")
	}
	if err := n.mayInvite(m.Name, m.AcceptSimilarName); err != nil {
		return nil, err
	}
	if m.ValidSeconds < 0 || m.AgreementSeconds < 0 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a token and an agreement last a second or more")
	}
	ttl, term := orDefault(m.ValidSeconds, wire.LinkLifetime), orDefault(m.AgreementSeconds, wire.AgreementLifetime)
	now := n.clock.Now()
	terms := identity.DefaultTerms(now, now.Add(term))
	if m.Contact != "" {
		terms.Contact = identity.Contact(m.Contact)
	}
	terms, err := changedTerms(terms, m.Terms, now)
	if err != nil {
		return nil, err
	}
	token, err := n.fed.Invite(ctx, m.Name, terms, ttl)
	out := &pb.InvitePartnerResponse{Token: token, ExpiresUnix: now.Add(ttl).Unix()}
	if p, e := n.fed.Partner(m.Name); e == nil && p.State != "ended" {
		out.InForce = p.State
	}
	return out, err
}

func orDefault(seconds int64, d time.Duration) time.Duration {
	if seconds == 0 {
		return d
	}
	return time.Duration(seconds) * time.Second
}

func (a operatorAPI) AcceptPartner(ctx context.Context, r *connect.Request[pb.AcceptPartnerRequest]) (*connect.Response[pb.AcceptPartnerResponse], error) {
	return answer(a.n.acceptPartner(ctx, r.Msg))
}

func (n *Node) acceptPartner(ctx context.Context, m *pb.AcceptPartnerRequest) (*pb.AcceptPartnerResponse, error) {
	token, err := n.fed.Preview(m.Token)
	if err != nil {
		return nil, err
	}
	check, err := n.mayAccept(ctx, token.Name, token.Organization, m.AcceptSimilarName, m.AcceptUnprovedName)
	if m.DryRun {
		return &pb.AcceptPartnerResponse{Partner: token.Name, OrganizationId: token.Organization.String(),
			Terms: "agreement with " + token.Name + " (" + token.Organization.String() + ")\n" + token.Terms.Text(), Check: check}, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := n.fed.Accept(ctx, m.Token)
	if err != nil {
		return nil, err
	}
	return &pb.AcceptPartnerResponse{Partner: p.Name, OrganizationId: p.ID.String(), Agreement: fmt.Sprintf("%x", p.Agreement), Check: check}, nil
}

func (a operatorAPI) Status(context.Context, *connect.Request[pb.NodeStatusRequest]) (*connect.Response[pb.NodeStatus], error) {
	return answer(a.n.status(), nil)
}

func (n *Node) status() *pb.NodeStatus {
	s := n.store.Status()
	out := &pb.NodeStatus{
		Organization: n.org.Manifest.Name, OrganizationId: n.org.ID.String(), PeerId: n.peer.String(), Version: n.version,
		Api: n.apiURL, UptimeMs: time.Since(n.started).Milliseconds(), Sessions: uint64(n.gate.Sessions()),
		Partners: n.partnerStatuses(), Segments: uint64(s.Segments), SegmentBytes: uint64(s.Bytes), LiveBytes: uint64(s.LiveBytes),
		References: uint64(s.Refs), Recovering: s.Recovering, ClockHeld: s.ClockHeld, Problems: n.problems(),
		RssBytes: residentBytes(), BucketMs: n.config.Bucket.Milliseconds(), Rooms: n.hubRooms(), IdleDevices: uint64(n.idleDevices()),
	}
	for _, addr := range n.fed.Addrs() {
		out.Addresses = append(out.Addresses, addr.String())
	}
	for _, m := range n.dir.Members() {
		out.Members++
		for id := range m.Devices {
			out.Devices++
			u := n.mail.Usage(id)
			out.Mailboxes = append(out.Mailboxes, &pb.MailboxStatus{Member: m.Address().String(), Device: id.String(),
				Count: uint64(u.Messages + u.Control + u.Handshakes), Bytes: uint64(u.Held),
				EarliestDeadlineUnix: unix(u.Earliest), AcknowledgedLsn: u.Acknowledged})
		}
	}
	return out
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// residentBytes reads the process's resident memory from the system; 0 where it
// does not say.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident uint64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return resident * uint64(os.Getpagesize())
}

// enrolmentAPI is open to whoever has a link's secret.
type enrolmentAPI struct{ n *Node }

func (a enrolmentAPI) Describe(_ context.Context, r *connect.Request[pb.DescribeRequest]) (*connect.Response[pb.DescribeResponse], error) {
	id, err := linkID(r.Msg.LinkId)
	if err != nil {
		return answer[pb.DescribeResponse](nil, err)
	}
	l, err := a.n.dir.DescribeLink(id)
	if err != nil {
		return answer[pb.DescribeResponse](nil, err)
	}
	out := &pb.DescribeResponse{Name: l.Name, Manifests: a.n.org.Notes, NodeCertificate: a.n.certificate, ExpiresUnix: l.Expires.Unix()}
	if l.Reset != nil {
		out.Reset_, err = a.n.dir.Chain(*l.Reset)
	}
	return answer(out, err)
}

// Enroll makes the link's holder a member, with its device, in one transaction.
func (a enrolmentAPI) Enroll(ctx context.Context, r *connect.Request[pb.EnrollRequest]) (*connect.Response[pb.EnrollResponse], error) {
	chain, err := a.n.enroll(context.WithoutCancel(ctx), r.Msg)
	return answer(&pb.EnrollResponse{Chain: chain, NodeCertificate: a.n.certificate}, err)
}

func linkID(b []byte) (id [16]byte, err error) {
	if len(b) != len(id) {
		return id, wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "")
	}
	return [16]byte(b), nil
}
