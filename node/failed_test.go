package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
)

// failing is a node whose operator's calls end with an error.
type failing struct {
	ententev1connect.UnimplementedOperatorServiceHandler
	err error
}

func (f failing) Mode(context.Context, *connect.Request[pb.ModeRequest]) (*connect.Response[pb.ModeResponse], error) {
	return answer[pb.ModeResponse](nil, f.err)
}

func TestACallThatFailsSaysThatTheDiskIsFullAndElseIsInTheLog(t *testing.T) {
	for _, x := range []struct {
		err    error
		code   pb.Code
		logged string
	}{
		{fmt.Errorf("directory: %w", store.ErrFull), pb.Code_CODE_FULL, ""},
		{&os.PathError{Op: "write", Path: "node.yaml.new", Err: syscall.ENOSPC}, pb.Code_CODE_FULL, ""},
		{fmt.Errorf("directory: %w", store.ErrDeadline), pb.Code_CODE_CLOCK_SUSPECT, ""},
		{wire.Refuse(pb.Code_CODE_FORBIDDEN, "no"), pb.Code_CODE_FORBIDDEN, ""},
		{errors.New("the tree has no root"), pb.Code_CODE_INTERNAL, "the tree has no root"},
	} {
		var out bytes.Buffer
		n := &Node{log: slog.New(slog.NewTextHandler(&out, nil))}
		_, h := ententev1connect.NewOperatorServiceHandler(failing{err: x.err}, n.handlerOptions()...)
		server := httptest.NewServer(h)
		_, err := ententev1connect.NewOperatorServiceClient(server.Client(), server.URL).Mode(t.Context(), connect.NewRequest(&pb.ModeRequest{}))
		server.Close()
		if got := wire.StatusOf(session.FromConnect(err)).Code; got != x.code || strings.Contains(err.Error(), "root") {
			t.Errorf("%v: the caller is told %s: %v", x.err, wire.CodeName(got), err)
		}
		if (x.logged == "") != (out.Len() == 0) || !strings.Contains(out.String(), x.logged) {
			t.Errorf("%v: the log says %q", x.err, out.String())
		}
	}
}

// A device that hangs up while it waits for mail has made nothing fail.
func TestACallerThatLeavesIsNoFailureInTheLog(t *testing.T) {
	var out bytes.Buffer
	n := &Node{log: slog.New(slog.NewTextHandler(&out, nil))}
	began, over := make(chan struct{}), make(chan struct{})
	_, h := ententev1connect.NewOperatorServiceHandler(lingering{began: began}, n.handlerOptions()...)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r); close(over) }))
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-began; leave() }()
	_, _ = ententev1connect.NewOperatorServiceClient(server.Client(), server.URL).Mode(ctx, connect.NewRequest(&pb.ModeRequest{}))
	<-over
	server.Close()
	if out.Len() > 0 {
		t.Errorf("the log says %q", out.String())
	}
}

// lingering is a node whose operator's calls end with their callers.
type lingering struct {
	ententev1connect.UnimplementedOperatorServiceHandler
	began chan struct{}
}

func (w lingering) Mode(ctx context.Context, _ *connect.Request[pb.ModeRequest]) (*connect.Response[pb.ModeResponse], error) {
	close(w.began)
	<-ctx.Done()
	return answer[pb.ModeResponse](nil, ctx.Err())
}
