package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
