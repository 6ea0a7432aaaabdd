package session

import (
	"context"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// MaxFetchWait bounds how long a Fetch waits for mail: below the read timeouts that
// proxies come with (30 to 60 s).
const MaxFetchWait = 20 * time.Second

// The session as calls (docs/protocol.md 6.6). Each answers one call of a device from
// the Backend that its session would have, within the limits of a Batch, and
// remembers nothing.

// CallSubmit hands submissions to the Backend in their order and returns one status
// for each. When ctx ends first it returns the cause: the device asks again under
// the same counters and learns what became of them.
func CallSubmit(ctx context.Context, b Backend, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	if n := len(q.Submissions); n == 0 || n > wire.SubmitWindow {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "%d submissions in a call", n)
	}
	bytes := 0
	for _, s := range q.Submissions {
		if bytes += len(s.GetEnvelope()); bytes > wire.SubmitWindowBytes {
			return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "submissions of over %d bytes in a call", wire.SubmitWindowBytes)
		}
	}
	type answer struct {
		i  int
		st *pb.Status
	}
	answers := make(chan answer, len(q.Submissions))
	for i, s := range q.Submissions {
		if len(s.Envelope) > MaxEnvelope {
			answers <- answer{i, wire.Status(pb.Code_CODE_TOO_LARGE, "an envelope of %d bytes: at most %d are allowed", len(s.Envelope), MaxEnvelope)}
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		b.Submit(ctx, s.Counter, s.Envelope, func(st *pb.Status) { answers <- answer{i, st} })
	}
	out := make([]*pb.Status, len(q.Submissions))
	for range out {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case a := <-answers:
			out[a.i] = a.st
		}
	}
	return &pb.SubmitResponse{Statuses: out}, nil
}

// CallFetch returns deliveries above q.After, or none when none came in the time
// that the device asked for.
func CallFetch(ctx context.Context, b Backend, q *pb.FetchRequest) (*pb.FetchResponse, error) {
	if q.Envelopes == 0 || q.Bytes == 0 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a fetch of nothing")
	}
	n, bytes := int(min(q.Envelopes, wire.MaxBatchFrames)), int(min(q.Bytes, wire.MaxSessionBatch))
	over := time.NewTimer(min(time.Duration(q.WaitMs)*time.Millisecond, MaxFetchWait))
	defer over.Stop()
	for last := false; ; {
		wake := b.Wake()
		ds, err := b.Pull(q.After, n, bytes)
		if err != nil {
			return nil, err
		}
		if len(ds) > 0 || last {
			return &pb.FetchResponse{Deliveries: within(ds, n, bytes)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-over.C:
			last = true // look once more: what woke nobody in time is not left for the next call
		case <-wake:
		}
	}
}

// within cuts a page that a Backend made a little too large; the first always stays.
func within(ds []*pb.Deliver, n, bytes int) []*pb.Deliver {
	for i, d := range ds {
		if bytes -= proto.Size(d); i > 0 && (bytes < 0 || i >= n) {
			return ds[:i]
		}
	}
	return ds
}

// CallAck drops what the device has, on stable storage when it returns nil, and answers
// with the mark that a Welcome would say.
func CallAck(ctx context.Context, b Backend, q *pb.AckRequest) (*pb.AckResponse, error) {
	if !aboveStands(q.Above, q.Through) {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "numbers above what is acknowledged out of order or too many")
	}
	unread, ok := unreadStands(q.Unreadable, q.Expired, q.Through, q.Above)
	if !ok {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "unreadable out of order, not acknowledged or too many")
	}
	if err := b.Ack(ctx, Acked{q.Through, q.Above, unread}); err != nil {
		return nil, err
	}
	return &pb.AckResponse{SubmitMark: b.SubmitMark()}, nil
}

// StatusOfClose is what a call answers when a session would be closed.
func StatusOfClose(e *CloseError) error {
	code := pb.Code_CODE_INTERNAL
	switch e.Code {
	case CodeGoingAway:
		code = pb.Code_CODE_SHUTTING_DOWN
	case CodeExpired:
		code = pb.Code_CODE_UNAUTHENTICATED
	case CodeRevoked:
		code = pb.Code_CODE_REVOKED
	case CodeReplaced:
		code = pb.Code_CODE_RATE_LIMITED
	case CodeMalformed, CodeFlow:
		code = pb.Code_CODE_MALFORMED
	}
	return wire.Refuse(code, "%s", e.Reason)
}
