package device

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire/session"
)

// call makes one call to the home node; errors carry the node's status. Under sparing it
// refuses itself what is not asked now.
func call[Q, A any](ctx context.Context, f func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, error) {
	s, _ := ctx.Value(slowKey{}).(*slow)
	of, asks := askedOf(q)
	if asks = asks && s != nil; asks {
		if err := s.spares(of); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	a, err := f(ctx, connect.NewRequest(q))
	if err != nil {
		err = session.FromConnect(err)
	}
	if asks {
		s.answered(of, time.Since(began), waitsFor(ctx, err))
	}
	if err != nil {
		return nil, err
	}
	return a.Msg, nil
}
