package session

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestNodeEndsTheSessionOfADeviceThatBreaksTheRules(t *testing.T) {
	cases := map[string]struct {
		send []*pb.Frame
		want int
	}{
		"a second Hello":                   {[]*pb.Frame{{Frame: &pb.Frame_Hello{Hello: &pb.Hello{}}}}, CodeMalformed},
		"a frame of the node's":            {[]*pb.Frame{{Frame: &pb.Frame_Pong{Pong: &pb.Pong{}}}}, CodeMalformed},
		"an empty frame":                   {[]*pb.Frame{{}}, CodeMalformed},
		"a submission out of order":        {[]*pb.Frame{submit(2, 1)}, CodeMalformed},
		"more submissions than the window": {[]*pb.Frame{submit(1, 1), submit(2, 1), submit(3, 1)}, CodeFlow},
		"more bytes than the window":       {[]*pb.Frame{submit(1, 900), submit(2, 200)}, CodeFlow},
		"an acknowledgement of the future": {[]*pb.Frame{ack(9)}, CodeMalformed},
		"an unreadable that was not sent":  {[]*pb.Frame{ack(2, 9)}, CodeMalformed},
		"an unreadable above the mark":     {[]*pb.Frame{ack(1, 2)}, CodeMalformed},
		"an expired that was not sent":     {[]*pb.Frame{{Frame: &pb.Frame_Ack{Ack: &pb.Ack{Through: 2, Unreadable: []uint64{1}, Expired: []uint64{2}}}}}, CodeMalformed},
		"an unreadable twice":              {[]*pb.Frame{ack(2, 1, 1)}, CodeMalformed},
		"above, not sent":                  {[]*pb.Frame{above(0, 3)}, CodeMalformed},
		"above, twice in one":              {[]*pb.Frame{above(0, 2, 2)}, CodeMalformed},
		"above, twice":                     {[]*pb.Frame{above(0, 2), above(0, 2)}, CodeMalformed},
		"above and not":                    {[]*pb.Frame{above(2, 2)}, CodeMalformed},
		"an unreadable that was above":     {[]*pb.Frame{above(0, 2), ack(2, 2)}, CodeMalformed},
		"more above than was sent":         {[]*pb.Frame{above(0, 1, 2, 3)}, CodeMalformed},
		"a mark that falls":                {[]*pb.Frame{ack(2), ack(1)}, CodeMalformed},
		"a short ticket":                   {[]*pb.Frame{{Frame: &pb.Frame_Reauth{Reauth: &pb.Reauth{Ticket: []byte{1}}}}}, CodeMalformed},
		"a ticket that does not stand":     {[]*pb.Frame{reauth(9)}, CodeExpired},
		"it leaves":                        {[]*pb.Frame{{Frame: &pb.Frame_Close{Close: &pb.Close{Code: 1000}}}}, CodeGoingAway},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(t, context.Background(), &backend{mail: mail(2, 1)}, ServeOptions{SubmitWindow: 2, SubmitWindowBytes: 1000}, nil)
				p.seqs(2)
				p.send(c.send...)
				if got := p.closed(); got != c.want {
					t.Errorf("closed with %d, want %d", got, c.want)
				}
			})
		})
	}
}

func above(through uint64, seqs ...uint64) *pb.Frame {
	return &pb.Frame{Frame: &pb.Frame_Ack{Ack: &pb.Ack{Through: through, Above: seqs}}}
}

// What is acknowledged beyond something that waits is handed on, unread or not, and makes room.
func TestWhatIsAcknowledgedAboveMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{mail: mail(9, 10)}
		p := serve(t, context.Background(), b, ServeOptions{}, &pb.Hello{WindowEnvelopes: 3, WindowBytes: 1 << 20})
		p.seqs(3)
		p.send(&pb.Frame{Frame: &pb.Frame_Ack{Ack: &pb.Ack{Through: 0, Above: []uint64{2, 3}, Unreadable: []uint64{3}}}})
		if got := p.seqs(2); !slices.Equal(got, []uint64{4, 5}) {
			t.Errorf("after credit for two: %v", got)
		}
		b.mu.Lock()
		if b.acked != 0 || !slices.Equal(b.above, []uint64{2, 3}) || !slices.Equal(b.unread, []Unread{{Seq: 3}}) {
			t.Errorf("acknowledged %d, above %v, unread %v", b.acked, b.above, b.unread)
		}
		b.mu.Unlock()
		p.send(ack(4))
		if got := p.seqs(2); !slices.Equal(got, []uint64{6, 7}) {
			t.Errorf("after credit for two more: %v", got)
		}
		p.send(&pb.Frame{Frame: &pb.Frame_Close{Close: &pb.Close{}}})
		p.closed()
	})
}

func TestMalformedMessagesEndTheSession(t *testing.T) {
	for name, b := range map[string][]byte{"nothing": {}, "no protobuf": {0xff, 0xff}, "a frame cut short": {0x0a, 0x05, 0x1a}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(t, context.Background(), &backend{}, ServeOptions{}, nil)
				go func() { _ = p.conn.Write(context.Background(), b) }()
				if got := p.closed(); got != CodeMalformed {
					t.Errorf("closed with %d", got)
				}
			})
		})
	}
}

func TestFloodOfPingsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, context.Background(), &backend{}, ServeOptions{}, nil)
		pings := slices.Repeat([]*pb.Frame{ping()}, wire.MaxBatchFrames)
		for range 2*maxControl/wire.MaxBatchFrames + 2 { // reading no answer
			p.send(pings...)
		}
		var ce *CloseError
		if err := <-p.end; !errors.As(err, &ce) || ce.Code != CodeFlow {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestDeliveriesStayWithinTheDevicesWindow(t *testing.T) {
	for name, c := range map[string]struct {
		hello *pb.Hello
		size  int
		first int
	}{
		"in number":                     {&pb.Hello{WindowEnvelopes: 5, WindowBytes: 1 << 20}, 10, 5},
		"in bytes":                      {&pb.Hello{WindowEnvelopes: 256, WindowBytes: 10_000}, 3000, 3},
		"one above the window goes out": {&pb.Hello{WindowEnvelopes: 256, WindowBytes: 10_000}, 600_000, 1},
		"a window above ours is cut":    {&pb.Hello{WindowEnvelopes: 1 << 31, WindowBytes: 1 << 31}, 10, wire.DeliverWindow},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &backend{mail: mail(400, c.size)}
				p := serve(t, context.Background(), b, ServeOptions{}, c.hello)
				p.seqs(c.first)
				p.send(ping())
				f := p.read().Frames[0] // with credit left, a delivery would come first
				if f.GetPong() == nil {
					t.Fatalf("past the window: %v", f)
				}
				p.send(ack(1, 1))
				if got := p.seqs(1); got[0] != uint64(c.first+1) {
					t.Errorf("after credit for one: %v", got)
				}
				b.mu.Lock()
				if b.acked != 1 || !slices.Equal(b.unread, []Unread{{Seq: 1}}) {
					t.Errorf("acknowledged %d, unreadable %v", b.acked, b.unread)
				}
				b.mu.Unlock()
				p.send(&pb.Frame{Frame: &pb.Frame_Close{Close: &pb.Close{}}})
				p.closed()
			})
		})
	}
}

func TestResultsOutOfOrderAreRunsAndFreeTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		p := serve(t, context.Background(), b, ServeOptions{SubmitWindow: 4}, nil)
		p.read() // Drained
		p.send(submit(1, 1), submit(2, 1), submit(3, 1), submit(4, 1))
		synctest.Wait()
		for _, i := range []int{3, 1, 2, 2} { // the last twice
			b.dones[i](accepted)
		}
		var runs [][2]uint64
		for n := 0; n < 3; {
			for _, f := range p.read().Frames {
				r := f.GetResult()
				runs = append(runs, [2]uint64{r.N, r.Through})
				n += int(r.Through - r.N + 1)
			}
		}
		if len(runs) > 2 {
			t.Errorf("runs %v", runs)
		}
		p.send(submit(5, 1), submit(6, 1), submit(7, 1))
		synctest.Wait()
		if len(b.dones) != 7 {
			t.Errorf("%d submissions arrived", len(b.dones))
		}
		p.send(submit(8, MaxEnvelope))
		if got := p.closed(); got != CodeFlow {
			t.Errorf("a fifth open submission: closed with %d", got)
		}
		b.dones[0](accepted) // after the end: no panic, no block
	})
}

func TestEnvelopeOverTheLimitIsRefusedNotSubmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		p := serve(t, context.Background(), b, ServeOptions{}, nil)
		p.read()
		p.send(submit(1, MaxEnvelope+1))
		if r := p.read().Frames[0].GetResult(); r.GetStatus().GetCode() != pb.Code_CODE_TOO_LARGE || len(b.dones) != 0 {
			t.Errorf("%v, %d submitted", r, len(b.dones))
		}
		p.conn.Close(0, "")
		<-p.end
	})
}

func TestSilentDeviceIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := serve(t, context.Background(), &backend{}, ServeOptions{}, nil)
		p.read()
		p.closed()
		if d := time.Since(start); d != wire.SilenceLimit {
			t.Errorf("noticed after %s", d)
		}
	})
}

func TestDeviceThatStopsReadingIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{mail: mail(10_000, 100)}
		p := serve(t, context.Background(), b, ServeOptions{}, nil)
		start := time.Now()
		<-p.end
		if d := time.Since(start); d > wire.WriteTimeout+2*time.Second {
			t.Errorf("noticed after %s", d)
		}
		if b.pulled > wire.DeliverWindow {
			t.Errorf("%d deliveries were queued", b.pulled)
		}
	})
}

func TestSessionEndsWithItsSignInUnlessReauthMovesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := &backend{until: start.Add(50 * time.Second)}
		p := serve(t, context.Background(), b, ServeOptions{AuthExpires: start.Add(20 * time.Second)}, nil)
		p.read()
		time.Sleep(15 * time.Second)
		p.send(reauth(1))
		time.Sleep(15 * time.Second)
		p.send(ping())
		if p.read().Frames[0].GetPong() == nil {
			t.Fatal("no Pong after the first expiry")
		}
		if got := p.closed(); got != CodeExpired || time.Since(start) != 50*time.Second {
			t.Errorf("closed with %d after %s", got, time.Since(start))
		}
	})
}

func TestNothingCountsAfterRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		b := &backend{}
		p := serve(t, ctx, b, ServeOptions{}, nil)
		p.read()
		cancel(&CloseError{Code: CodeRevoked, Reason: "this device was revoked"})
		p.send(submit(1, 1))
		if got := p.closed(); got != CodeRevoked {
			t.Errorf("closed with %d", got)
		}
		if len(b.dones) != 0 {
			t.Error("a submission after the revocation counts")
		}
	})
}

func TestBackendsFailureTellsTheDeviceNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, context.Background(), &backend{pullErr: errors.New("disk /secret/path")}, ServeOptions{}, nil)
		c := p.read().Frames[0].GetClose()
		if c.GetCode() != CodeInternal || c.Reason != "internal" {
			t.Errorf("%v", c)
		}
		<-p.end
	})
}

func TestHelloIsFirstAloneAndInTime(t *testing.T) {
	good := &pb.Hello{Version: 1, Ticket: make([]byte, 32), WindowEnvelopes: 1, WindowBytes: 1}
	frame := func(h *pb.Hello) *pb.Frame { return &pb.Frame{Frame: &pb.Frame_Hello{Hello: h}} }
	for name, frames := range map[string][]*pb.Frame{
		"another frame":   {ping()},
		"with company":    {frame(good), ping()},
		"another version": {frame(&pb.Hello{Version: 2, Ticket: good.Ticket, WindowEnvelopes: 1, WindowBytes: 1})},
		"a short ticket":  {frame(&pb.Hello{Version: 1, Ticket: good.Ticket[1:], WindowEnvelopes: 1, WindowBytes: 1})},
		"no window":       {frame(&pb.Hello{Version: 1, Ticket: good.Ticket, WindowBytes: 1})},
		"silence":         nil,
		"good":            {frame(good)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				device, node := newPipe()
				if frames != nil {
					b, err := EncodeBatch(frames)
					if err != nil {
						t.Fatal(err)
					}
					go func() { _ = device.Write(context.Background(), b) }()
				}
				go func() { _, _ = device.Read(context.Background()) }() // the Close frame
				start := time.Now()
				h, err := ReadHello(context.Background(), node, Timing{})
				if (err == nil) != (name == "good") || (h == nil) != (err != nil) {
					t.Errorf("%v, %v", h, err)
				}
				if time.Since(start) > wire.HelloTimeout {
					t.Errorf("waited %s", time.Since(start))
				}
				device.Close(0, "")
			})
		})
	}
}
