package home

import (
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
	"google.golang.org/protobuf/proto"
)

// liar is a node that answers calls with one message, read as each kind of answer.
type liar struct {
	ententev1connect.DeviceServiceClient
	b []byte
}

func (l liar) Fetch(context.Context, *connect.Request[pb.FetchRequest]) (*connect.Response[pb.FetchResponse], error) {
	var r pb.FetchResponse
	return connect.NewResponse(&r), proto.Unmarshal(l.b, &r)
}

// FuzzFetched takes what a hostile node answers to Fetch: what is held stays within the
// window and what was asked for, and every message for the session can be read.
func FuzzFetched(f *testing.F) {
	add := func(m *pb.FetchResponse) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&pb.FetchResponse{Deliveries: []*pb.Deliver{{Seq: 1, Envelope: &pb.Envelope{Core: make([]byte, 60)}}, {Seq: 2, Envelope: &pb.Envelope{Core: make([]byte, 60)}}}})
	add(&pb.FetchResponse{Deliveries: []*pb.Deliver{{Seq: 9}, {Seq: 3}, {}}})
	add(&pb.FetchResponse{Close: &pb.Close{Code: session.CodeRevoked, RetryMs: -5}})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCalls(&Home{Device: liar{b: b}}, nil)
		c.window, c.windowB = 3, 100
		_, _, err := c.fetch(3, 100, 0)
		var why *session.CloseError
		if errors.As(err, &why) && len(c.unread) > 0 {
			t.Fatal("something was taken of an answer that ends the session")
		}
		if len(c.unacked) > 3 || len(c.unacked) > 1 && c.unackedB > 100 || len(c.unread) > len(c.unacked) {
			t.Fatalf("%d held with %d bytes, %d to read", len(c.unacked), c.unackedB, len(c.unread))
		}
		for _, m := range c.unread {
			if _, err := session.DecodeBatch(m); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzBearerOf reads the header that a server answers a sign-in with.
func FuzzBearerOf(f *testing.F) {
	f.Add(`libp2p-PeerID bearer="abc", sig="x"`)
	f.Fuzz(func(t *testing.T, h string) {
		if token := bearerOf(h); strings.Contains(token, `"`) || len(token) > 2048 || !strings.Contains(h, token) {
			t.Errorf("%q: %q", h, token)
		}
	})
}
