package gate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// idle is a Backend with an empty mailbox, whose submissions stay without a result.
type idle struct {
	flood
	pulled chan struct{}
	took   chan struct{}
}

func (b *idle) Pull(uint64, int, int) ([]*pb.Deliver, error) {
	b.pulled <- struct{}{}
	return nil, nil
}

func (b *idle) Submit(context.Context, uint64, []byte, func(*pb.Status)) { b.took <- struct{}{} }

func startIdle(t *testing.T) (*world, *idle) {
	w, b := start(t, session.Timing{}), &idle{pulled: make(chan struct{}, 64), took: make(chan struct{}, 64)}
	w.o.Backend = func(context.Context, wire.DeviceID) (session.Backend, error) { return b, nil }
	return w, b
}

var waitLong = &pb.FetchRequest{Envelopes: 1, Bytes: 1, WaitMs: 60_000}

type fetched struct {
	r   *pb.FetchResponse
	err error
}

// fetch starts a Fetch that waits, and returns once it does.
func (w *world) fetch(ctx context.Context, b *idle, c Caller) chan fetched {
	out := make(chan fetched, 1)
	go func() {
		r, err := w.Fetch(ctx, c, waitLong)
		out <- fetched{r, err}
	}()
	<-b.pulled
	return out
}

func (w *world) caller(d wire.DeviceID) Caller {
	return Caller{Device: d, Expires: w.clock.Now().Add(time.Hour)}
}

// soon fails when a call goes on although it has no reason to: well below any wait.
func soon[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(session.MaxFetchWait / 2):
		t.Errorf("%s: goes on", what)
	}
	return v
}

func TestAFetchEndsWhenItsCallerTheDeviceOrTheNodeDoes(t *testing.T) {
	d := wire.DeviceID{9}
	for name, c := range map[string]struct {
		end  func(w *world, cancel func())
		code uint32 // 0: the context's error
	}{
		"the caller hangs up": {func(_ *world, cancel func()) { cancel() }, 0},
		"revoked":             {func(w *world, _ func()) { w.dir.revoke(d); w.End(d) }, session.CodeRevoked},
		"the node stops":      {func(w *world, _ func()) { w.Close() }, session.CodeGoingAway},
	} {
		t.Run(name, func(t *testing.T) {
			w, b := startIdle(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := w.fetch(ctx, b, w.caller(d))
			if !w.Online(d) || w.Sessions() != 1 {
				t.Error("a device that waits is not online")
			}
			c.end(w, cancel)
			f := soon(t, name, out)
			if c.code == 0 && !errors.Is(f.err, context.Canceled) || c.code != 0 && f.r.GetClose().GetCode() != c.code {
				t.Errorf("%v, %v", f.r, f.err)
			}
			if w.Online(d) || w.Sessions() != 0 {
				t.Error("still online")
			}
		})
	}
}

func TestANewerFetchEndsTheOlderAndLeavesOneSession(t *testing.T) {
	w, b := startIdle(t)
	c := w.caller(wire.DeviceID{9})
	first := w.fetch(t.Context(), b, c)
	ctx, cancel := context.WithCancel(t.Context())
	second := w.fetch(ctx, b, c)
	if f := soon(t, "the older", first); f.r.GetClose().GetCode() != session.CodeReplaced {
		t.Errorf("%v, %v", f.r, f.err)
	}
	other := w.fetch(ctx, b, w.caller(wire.DeviceID{8}))
	if w.Sessions() != 2 {
		t.Errorf("%d sessions of two devices", w.Sessions())
	}
	cancel()
	soon(t, "the newer", second)
	soon(t, "another device's", other)
	if w.Sessions() != 0 {
		t.Errorf("%d sessions at the end", w.Sessions())
	}
}

func TestRevocationEndsASubmissionUnderWay(t *testing.T) {
	w, b := startIdle(t)
	d := wire.DeviceID{9}
	out := make(chan error, 1)
	go func() {
		_, err := w.Submit(t.Context(), w.caller(d), &pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 1}}})
		out <- err
	}()
	<-b.took
	w.dir.revoke(d)
	w.End(d)
	if err := soon(t, "the submission", out); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Errorf("%v", err)
	}
	if _, err := w.Submit(t.Context(), w.caller(d), &pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 2}}}); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED || len(b.took) != 0 {
		t.Errorf("after it: %v, %d handed over", err, len(b.took))
	}
	if _, err := w.Ack(t.Context(), w.caller(d), &pb.AckRequest{}); wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Errorf("an acknowledgement after it: %v", err)
	}
}

func TestAClosedGateTakesNoCalls(t *testing.T) {
	w, _ := startIdle(t)
	w.Close()
	c := w.caller(wire.DeviceID{9})
	if _, err := w.Submit(t.Context(), c, &pb.SubmitRequest{Submissions: []*pb.Submission{{}}}); wire.StatusOf(err).Code != pb.Code_CODE_SHUTTING_DOWN {
		t.Errorf("Submit: %v", err)
	}
	if _, err := w.Ack(t.Context(), c, &pb.AckRequest{}); wire.StatusOf(err).Code != pb.Code_CODE_SHUTTING_DOWN {
		t.Errorf("Ack: %v", err)
	}
	if r, err := w.Fetch(t.Context(), c, waitLong); r.GetClose().GetCode() != session.CodeGoingAway {
		t.Errorf("Fetch: %v, %v", r, err)
	}
}

func TestAFetchDoesNotOutlastItsSignIn(t *testing.T) {
	w, _ := startIdle(t)
	out := make(chan fetched, 1)
	go func() {
		r, err := w.Fetch(t.Context(), Caller{Device: wire.DeviceID{9}, Expires: w.clock.Now().Add(50 * time.Millisecond)}, waitLong)
		out <- fetched{r, err}
	}()
	if f := soon(t, "the fetch", out); f.err != nil || f.r.GetClose() != nil || len(f.r.GetDeliveries()) != 0 {
		t.Errorf("%v, %v", f.r, f.err)
	}
}
