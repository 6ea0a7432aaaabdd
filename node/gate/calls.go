package gate

import (
	"context"
	"errors"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// A call of the session's kind is held like a session: one at a time of a device, a
// newer ends the one before, and revocation ends it at once.
type callKind int

const (
	sessionCall callKind = iota // a session, or the Fetch that stands for it
	submitCall
	ackCall
)

// Submit is DeviceService.Submit (docs/protocol.md 6.6).
func (g *Gate) Submit(ctx context.Context, c Caller, q *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	ctx, b, end, err := g.hold(ctx, c, submitCall)
	if err != nil {
		return nil, refusedCall(err)
	}
	defer end()
	r, err := session.CallSubmit(ctx, b, q)
	return r, refusedCall(err)
}

// Fetch is DeviceService.Fetch. The end that a session would get with a Close frame
// is an answer: it may tell the device never to come back.
func (g *Gate) Fetch(ctx context.Context, c Caller, q *pb.FetchRequest) (*pb.FetchResponse, error) {
	ctx, b, end, err := g.hold(ctx, c, sessionCall)
	if err == nil {
		defer end()
		// No wait outlasts the sign-in: the device's next call shows a new token.
		left := max(c.Expires.Sub(g.o.Clock()), 0).Milliseconds()
		q = &pb.FetchRequest{After: q.After, Envelopes: q.Envelopes, Bytes: q.Bytes, WaitMs: uint32(min(int64(q.WaitMs), left))}
		var r *pb.FetchResponse
		if r, err = session.CallFetch(ctx, b, q); err == nil {
			return r, nil
		}
	}
	var why *session.CloseError
	if errors.As(err, &why) {
		return &pb.FetchResponse{Close: &pb.Close{Code: uint32(why.Code), Reason: why.Reason, RetryMs: why.Retry.Milliseconds()}}, nil
	}
	return nil, err
}

// Ack is DeviceService.Ack.
func (g *Gate) Ack(ctx context.Context, c Caller, q *pb.AckRequest) (*pb.AckResponse, error) {
	ctx, b, end, err := g.hold(ctx, c, ackCall)
	if err != nil {
		return nil, refusedCall(err)
	}
	defer end()
	r, err := session.CallAck(ctx, b, q)
	return r, refusedCall(err)
}

// refusedCall gives the end of a call that was cut short its status.
func refusedCall(err error) error {
	var why *session.CloseError
	if errors.As(err, &why) {
		return session.StatusOfClose(why)
	}
	return err
}

// hold makes a call known, after the one before has ended, and opens its Backend. The
// context ends with the caller's and with the device.
func (g *Gate) hold(call context.Context, c Caller, kind callKind) (context.Context, session.Backend, func(), error) {
	if !g.enter() {
		return nil, nil, nil, &session.CloseError{Code: session.CodeGoingAway, Reason: "the node is stopping"}
	}
	ctx, end, ok := g.register(c.Device, kind)
	if !ok {
		g.wg.Done()
		return nil, nil, nil, &session.CloseError{Code: session.CodeRevoked, Reason: "this device was revoked"}
	}
	ctx, cancel := context.WithCancel(ctx)
	gone := context.AfterFunc(call, cancel)
	all := func() {
		gone()
		cancel()
		end()
		g.wg.Done()
	}
	b, err := g.o.Backend(ctx, c.Device)
	if err != nil {
		all()
		return nil, nil, nil, err
	}
	return ctx, b, all, nil
}

// enter counts somebody in whom Close waits for, unless the gate is closed; the
// caller then owes a wg.Done.
func (g *Gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Add(1)
	return true
}

// heldBy is who holds what.
type heldBy struct {
	device wire.DeviceID
	kind   callKind
}
