package federation

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// maxQuestion bounds a request: it names things and carries none.
const maxQuestion = 16 << 10

// Query asks a partner one question and returns the answer, whose status is a
// success. Every other end is a *wire.StatusError: the partner's refusal,
// noAgreement or suspended without asking, or unreachable.
func (f *Federation) Query(ctx context.Context, id wire.OrganizationID, q *pb.QueryRequest) (*pb.QueryResponse, error) {
	p := f.find(id)
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	if _, err := f.Takes(id, f.clock.Now()); err != nil {
		return nil, err
	}
	return f.counted(f.ask(ctx, p, q))
}

// Recall is Query for what a partner holds of this organization itself. It is asked
// whatever this node thinks of the agreement: one that was set back, or whose clock was,
// thinks wrongly, and has the more to ask (docs/protocol.md 2.14).
func (f *Federation) Recall(ctx context.Context, id wire.OrganizationID, q *pb.QueryRequest) (*pb.QueryResponse, error) {
	p := f.find(id)
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	return f.counted(f.ask(ctx, p, q))
}

// recalls reports whether a question is about the asker's own log.
func recalls(q *pb.QueryRequest, from wire.OrganizationID) bool {
	switch q := q.Query.(type) {
	case *pb.QueryRequest_Head:
		return string(q.Head.GetOrganization()) == string(from[:])
	case *pb.QueryRequest_Leaves:
		return string(q.Leaves.GetOrganization()) == string(from[:])
	case *pb.QueryRequest_RoomLog:
		return q.RoomLog.GetOwn()
	case *pb.QueryRequest_Revocations, *pb.QueryRequest_Places:
		return true
	}
	return false
}

func (f *Federation) counted(answer *pb.QueryResponse, err error) (*pb.QueryResponse, error) {
	f.metrics.queries.WithLabelValues("out", wire.CodeName(wire.StatusOf(err).Code)).Inc()
	return answer, err
}

// ask asks whatever the agreement's state: manifests are asked for before a
// partner can be believed again.
func (f *Federation) ask(ctx context.Context, p *partner, q *pb.QueryRequest) (*pb.QueryResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	out, err := f.open(ctx, p, QueryProtocol)
	if err != nil {
		return nil, err
	}
	defer out.s.Reset()
	defer context.AfterFunc(ctx, func() { out.s.Reset() })()
	id := f.opts.Organization.ID
	question := &pb.QueryRequest{Version: wire.ProtocolVersion, Organization: id[:], Query: q.Query}
	if err := out.write(question, maxQuestion, QueryTimeout); err != nil {
		return nil, lost(err)
	}
	if err := out.s.CloseWrite(); err != nil {
		return nil, lost(err)
	}
	var answer pb.QueryResponse
	release, err := out.read(&answer, wire.MaxQueryFrame, QueryTimeout)
	if err != nil {
		return nil, lost(err)
	}
	defer release() // from here on it is the caller's memory
	if err := wire.Err(answer.Status); err != nil {
		return nil, err
	}
	return &answer, nil
}

// serveQuery answers one question (docs/protocol.md 5.4).
func (f *Federation) serveQuery(ctx context.Context, in *frames) error {
	var q pb.QueryRequest
	release, err := in.read(&q, maxQuestion, HelloTimeout)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	answer, err := f.answer(ctx, in.s, &q)
	if err != nil {
		answer = &pb.QueryResponse{Status: wire.StatusOf(err)}
	}
	if answer == nil || answer.Status == nil {
		answer = &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_INTERNAL, "")}
	}
	size := proto.Size(answer)
	if size > wire.MaxQueryFrame {
		answer = &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_TOO_LARGE, "an answer of %d bytes", size)}
	}
	if err := in.s.Scope().ReserveMemory(size, network.ReservationPriorityMedium); err != nil {
		return fmt.Errorf("federation: no memory for an answer of %d bytes: %w", size, err)
	}
	defer in.s.Scope().ReleaseMemory(size)
	f.metrics.queries.WithLabelValues("in", wire.CodeName(answer.Status.Code)).Inc()
	return in.write(answer, wire.MaxQueryFrame, QueryTimeout)
}

func (f *Federation) answer(ctx context.Context, s network.Stream, q *pb.QueryRequest) (*pb.QueryResponse, error) {
	p, refusal := f.admit(s.Conn().RemotePeer())
	if p == nil {
		return nil, refusal
	}
	if q.Version != wire.ProtocolVersion {
		return nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "version %d of the query protocol", q.Version)
	}
	if string(q.Organization) != string(p.id[:]) {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "this peer speaks for another organization")
	}
	now := f.clock.Now()
	if wait := p.allowance(now, q); wait > 0 {
		return nil, &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)}
	}
	if _, ok := q.Query.(*pb.QueryRequest_Manifest); ok {
		return f.manifestAnswer(p, q.GetManifest().GetHave()), nil // even when its certificate has expired: so does ours, one day
	}
	if amend, ok := q.Query.(*pb.QueryRequest_Amend); ok && (refusal == nil || p.amendable(now) || asksInForce(amend.Amend)) {
		return f.amendAnswer(ctx, p, amend.Amend)
	}
	if refusal != nil && !recalls(q, p.id) {
		return nil, refusal
	}
	if told, ok := q.Query.(*pb.QueryRequest_Told); ok {
		return f.gossip.toldAnswer(told.Told)
	}
	if q.Query == nil {
		return nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "a question of a kind that this node does not know")
	}
	p.met(now, 0)
	p.reached(now)
	return f.opts.Handler.Query(ctx, p.id, q), nil
}

// allowance takes a question from what the partner may ask, or says how long to wait:
// chunks of files are counted by bytes, all else by questions.
func (p *partner) allowance(now time.Time, q *pb.QueryRequest) time.Duration {
	if _, ok := q.Query.(*pb.QueryRequest_Blob); ok {
		return p.files.take(now, wire.FileChunk)
	}
	return p.queries.take(now, 1)
}

func (f *Federation) manifestAnswer(p *partner, have uint64) *pb.QueryResponse {
	var theirs []string // of a partner that was restored from a backup
	if known := p.standing().org.Notes; have > 0 && have < uint64(len(known)) {
		theirs = known
	}
	return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, ""), Answer: &pb.QueryResponse_Manifest{
		Manifest: &pb.ManifestAnswer{Manifests: f.opts.Organization.Notes, NodeCertificate: f.opts.NodeCertificate, Asker: theirs},
	}}
}
