package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/spf13/cobra"
)

// dataFlag adds --data, the node's folder.
func dataFlag(c *cobra.Command) *string {
	d := c.Flags().String("data", defaultDir("node"), "the node's data folder ($ENTENTE_NODE)")
	_ = c.MarkFlagDirname("data")
	return d
}

// operate calls the running node of a data folder.
func operate[Q, A any](ctx context.Context, dir string, call func(ententev1connect.OperatorServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[A], error), request *Q) (*A, error) {
	answer, err := call(node.DialOperator(dir), ctx, connect.NewRequest(request))
	if err != nil {
		return nil, operatorError(dir, err)
	}
	return answer.Msg, nil
}

// operatorError tells "not running" from the node's own answers.
func operatorError(dir string, err error) error {
	if s := connectStatus(err); s != nil {
		return &wire.StatusError{Status: s}
	}
	if errors.Is(err, os.ErrPermission) {
		return &hintError{fmt.Errorf("you may not call the node on %s", dir), "become the user that the node runs as", exitFailed}
	}
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		hint := "entente node run --data " + dir
		if _, e := os.Stat(dir); e != nil {
			hint = "name the node's folder with --data, or make one: entente node init NAME --data DIR"
		}
		return &hintError{fmt.Errorf("no node is running on %s", dir), hint, exitNotRunning}
	}
	return err
}

// connectStatus returns the status that a Connect error carries, or nil.
func connectStatus(err error) *pb.Status {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return nil
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if s, ok := v.(*pb.Status); ok {
				return s
			}
		}
	}
	return nil
}
