package node

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Reports of abuse (docs/protocol.md 7.17). The node takes what its own members leave for
// their administrator and cannot tell whether it is true: that is computed from the report
// alone. As a hub it says whether a frank is its own.

// frankKey is derived from the key that orders rooms: a frank stays good over restarts and
// restores.
func frankKey(hub []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, hub, nil, "entente.im/frank-key/v1", 32)
}

// frank vouches for a message that was just given its place.
func (n *Node) frank(f wire.Franked) []byte { return f.Frank(n.frankKey) }

// Report keeps what a member reports.
func (a deviceAPI) Report(ctx context.Context, r *connect.Request[pb.ReportRequest]) (*connect.Response[pb.ReportResponse], error) {
	out, err := a.n.takeReport(ctx, r.Msg.Report)
	return answer(out, err)
}

func (n *Node) takeReport(ctx context.Context, body []byte) (*pb.ReportResponse, error) {
	device, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	member := n.memberOf(device)
	id, err := n.mail.PutReport(ctx, member, body)
	if err != nil {
		return nil, err
	}
	n.log.Warn("a member reports abuse", "member", n.memberName(member), "report", id, "do", "entente abuse list")
	return &pb.ReportResponse{Id: id, ExpiresUnix: n.clock.Now().Add(wire.ReportLife).Unix()}, nil
}

// memberName is a member's address, or its ID when it is no member any more.
func (n *Node) memberName(id wire.MemberID) string {
	m, err := n.dir.Get(id)
	if err != nil {
		return id.String()
	}
	return m.Address().String()
}

func (n *Node) storedReport(r mailbox.Report) *pb.StoredReport {
	return &pb.StoredReport{Id: r.ID, Reporter: n.memberName(r.Reporter), AtUnix: r.At.Unix(), ExpiresUnix: r.Expires.Unix()}
}

// ListReports lists what members have reported.
func (a operatorAPI) ListReports(context.Context, *connect.Request[pb.ListReportsRequest]) (*connect.Response[pb.ListReportsResponse], error) {
	list, err := a.n.mail.Reports()
	out := &pb.ListReportsResponse{}
	for _, r := range list {
		out.Reports = append(out.Reports, a.n.storedReport(r))
	}
	return answer(out, err)
}

// GetReport returns one report whole.
func (a operatorAPI) GetReport(_ context.Context, q *connect.Request[pb.GetReportRequest]) (*connect.Response[pb.GetReportResponse], error) {
	r, err := a.n.mail.Report(q.Msg.Id)
	if err != nil {
		return answer[pb.GetReportResponse](nil, noReport(q.Msg.Id, err))
	}
	return answer(&pb.GetReportResponse{Report: a.n.storedReport(r), Body: r.Body}, nil)
}

// DropReport destroys one.
func (a operatorAPI) DropReport(ctx context.Context, q *connect.Request[pb.DropReportRequest]) (*connect.Response[pb.DropReportResponse], error) {
	err := a.n.mail.DropReport(ctx, q.Msg.Id)
	return answer(&pb.DropReportResponse{}, noReport(q.Msg.Id, err))
}

func noReport(id uint64, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "no report %d: it was dropped, or its time is over", id)
	}
	return err
}

// CheckFrank says whether this node, as a hub, has vouched for a message.
func (a operatorAPI) CheckFrank(_ context.Context, r *connect.Request[pb.CheckFrankRequest]) (*connect.Response[pb.CheckFrankResponse], error) {
	q := r.Msg
	room, err := wire.Bytes32(q.Room)
	from, err2 := wire.Bytes32(q.Organization)
	device, err3 := wire.Bytes32(q.Device)
	if errors.Join(err, err2, err3) != nil || wire.FrankTag(q.Tag) == nil {
		return answer[pb.CheckFrankResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a frank of what is no message with a tag"))
	}
	f := wire.Franked{Room: room, Generation: q.Generation, Epoch: q.Epoch, Seq: q.Seq, AcceptedMs: q.AcceptedMs, From: from, Tag: q.Tag}
	if f.From == a.n.org.ID {
		f.Device = device
	}
	want := a.n.frank(f)
	return answer(&pb.CheckFrankResponse{Ours: hmac.Equal(want, q.Frank)}, nil)
}
