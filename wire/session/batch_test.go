package session

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

func TestBatchLimits(t *testing.T) {
	raw := func(frames ...*pb.Frame) []byte {
		b, err := proto.Marshal(&pb.Batch{Frames: frames})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	deliver := func(n int) *pb.Frame {
		return &pb.Frame{Frame: &pb.Frame_Deliver{Deliver: &pb.Deliver{Seq: 1, Envelope: &pb.Envelope{Core: make([]byte, n)}}}}
	}
	var pings []*pb.Frame
	for range wire.MaxBatchFrames + 1 {
		pings = append(pings, ping())
	}
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"64 frames":                       {raw(pings[1:]...), true},
		"65 frames":                       {raw(pings...), false},
		"none":                            {nil, false},
		"a frames field that is a number": {[]byte{0x08, 0x30}, false},
		"only unknown fields":             {[]byte{0x10, 0x01}, false},
		"a handshake alone":               {raw(deliver(wire.MaxHandshakeBody)), true},
		"a handshake with company":        {raw(deliver(wire.MaxHandshakeBody), ping()), false},
		"a delivery over all limits":      {raw(deliver(MaxMessage)), false},
		"a submission of a batch's size":  {raw(submit(1, wire.MaxSessionBatch)), false},
		"frames by the million":           {bytes.Repeat([]byte{0x0a, 0x00}, 200_000), false},
	} {
		if _, err := DecodeBatch(c.b); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = DecodeBatch(bytes.Repeat([]byte{0x0a, 0x00}, 200_000)) }); n > 30 {
		t.Errorf("a batch of too many frames costs %v allocations", n)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	for _, frames := range [][]*pb.Frame{{ping()}, {submit(1, 3), ack(2, 1)}, {reauth(1)}, {(&CloseError{Code: 4400, Reason: "x"}).frame()}} {
		b, err := EncodeBatch(frames)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := DecodeBatch(b)
		if err != nil {
			var ce *CloseError
			if !errors.As(err, &ce) || ce.Code != CodeMalformed {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := EncodeBatch(batch.Frames)
		if err != nil {
			t.Fatalf("decodes, but does not encode: %v", err)
		}
		got, err := DecodeBatch(again)
		if err != nil || !proto.Equal(&pb.Batch{Frames: got.Frames}, &pb.Batch{Frames: batch.Frames}) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func TestStatusesCrossConnectUnchanged(t *testing.T) {
	for n := range pb.Code_name {
		code := pb.Code(n)
		if wire.ClassOf(code) == wire.Success || n == 0 {
			continue
		}
		err := wire.Refuse(code, "about %d", n)
		got := FromConnect(ConnectError(err))
		if !proto.Equal(wire.StatusOf(got), wire.StatusOf(err)) {
			t.Errorf("%s arrives as %v", wire.CodeName(code), got)
		}
	}
	if s := ConnectError(errors.New("open /secret")).Error(); bytes.Contains([]byte(s), []byte("secret")) {
		t.Errorf("an inner error leaks: %s", s)
	}
	if ConnectError(nil) != nil || FromConnect(nil) != nil {
		t.Error("nil becomes an error")
	}
	if err := FromConnect(connect.NewError(connect.CodeCanceled, context.Canceled)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
}
