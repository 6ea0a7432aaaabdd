package session

import (
	"context"
	"sync"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// link is one connection of a Client.
type link struct {
	c            *Client
	conn         Conn
	kick         chan struct{}
	submitWindow int
	submitBytes  int
	lastN        uint64 // guarded by c.mu
	expires      time.Time

	mu        sync.Mutex
	inbox     []*pb.Deliver // read, not yet handed over
	drained   bool          // said after what is in inbox
	empty     bool          // nothing has come since the node said so
	inboxKick chan struct{}
	lastSeq   uint64 // highest received
	heldN     int    // received and not acknowledged: what the window bounds
	heldBytes int
	through   uint64   // stored
	above     []uint64 // stored as well, not yet acknowledged; rising
	ackN      int      // stored, not yet acknowledged
	ackBytes  int
	unread    []Unread // not yet said, rising
	ackSince  time.Time
	pongs     int    // since the last delivery, Drained or Ack: held.go
	reauth    []byte // a ticket to send

	// Of handleLoop.
	open     []*pb.Deliver // handed over and not stored
	handedTo uint64
}

type handlerError struct{ err error }

func (e *handlerError) Error() string { return "session: storing deliveries: " + e.err.Error() }
func (e *handlerError) Unwrap() error { return e.err }

func newLink(c *Client, conn Conn) *link {
	return &link{c: c, conn: conn, kick: make(chan struct{}, 1), inboxKick: make(chan struct{}, 1)}
}

// greet exchanges Hello and Welcome.
func (l *link) greet(ctx context.Context, ticket []byte) error {
	o := l.c.o
	mark := o.Mark()
	l.lastSeq, l.through = mark, mark
	hello := &pb.Hello{Version: 1, Ticket: ticket, AckedThrough: mark, WindowEnvelopes: uint32(o.WindowEnvelopes), WindowBytes: uint32(o.WindowBytes)}
	if o.Unread != nil {
		hello.Unreadable, hello.Expired = numbers(o.Unread())
	}
	if err := write(ctx, l.conn, []*pb.Frame{{Frame: &pb.Frame_Hello{Hello: hello}}}, o.Timing.Write); err != nil {
		return err
	}
	batch, err := read(ctx, l.conn, o.Timing.Hello+o.Timing.Write)
	if err != nil {
		return err
	}
	if cl := batch.Frames[0].GetClose(); cl != nil {
		return closedBy(cl)
	}
	w := batch.Frames[0].GetWelcome()
	if w == nil || len(batch.Frames) != 1 || w.SubmitWindow == 0 || w.SubmitWindowBytes < MaxEnvelope {
		return malformed("the answer to Hello is no Welcome that stands")
	}
	l.submitWindow, l.submitBytes = int(w.SubmitWindow), int(w.SubmitWindowBytes)
	// The node's clock may differ: what counts is how long it gives from now.
	l.expires = o.Clock().Add(time.Unix(w.AuthExpiresUnix, 0).Sub(time.UnixMilli(w.TimeMs)))
	var clock time.Time
	if w.TimeMs > 0 {
		clock = time.UnixMilli(w.TimeMs)
	}
	if err := o.Welcomed(w.SubmitMark, clock); err != nil {
		return &handlerError{err}
	}
	return nil
}

func closedBy(cl *pb.Close) error {
	return &CloseError{Code: int(cl.Code), Reason: cl.Reason, Retry: time.Duration(cl.RetryMs) * time.Millisecond}
}

// run lives until the connection ends; it returns after its goroutines have.
func (l *link) run(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	reading, stop := context.WithCancel(context.WithoutCancel(parent))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { end(l.readLoop(reading)) })
	wg.Go(func() { end(l.handleLoop(ctx)) })
	wg.Go(func() { l.reauthLoop(ctx) })
	err := l.writeLoop(ctx)
	end(err)
	err = context.Cause(ctx)
	why := &CloseError{Code: CodeGoingAway, Reason: "the device leaves"}
	if parent.Err() == nil {
		why = closeOf(err)
	}
	l.lastAck(parent)
	say(l.conn, why, l.c.o.Timing.Write)
	stop()
	wg.Wait()
	return err
}

// lastAck acknowledges what was stored before the device leaves of its own accord,
// so that a short visit does not leave the node's copies behind.
func (l *link) lastAck(parent context.Context) {
	if parent.Err() == nil {
		return
	}
	l.mu.Lock()
	l.ackSince = time.Time{}
	l.mu.Unlock()
	var p packer
	l.takeAck(&p)
	if len(p.frames) > 0 {
		_ = write(context.WithoutCancel(parent), l.conn, p.frames, min(l.c.o.Timing.Write, time.Second))
	}
}

func (l *link) readLoop(ctx context.Context) error {
	for {
		batch, err := read(ctx, l.conn, l.c.o.Timing.Silence)
		if err != nil {
			return err
		}
		for _, f := range batch.Frames {
			if err := l.handle(f); err != nil {
				return err
			}
		}
	}
}

func (l *link) handle(f *pb.Frame) error {
	switch f := f.Frame.(type) {
	case *pb.Frame_Result:
		err := l.c.settle(f.Result, l.c.sentN(l))
		poke(l.kick)
		return err
	case *pb.Frame_Deliver:
		return l.receive(f.Deliver)
	case *pb.Frame_Drained:
		l.mu.Lock()
		l.drained, l.empty, l.pongs = true, true, 0
		l.mu.Unlock()
		poke(l.inboxKick)
		return nil
	case *pb.Frame_Pong:
		l.mu.Lock()
		l.pongs++
		l.mu.Unlock()
		return nil
	case *pb.Frame_Close:
		return closedBy(f.Close)
	case nil:
		return nil // a frame of a later version
	}
	return malformed("a frame that a node does not send here")
}

// receive holds the node to the window: its queue here never grows beyond. A delivery
// without envelope is one that the node can no longer read: the handler says so.
func (l *link) receive(d *pb.Deliver) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Seq <= l.lastSeq {
		return malformed("a delivery out of order")
	}
	size := proto.Size(d)
	if l.heldN >= l.c.o.WindowEnvelopes || l.heldN > 0 && l.heldBytes+size > l.c.o.WindowBytes {
		return breach("more deliveries than the window allows")
	}
	l.lastSeq = d.Seq
	l.heldN++
	l.heldBytes += size
	l.inbox = append(l.inbox, d)
	l.drained, l.empty, l.pongs = false, false, 0
	poke(l.inboxKick)
	return nil
}

func (l *link) handleLoop(ctx context.Context) error {
	again := time.NewTicker(l.c.o.Timing.Again)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if err := l.handAgain(ctx); err != nil {
				return err
			}
			continue
		case <-l.inboxKick:
		}
		l.mu.Lock()
		ds, drained := l.inbox, l.drained
		l.inbox, l.drained = nil, false
		l.mu.Unlock()
		if len(ds) > 0 {
			l.open, l.handedTo = append(l.open, ds...), ds[len(ds)-1].Seq
			if err := l.hand(ctx, l.c.o.Handler, ds); err != nil {
				return err
			}
			if err := l.makeRoom(ctx); err != nil {
				return err
			}
		}
		if drained {
			l.c.o.Drained()
		}
	}
}

func (l *link) writeLoop(ctx context.Context) error {
	t := l.c.o.Timing
	lastWrite := time.Now()
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var p packer
		wait := l.takeAck(&p)
		l.takeReauth(&p)
		l.c.take(&p, l)
		idle := time.Since(lastWrite)
		if idle >= t.Heartbeat && len(p.frames) == 0 {
			p.add(&pb.Frame{Frame: &pb.Frame_Ping{Ping: &pb.Ping{T: time.Now().UnixMilli()}}}, 0)
		}
		if len(p.frames) > 0 {
			if err := write(ctx, l.conn, p.frames, t.Write); err != nil {
				return err
			}
			lastWrite = time.Now()
			continue
		}
		timer := time.NewTimer(min(wait, t.Heartbeat-idle))
		select {
		case <-ctx.Done():
		case <-l.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// takeAck acknowledges at a quarter of the window, or after AckDelay; else it
// returns how long to wait.
func (l *link) takeAck(p *packer) time.Duration {
	const never = time.Hour
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ackN == 0 {
		return never
	}
	left := l.c.o.Timing.AckDelay - time.Since(l.ackSince)
	if left > 0 && l.ackN < l.c.o.WindowEnvelopes/4 && l.ackBytes < l.c.o.WindowBytes/4 {
		return left
	}
	unread, expired := numbers(l.takeUnread())
	above := l.above
	l.above = nil
	p.add(&pb.Frame{Frame: &pb.Frame_Ack{Ack: &pb.Ack{Through: l.through, Unreadable: unread, Expired: expired, Above: above}}}, 10*(len(unread)+len(expired)+len(above)))
	l.heldN -= l.ackN
	l.heldBytes -= l.ackBytes
	l.ackN, l.ackBytes, l.pongs = 0, 0, 0
	return never
}

func (l *link) takeReauth(p *packer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reauth != nil {
		p.add(&pb.Frame{Frame: &pb.Frame_Reauth{Reauth: &pb.Reauth{Ticket: l.reauth}}}, TicketLen)
		l.reauth = nil
	}
}

// reauthLoop moves the session's end: at four fifths of what is left a fresh
// ticket goes out. A failure is tried again with what is left then; when nothing
// is, the node closes with 4401 and the client connects anew.
func (l *link) reauthLoop(ctx context.Context) {
	if l.c.o.Ticket == nil {
		return
	}
	life := l.expires.Sub(l.c.o.Clock())
	for left := life; ; {
		t := time.NewTimer(max(left*4/5, time.Second))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		ticket, err := l.c.o.Ticket(ctx)
		if err != nil || len(ticket) != TicketLen {
			left = l.expires.Sub(l.c.o.Clock())
			continue
		}
		l.mu.Lock()
		l.reauth = ticket
		l.mu.Unlock()
		l.expires = l.c.o.Clock().Add(life)
		left = life
		poke(l.kick)
	}
}
