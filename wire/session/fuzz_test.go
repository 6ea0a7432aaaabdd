package session

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

func seed(f *testing.F, frames ...*pb.Frame) {
	b, err := EncodeBatch(frames)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
}

// FuzzServer hands a node's session what a device may send: its windows and numbers
// hold whatever comes, and an error ends the session with a reason.
func FuzzServer(f *testing.F) {
	seed(f, submit(1, 3), ack(0), ping(), reauth(1))
	seed(f, submit(1, 1), submit(2, 1), submit(2, 1))
	seed(f, ack(5, 2, 3), ack(4))
	seed(f, above(2, 3, 9), above(2, 3), ack(9, 9))
	seed(f, &pb.Frame{}, &pb.Frame{Frame: &pb.Frame_Hello{Hello: &pb.Hello{}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := DecodeBatch(b)
		if err != nil {
			return
		}
		back := &backend{}
		s := &server{backend: back, o: ServeOptions{SubmitWindow: 3, SubmitWindowBytes: 100}.orDefault(), live: context.Background(),
			kick: make(chan struct{}, 1), ackKick: make(chan struct{}, 1), open: make(map[uint64]int),
			sentUpTo: 9, unacked: []sent{{seq: 2, bytes: 1}, {seq: 3, bytes: 1}, {seq: 9, bytes: 1}}}
		for _, frame := range batch.Frames {
			if err := s.handle(frame); err != nil {
				var why *CloseError
				if !errors.As(err, &why) || why.Code == 0 {
					t.Fatalf("ended without a reason: %v", err)
				}
				break
			}
		}
		if len(s.open) > 3 || s.openBytes > 100 || s.ackTo > s.sentUpTo || len(s.control) > maxControl || len(back.dones) > 3 {
			t.Fatalf("%d open with %d bytes, acknowledged %d, %d answers", len(s.open), s.openBytes, s.ackTo, len(s.control))
		}
		for _, x := range s.unread {
			u := x.Seq
			if !slices.Contains([]uint64{2, 3, 9}, u) || !covers(s.ackTo, s.above, u) {
				t.Fatalf("%d is unreadable and was not delivered", u)
			}
		}
		for i, seq := range s.above {
			if !slices.Contains([]uint64{2, 3, 9}, seq) || i > 0 && seq <= s.above[i-1] {
				t.Fatalf("acknowledged above: %v", s.above)
			}
		}
	})
}

// FuzzLink hands a device's session what a hostile node may send: what it holds stays
// within its window, and deliveries rise.
func FuzzLink(f *testing.F) {
	seed(f, deliver(1, 10), deliver(2, 10), &pb.Frame{Frame: &pb.Frame_Drained{Drained: &pb.Drained{Seq: 2}}})
	seed(f, result(1, 2), result(1, 1<<63))
	seed(f, &pb.Frame{Frame: &pb.Frame_Close{Close: &pb.Close{Code: CodeRevoked, RetryMs: -1}}})
	seed(f, &pb.Frame{Frame: &pb.Frame_Deliver{Deliver: &pb.Deliver{Seq: 1}}}, &pb.Frame{})
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := DecodeBatch(b)
		if err != nil {
			return
		}
		c := NewClient(ClientOptions{WindowEnvelopes: 3, WindowBytes: 100})
		answers := 0
		for n := range uint64(2) {
			c.pending = append(c.pending, &submission{counter: n, n: n + 1, done: func(*pb.Status) { answers++ }})
		}
		l := newLink(c, nil)
		l.lastN = 2
		for _, frame := range batch.Frames {
			if err := l.handle(frame); err != nil {
				break
			}
		}
		last := uint64(0)
		for _, d := range l.inbox {
			if d.Seq <= last {
				t.Fatalf("%d after %d", d.Seq, last)
			}
			last = d.Seq
		}
		if len(l.inbox) > 3 || l.heldBytes > 100 && len(l.inbox) > 1 || answers > 2 || answers+len(c.pending) != 2 {
			t.Fatalf("holds %d deliveries with %d bytes, %d answers", len(l.inbox), l.heldBytes, answers)
		}
	})
}

// FuzzCalls answers what a device may ask by calls, within the limits of a session.
func FuzzCalls(f *testing.F) {
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 1, Envelope: []byte{1}}, {}}})
	add(&pb.FetchRequest{After: 1 << 63, Envelopes: 1 << 31, Bytes: 1 << 31})
	add(&pb.AckRequest{Through: 9, Unreadable: []uint64{1, 9}})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &desk{mail: mail(200, 10_000)}
		var s pb.SubmitRequest
		if proto.Unmarshal(b, &s) == nil {
			if r, err := CallSubmit(t.Context(), d, &s); err == nil && (len(r.Statuses) != len(s.Submissions) || slices.Contains(r.Statuses, nil)) || len(d.submitted) > wire.SubmitWindow {
				t.Fatalf("%v: %v, %v", &s, r, err)
			}
		}
		var q pb.FetchRequest
		if proto.Unmarshal(b, &q) == nil {
			q.WaitMs = 0
			r, err := CallFetch(t.Context(), d, &q)
			if err == nil && (len(r.Deliveries) > wire.MaxBatchFrames || proto.Size(r) > wire.MaxSessionBatch+wire.MaxBatchFrames*8) {
				t.Fatalf("%d deliveries, %d bytes", len(r.Deliveries), proto.Size(r))
			}
		}
		var a pb.AckRequest
		if proto.Unmarshal(b, &a) == nil {
			if _, err := CallAck(t.Context(), d, &a); err == nil && d.through != a.Through {
				t.Fatalf("acknowledged %d, asked %d", d.through, a.Through)
			}
		}
	})
}
