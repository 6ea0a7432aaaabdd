package device

import (
	"context"
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/wire/ententev1/ententev1connect"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// counted counts for whose chains a device asks, and answers in its own way.
type counted struct {
	ententev1connect.DeviceServiceClient
	own    []byte // not counted
	n      int
	answer func(context.Context, *pb.ChainResponse) error
}

func (a *counted) Chain(ctx context.Context, q *connect.Request[pb.ChainRequest]) (*connect.Response[pb.ChainResponse], error) {
	r, err := a.DeviceServiceClient.Chain(ctx, q)
	if string(q.Msg.Member) == string(a.own) {
		return r, err
	}
	a.n++
	if err == nil && a.answer != nil {
		err = a.answer(ctx, r.Msg)
	}
	return r, err
}

func TestWhoIsInARoomIsAskedAboutOnceAnHour(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	a := &counted{DeviceServiceClient: p.alice.home.Device, own: p.alice.account.Member[:]}
	p.alice.home.Device = a
	k := memberKey{p.bob.account.Organization, p.bob.account.Member}
	visit := func(n int, what string) {
		t.Helper()
		a.n = 0
		receive(t, p.alice)
		if a.n != n {
			t.Errorf("%s: asked %d times, not %d", what, a.n, n)
		}
	}
	ago := func(by time.Duration) {
		p.alice.looks.at[k], p.alice.looks.next = p.alice.now().Add(-by), time.Time{}
	}
	receive(t, p.alice)
	visit(0, "just after it was asked")
	ago(lookEvery - time.Minute)
	visit(0, "after 59 minutes")
	ago(lookEvery)
	visit(1, "after an hour")
	p.alice.looks.at, p.alice.looks.next = nil, time.Time{} // a new process
	visit(0, "by a device that was closed and opened")
	ago(-time.Hour)
	visit(1, "with a clock that was set back")
	p.alice.lookAgain(k)
	visit(1, "after a revocation")

	// A partner that cannot be asked holds nothing up, and is asked again later.
	a.answer = func(ctx context.Context, _ *pb.ChainResponse) error { <-ctx.Done(); return ctx.Err() }
	ago(lookEvery)
	began := time.Now()
	visit(1, "a partner that does not answer")
	if took := time.Since(began); took > lookPatience+20*time.Second {
		t.Errorf("a visit took %s", took)
	}
	visit(0, "just after that")
	if next := p.alice.nextLook(k).Sub(p.alice.now()); next <= 0 || next > lookFailed {
		t.Errorf("asked again in %s", next)
	}
}

func TestAnAnswerAboutSomebodyElseIsNotTakenForAMember(t *testing.T) {
	p := newPair(t)
	mallory := p.globex.device("mallory")
	talk(t, p, 1)
	other := chainOf(t, mallory)
	p.alice.home.Device = &counted{DeviceServiceClient: p.alice.home.Device, own: p.alice.account.Member[:],
		answer: func(_ context.Context, r *pb.ChainResponse) error { r.Chain = other; return nil }}
	p.alice.lookAgain(memberKey{p.bob.account.Organization, p.bob.account.Member})
	receive(t, p.alice)
	var need *chainNeeded
	if _, err := p.alice.chains.get(memberKey{mallory.account.Organization, mallory.account.Member}); !errors.As(err, &need) {
		t.Errorf("alice has learned of mallory: %v", err)
	}
	send(t, p.alice, p.bob.Address(), "still bob", SendOptions{})
}
