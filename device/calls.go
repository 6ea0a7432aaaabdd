package device

import (
	"context"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire/session"
)

// call makes one call to the home node; errors carry the node's status.
func call[Q, A any](ctx context.Context, f func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, error) {
	a, err := f(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, session.FromConnect(err)
	}
	return a.Msg, nil
}
