package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// home is a node by hand: each dial hands its end of a pipe to the test.
type home struct {
	dialed chan *pipe
	fail   error
	mu     sync.Mutex
	stored []uint64
	block  chan struct{} // not nil: the handler waits for it
}

func newHome() *home { return &home{dialed: make(chan *pipe)} }

func (h *home) options() ClientOptions {
	return ClientOptions{
		Dial: func(ctx context.Context) (Conn, []byte, error) {
			if h.fail != nil {
				return nil, nil, h.fail
			}
			device, node := newPipe()
			select {
			case h.dialed <- node:
				return device, make([]byte, TicketLen), nil
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		},
		Mark: func() uint64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.stored) == 0 {
				return 0
			}
			return h.stored[len(h.stored)-1]
		},
		Handler: func(ctx context.Context, ds []*pb.Deliver) ([]Unread, error) {
			if h.block != nil {
				select {
				case <-h.block:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, d := range ds {
				h.stored = append(h.stored, d.Seq)
			}
			return nil, nil
		},
	}
}

// accept answers Hello and returns it.
func (h *home) accept(t *testing.T, window, bytes uint32) (*peer, *pb.Hello) {
	t.Helper()
	p := &peer{t: t, conn: <-h.dialed}
	hello := p.read().Frames[0].GetHello()
	now := time.Now()
	p.send(&pb.Frame{Frame: &pb.Frame_Welcome{Welcome: &pb.Welcome{SubmitWindow: window, SubmitWindowBytes: bytes,
		TimeMs: now.UnixMilli(), AuthExpiresUnix: now.Add(time.Hour).Unix()}}})
	return p, hello
}

func runClient(t *testing.T, o ClientOptions) (*Client, context.CancelFunc, <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	c, end := NewClient(o), make(chan error, 1)
	go func() { end <- c.Run(ctx) }()
	return c, cancel, end
}

func deliver(seq uint64, size int) *pb.Frame {
	return &pb.Frame{Frame: &pb.Frame_Deliver{Deliver: &pb.Deliver{Seq: seq, Envelope: &pb.Envelope{Core: make([]byte, size)}}}}
}

func result(n, through uint64) *pb.Frame {
	return &pb.Frame{Frame: &pb.Frame_Result{Result: &pb.Result{N: n, Through: through, Status: accepted}}}
}

func TestDeviceEndsTheConnectionOfANodeThatBreaksTheRules(t *testing.T) {
	flood := []*pb.Frame{}
	for seq := range uint64(6) {
		flood = append(flood, deliver(seq+1, 1))
	}
	for name, c := range map[string]struct {
		send []*pb.Frame
		want uint32
	}{
		"more deliveries than the window": {flood, CodeFlow},
		"more bytes than the window":      {[]*pb.Frame{deliver(1, 600), deliver(2, 600)}, CodeFlow},
		"a delivery twice":                {[]*pb.Frame{deliver(1, 1), deliver(1, 1)}, CodeMalformed},
		"a delivery numbered zero":        {[]*pb.Frame{deliver(0, 1)}, CodeMalformed},
		"a result of nothing":             {[]*pb.Frame{result(1, 1)}, CodeMalformed},
		"a frame of the device's":         {[]*pb.Frame{ping()}, CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHome()
				h.block = make(chan struct{}) // nothing is stored, so nothing acknowledged
				o := h.options()
				o.WindowEnvelopes, o.WindowBytes = 5, 1000
				_, cancel, end := runClient(t, o)
				p, _ := h.accept(t, 64, 1<<20)
				p.send(c.send...)
				if got := p.read().Frames[0].GetClose(); got.GetCode() != c.want {
					t.Errorf("%v, want %d", got, c.want)
				}
				cancel()
				<-end
			})
		})
	}
}

func TestDeviceKeepsToTheNodesWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		c, cancel, end := runClient(t, h.options())
		p, _ := h.accept(t, 2, 1<<20)
		for n := range uint64(3) {
			if err := c.Submit(context.Background(), n+1, []byte("x"), func(*pb.Status) {}); err != nil {
				t.Fatal(err)
			}
		}
		var got []uint64
		for len(got) < 2 {
			for _, f := range p.read().Frames {
				got = append(got, f.GetSubmit().GetN())
			}
		}
		p.send(result(1, 1))
		got = append(got, p.read().Frames[0].GetSubmit().GetN())
		if !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Errorf("sent %v", got)
		}
		cancel()
		<-end
	})
}

func TestWhatWaitsForItsResultIsNotSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		c, cancel, end := runClient(t, h.options())
		p, _ := h.accept(t, 64, 1<<20)
		answers := 0
		for _, counter := range []uint64{1, 2, 1, 2, 3} {
			if err := c.Submit(context.Background(), counter, []byte("x"), func(*pb.Status) { answers++ }); err != nil {
				t.Fatal(err)
			}
		}
		var got []uint64
		for len(got) < 3 {
			for _, f := range p.read().Frames {
				got = append(got, f.GetSubmit().GetCounter())
			}
		}
		p.send(result(1, 3))
		synctest.Wait()
		if !slices.Equal(got, []uint64{1, 2, 3}) || answers != 3 {
			t.Errorf("sent %v, %d answers", got, answers)
		}
		if err := c.Submit(context.Background(), 3, []byte("x"), func(*pb.Status) {}); err != nil {
			t.Fatal(err)
		}
		if f := p.read().Frames[0].GetSubmit(); f.GetCounter() != 3 {
			t.Errorf("what has its result may be asked for again: %v", f)
		}
		cancel()
		<-end
	})
}

func TestSubmitWaitsForRoomAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		c, cancel, end := runClient(t, h.options())
		for n := range uint64(wire.SubmitWindow) {
			if err := c.Submit(context.Background(), n+1, nil, func(*pb.Status) {}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		if err := c.Submit(ctx, 65, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the 65th: %v", err)
		}
		if err := c.Submit(ctx, 65, make([]byte, MaxEnvelope+1), nil); wire.StatusOf(err).Code != pb.Code_CODE_TOO_LARGE {
			t.Errorf("too large: %v", err)
		}
		cancel()
		<-end
	})
}

func TestDeviceResumesAtItsMarkAndAcknowledgesOnlyWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		_, cancel, end := runClient(t, h.options())
		p, hello := h.accept(t, 64, 1<<20)
		if hello.AckedThrough != 0 {
			t.Errorf("begins at %d", hello.AckedThrough)
		}
		p.send(deliver(3, 1), deliver(9, 1))
		if a := p.read().Frames[0].GetAck(); a.GetThrough() != 9 {
			t.Errorf("acknowledged %v", a)
		}
		p.conn.Close(0, "")
		_, hello = h.accept(t, 64, 1<<20)
		if hello.AckedThrough != 9 {
			t.Errorf("resumes at %d", hello.AckedThrough)
		}
		cancel()
		<-end
	})
}

func TestDevicePingsAndNoticesASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		ended := make(chan error, 4)
		o := h.options()
		o.State = func(up bool, why error) {
			if !up {
				ended <- why
			}
		}
		_, cancel, end := runClient(t, o)
		p, _ := h.accept(t, 64, 1<<20)
		start := time.Now()
		if p.read().Frames[0].GetPing() == nil || time.Since(start) != wire.Heartbeat {
			t.Errorf("no ping after %s", time.Since(start))
		}
		if p.read().Frames[0].GetPing() == nil {
			t.Error("no second ping")
		}
		<-ended
		if d := time.Since(start); d > wire.SilenceLimit+2*time.Second {
			t.Errorf("noticed after %s", d)
		}
		cancel()
		<-end
	})
}

func TestReconnectWaitsAsLongAsTheNodeSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		_, cancel, end := runClient(t, h.options())
		p, _ := h.accept(t, 64, 1<<20)
		p.send((&CloseError{Code: CodeGoingAway, Reason: "upgrade", Retry: time.Minute}).frame())
		start := time.Now()
		go func() { _, _ = p.conn.Read(context.Background()) }()
		h.accept(t, 64, 1<<20)
		if d := time.Since(start); d < time.Minute || d > time.Minute+wire.ReconnectCeiling {
			t.Errorf("back after %s", d)
		}
		cancel()
		<-end
	})
}

func TestRunEndsWhenTryingAgainCannotHelp(t *testing.T) {
	for name, fail := range map[string]error{
		"revoked":           wire.Refuse(pb.Code_CODE_REVOKED, ""),
		"closed as revoked": &CloseError{Code: CodeRevoked},
		"replaced":          &CloseError{Code: CodeReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHome()
				h.fail = fail
				c, cancel, end := runClient(t, h.options())
				defer cancel()
				if err := <-end; !errors.Is(err, fail) {
					t.Errorf("ended with %v", err)
				}
				if err := c.Submit(context.Background(), 1, nil, nil); !errors.Is(err, fail) {
					t.Errorf("Submit after the end: %v", err)
				}
			})
		})
	}
}

func TestBackoffIsFullJitterWithinItsBounds(t *testing.T) {
	for attempt := range 200 {
		for _, r := range []float64{0, 0.5, 0.999999} {
			if d := backoff(attempt, r); d < wire.ReconnectFloor || d > wire.ReconnectCeiling {
				t.Errorf("attempt %d: %s", attempt, d)
			}
		}
	}
	if backoff(30, 0) != wire.ReconnectFloor || backoff(30, 0.999) < 29*time.Second {
		t.Error("no full jitter")
	}
}
