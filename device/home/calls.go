package home

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
	"google.golang.org/protobuf/proto"
)

// errLeft is the end of a conn that the device closed.
var errLeft = errors.New("home: the device left")

// calls is a session.Conn without a WebSocket: what the device writes becomes Connect
// calls, and their answers what it reads (docs/protocol.md 6.6). Submissions and
// fetches each have a goroutine; an Ack is a call within Write, so that what
// Write returned for is on the node's stable storage.
type calls struct {
	h    *Home
	why  error           // there is no WebSocket
	ctx  context.Context // ends with the conn; its cause is why
	end  context.CancelCauseFunc
	wg   sync.WaitGroup
	kick chan struct{} // the fetcher has credit again

	mu       sync.Mutex
	unread   [][]byte // messages for Read
	readable chan struct{}
	waiting  []*pb.Submit
	submits  chan struct{}
	after    uint64 // highest seq handed to Read; changed by the fetcher alone
	unacked  []handed
	unackedB int
	window   int // the device's
	windowB  int
}

// handed is a delivery that the device has not acknowledged.
type handed struct {
	seq   uint64
	bytes int
}

func newCalls(h *Home, why error) *calls {
	c := &calls{h: h, why: why, kick: make(chan struct{}, 1), readable: make(chan struct{}, 1), submits: make(chan struct{}, 1)}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

// Read implements session.Conn.
func (c *calls) Read(ctx context.Context) ([]byte, error) {
	for {
		c.mu.Lock()
		if len(c.unread) > 0 {
			b := c.unread[0]
			c.unread = c.unread[1:]
			c.mu.Unlock()
			return b, nil
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		case <-c.readable:
		}
	}
}

// Write implements session.Conn.
func (c *calls) Write(ctx context.Context, b []byte) error {
	batch, err := session.DecodeBatch(b)
	if err != nil {
		return err
	}
	for _, f := range batch.Frames {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if err := c.frame(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// Close implements session.Conn.
func (c *calls) Close(int, string) {
	c.end(errLeft)
	c.wg.Wait()
}

func (c *calls) frame(ctx context.Context, f *pb.Frame) error {
	switch f := f.Frame.(type) {
	case *pb.Frame_Hello:
		return c.hello(ctx, f.Hello)
	case *pb.Frame_Submit:
		c.mu.Lock()
		c.waiting = append(c.waiting, f.Submit) // within the window of Welcome
		c.mu.Unlock()
		poke(c.submits)
	case *pb.Frame_Ack:
		return c.ack(ctx, f.Ack)
	case *pb.Frame_Ping:
		// A fetch is always under way and notices a node that is gone.
		return c.push(&pb.Frame{Frame: &pb.Frame_Pong{Pong: &pb.Pong{T: f.Ping.T}}})
	}
	return nil // Reauth: every call shows its own token. Close: Close follows
}

// hello acknowledges what the device has, which is the first thing that can fail, and
// starts to work.
func (c *calls) hello(ctx context.Context, m *pb.Hello) error {
	r, err := c.h.Device.Ack(ctx, connect.NewRequest(&pb.AckRequest{Through: m.AckedThrough, Unreadable: m.Unreadable, Expired: m.Expired}))
	if err != nil {
		return session.FromConnect(err)
	}
	c.h.detour(c.why)
	c.after = m.AckedThrough
	c.window, c.windowB = int(m.WindowEnvelopes), int(m.WindowBytes)
	// A call says no time of its own; the node's server says its clock (RFC 9110 §6.6.1).
	var clock int64
	if at, err := http.ParseTime(r.Header().Get("Date")); err == nil {
		clock = at.UnixMilli()
	}
	err = c.push(&pb.Frame{Frame: &pb.Frame_Welcome{Welcome: &pb.Welcome{
		NextSeq: m.AckedThrough + 1, SubmitWindow: wire.SubmitWindow, SubmitWindowBytes: wire.SubmitWindowBytes,
		HeartbeatMs: uint32(wire.Heartbeat.Milliseconds()), MaxEnvelope: session.MaxEnvelope,
		SubmitMark: r.Msg.SubmitMark, TimeMs: clock, AuthExpiresUnix: clock/1000 + int64(callsLast/time.Second),
	}}})
	if err != nil {
		return err
	}
	c.wg.Go(func() { c.end(c.submitLoop()) })
	c.wg.Go(func() { c.end(c.fetchLoop()) })
	return nil
}

// silence bounds every call: as long as a session would wait for a sign of life.
func (c *calls) silence() time.Duration {
	if d := c.h.o.Timing.Silence; d > 0 {
		return d
	}
	return wire.SilenceLimit
}

// push makes a frame readable, as a message of its own.
func (c *calls) push(f *pb.Frame) error {
	b, err := session.EncodeBatch([]*pb.Frame{f})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.unread = append(c.unread, b)
	c.mu.Unlock()
	poke(c.readable)
	return nil
}

// ack returns when the node has dropped what it names, and gives the fetcher its credit.
func (c *calls) ack(ctx context.Context, m *pb.Ack) error {
	if _, err := c.h.Device.Ack(ctx, connect.NewRequest(&pb.AckRequest{Through: m.Through, Unreadable: m.Unreadable, Expired: m.Expired, Above: m.Above})); err != nil {
		err = session.FromConnect(err)
		c.end(err)
		return err
	}
	c.mu.Lock()
	c.unacked = slices.DeleteFunc(c.unacked, func(h handed) bool {
		gone := h.seq <= m.Through || slices.Contains(m.Above, h.seq)
		if gone {
			c.unackedB -= h.bytes
		}
		return gone
	})
	c.mu.Unlock()
	poke(c.kick)
	return nil
}

// submitLoop hands over what waits, a window's worth at most, one call at a time.
func (c *calls) submitLoop() error {
	for {
		select {
		case <-c.ctx.Done():
			return nil
		case <-c.submits:
		}
		c.mu.Lock()
		subs := c.waiting
		c.waiting = nil
		c.mu.Unlock()
		if len(subs) == 0 {
			continue
		}
		q := &pb.SubmitRequest{}
		for _, s := range subs {
			q.Submissions = append(q.Submissions, &pb.Submission{Counter: s.Counter, Envelope: s.Envelope})
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.silence())
		r, err := c.h.Device.Submit(ctx, connect.NewRequest(q))
		cancel()
		if err != nil {
			return session.FromConnect(err)
		}
		if len(r.Msg.Statuses) != len(subs) {
			return &session.CloseError{Code: session.CodeMalformed, Reason: "another number of results than of submissions"}
		}
		for i, st := range r.Msg.Statuses {
			if err := c.push(&pb.Frame{Frame: &pb.Frame_Result{Result: &pb.Result{N: subs[i].N, Through: subs[i].N, Status: st}}}); err != nil {
				return err
			}
		}
	}
}

// fetchLoop asks for mail as far as the device's window goes: at once while there is
// some, then waiting for it.
func (c *calls) fetchLoop() error {
	until := time.Now().Add(callsLast)
	drained := false
	for {
		n, bytes := c.credit()
		if n <= 0 || bytes <= 0 {
			select {
			case <-c.ctx.Done():
				return nil
			case <-c.kick:
			}
			continue
		}
		wait := time.Duration(0)
		if drained {
			if time.Now().After(until) {
				return errTryUpgrade
			}
			wait = min(session.MaxFetchWait, c.silence()/2)
		}
		got, full, err := c.fetch(n, bytes, wait)
		if err != nil {
			return err
		}
		if full {
			select {
			case <-c.ctx.Done():
				return nil
			case <-c.kick:
			}
		}
		if !got && !drained {
			if err := c.push(&pb.Frame{Frame: &pb.Frame_Drained{Drained: &pb.Drained{Seq: c.after}}}); err != nil {
				return err
			}
		}
		drained = !got
	}
}

func (c *calls) credit() (n, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(c.window-len(c.unacked), wire.MaxBatchFrames), min(c.windowB-c.unackedB, wire.MaxSessionBatch)
}

// fetch makes one call. It reports whether it brought anything, and whether the window
// was too full for the rest of that: one delivery may be larger than the window,
// and goes through when nothing else is unacknowledged.
func (c *calls) fetch(n, bytes int, wait time.Duration) (got, full bool, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.silence())
	defer cancel()
	q := &pb.FetchRequest{After: c.after, Envelopes: uint32(n), Bytes: uint32(bytes), WaitMs: uint32(wait.Milliseconds())}
	r, err := c.h.Device.Fetch(ctx, connect.NewRequest(q))
	if err != nil {
		return false, false, session.FromConnect(err)
	}
	if cl := r.Msg.Close; cl != nil {
		return false, false, &session.CloseError{Code: int(cl.Code), Reason: cl.Reason, Retry: time.Duration(cl.RetryMs) * time.Millisecond}
	}
	if len(r.Msg.Deliveries) > n {
		return false, false, &session.CloseError{Code: session.CodeFlow, Reason: "more deliveries than asked for"}
	}
	for _, d := range r.Msg.Deliveries {
		if !c.take(d) {
			return true, true, nil
		}
		if err := c.push(&pb.Frame{Frame: &pb.Frame_Deliver{Deliver: d}}); err != nil {
			return false, false, err
		}
	}
	return len(r.Msg.Deliveries) > 0, false, nil
}

// take notes a delivery as unacknowledged, if the device's window takes it.
func (c *calls) take(d *pb.Deliver) bool {
	size := proto.Size(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unacked) > 0 && c.unackedB+size > c.windowB {
		return false
	}
	c.unacked = append(c.unacked, handed{d.Seq, size})
	c.unackedB += size
	c.after = d.Seq
	return true
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
