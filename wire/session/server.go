package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// maxControl is how many Pongs may wait for a peer that does not read.
const maxControl = 256

type server struct {
	conn    Conn
	backend Backend
	o       ServeOptions
	live    context.Context // ends when the session may do nothing more for the device
	writing context.Context // ends a moment after live
	kick    chan struct{}   // the writer has something to look at
	ackKick chan struct{}

	mu        sync.Mutex // guards all below; held for no call
	lastN     uint64
	open      map[uint64]int // submissions without a written result: n -> bytes
	openBytes int
	results   []numbered
	control   []*pb.Frame
	expires   time.Time
	window    int // of the device, clamped
	windowB   int
	unacked   []sent
	unackedB  int
	sentUpTo  uint64
	ackTo     uint64   // received
	above     []uint64 // received, above it and not yet handed on; rising
	unread    []Unread // received with them, not yet handed on
	acked     uint64   // committed
}

type numbered struct {
	n      uint64
	status *pb.Status
}

type sent struct {
	seq   uint64
	bytes int
	acked bool // named above what is acknowledged
}

// Serve runs a session after ReadHello and the ticket's redemption, until it ends.
// When ctx ends, its cause, if a *CloseError, is what the device is told; from then
// on no further submission counts. It returns why the session ended, after all its
// goroutines have.
func Serve(ctx context.Context, c Conn, hello *pb.Hello, b Backend, o ServeOptions) error {
	live, end := context.WithCancelCause(ctx)
	defer end(nil)
	o = o.orDefault()
	s := &server{conn: c, backend: b, o: o, live: live, kick: make(chan struct{}, 1), ackKick: make(chan struct{}, 1),
		open: make(map[uint64]int), expires: o.AuthExpires,
		window: int(min(hello.WindowEnvelopes, wire.DeliverWindow)), windowB: int(min(hello.WindowBytes, wire.DeliverWindowBytes)),
		sentUpTo: hello.AckedThrough, ackTo: hello.AckedThrough, acked: hello.AckedThrough}

	// A message that is leaving may take a moment longer than live: cancelling a
	// Write tears a WebSocket down, and the Close frame with it.
	var cut context.CancelFunc
	s.writing, cut = context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(live, func() { time.AfterFunc(closeWait, cut) })()

	said, _ := unreadOf(hello.Unreadable, hello.Expired)
	err := b.Ack(live, Acked{Through: hello.AckedThrough, Unread: said})
	if err == nil {
		err = write(s.writing, c, []*pb.Frame{s.welcome()}, o.Timing.Write)
	}
	// The reader outlives live so that a Close frame can still leave: cancelling a
	// Read tears a WebSocket down.
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	if err == nil {
		wg.Go(func() { end(s.readLoop(reading)) })
		wg.Go(func() { end(s.ackLoop()) })
		err = s.writeLoop()
	}
	end(err)
	if cause := context.Cause(live); cause != nil {
		err = cause
	}
	if errors.Is(err, context.Canceled) {
		err = &CloseError{Code: CodeGoingAway, Reason: "the node is stopping"}
	}
	say(c, closeOf(err), o.Timing.Write)
	stop()
	wg.Wait()
	return err
}

func (s *server) welcome() *pb.Frame {
	return &pb.Frame{Frame: &pb.Frame_Welcome{Welcome: &pb.Welcome{
		Session: s.o.Session[:], NextSeq: s.acked + 1, AuthExpiresUnix: s.expires.Unix(),
		SubmitWindow: uint32(s.o.SubmitWindow), SubmitWindowBytes: uint32(s.o.SubmitWindowBytes),
		HeartbeatMs: uint32(s.o.Timing.Heartbeat.Milliseconds()), MaxEnvelope: MaxEnvelope,
		SubmitMark: s.backend.SubmitMark(), TimeMs: s.o.Clock().UnixMilli(),
	}}}
}

func (s *server) readLoop(ctx context.Context) error {
	for {
		batch, err := read(ctx, s.conn, s.o.Timing.Silence)
		if err != nil {
			return err
		}
		for _, f := range batch.Frames {
			if err := s.handle(f); err != nil {
				return err
			}
		}
	}
}

func (s *server) handle(f *pb.Frame) error {
	switch f := f.Frame.(type) {
	case *pb.Frame_Submit:
		return s.submit(f.Submit)
	case *pb.Frame_Ack:
		return s.ack(f.Ack)
	case *pb.Frame_Ping:
		return s.queue(&pb.Frame{Frame: &pb.Frame_Pong{Pong: &pb.Pong{T: f.Ping.T}}})
	case *pb.Frame_Reauth:
		return s.reauth(f.Reauth.Ticket)
	case *pb.Frame_Close:
		return &CloseError{Code: CodeGoingAway, Reason: "the device left"}
	}
	return malformed("a frame that a device does not send here")
}

func (s *server) submit(m *pb.Submit) error {
	if err := s.reserve(m); err != nil {
		return err
	}
	if len(m.Envelope) > MaxEnvelope {
		s.settle(m.N, wire.Status(pb.Code_CODE_TOO_LARGE, "an envelope of %d bytes: at most %d are allowed", len(m.Envelope), MaxEnvelope))
		return nil
	}
	// Revocation cancels live first: nothing that the device sent after it counts.
	if err := context.Cause(s.live); err != nil {
		return err
	}
	s.backend.Submit(s.live, m.Counter, m.Envelope, func(st *pb.Status) { s.settle(m.N, st) })
	return nil
}

// reserve takes the submission's place in the window.
func (s *server) reserve(m *pb.Submit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.N != s.lastN+1 {
		return malformed("submissions are numbered without gaps")
	}
	if len(s.open) >= s.o.SubmitWindow || s.openBytes+len(m.Envelope) > s.o.SubmitWindowBytes {
		return breach("more submissions than the window allows")
	}
	s.lastN = m.N
	s.open[m.N] = len(m.Envelope)
	s.openBytes += len(m.Envelope)
	return nil
}

func (s *server) settle(n uint64, st *pb.Status) {
	s.mu.Lock()
	if _, open := s.open[n]; open && !slices.ContainsFunc(s.results, func(r numbered) bool { return r.n == n }) {
		s.results = append(s.results, numbered{n, st})
	}
	s.mu.Unlock()
	poke(s.kick)
}

func (s *server) queue(f *pb.Frame) error {
	s.mu.Lock()
	full := len(s.control) >= maxControl
	if !full {
		s.control = append(s.control, f)
	}
	s.mu.Unlock()
	if full {
		return breach("more pings than answers were read")
	}
	poke(s.kick)
	return nil
}

func (s *server) reauth(ticket []byte) error {
	if len(ticket) != TicketLen {
		return malformed("a ticket has 32 bytes")
	}
	until, err := s.backend.Reauth(ticket)
	if err != nil {
		return &CloseError{Code: CodeExpired, Reason: "the ticket does not stand"}
	}
	s.mu.Lock()
	s.expires = until
	s.mu.Unlock()
	poke(s.kick)
	return nil
}

// ack notes what the device has stored; ackLoop hands it on, so that commits of
// acknowledgements hold no submission back.
func (s *server) ack(m *pb.Ack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Through > s.sentUpTo || m.Through < s.ackTo {
		return malformed("an acknowledgement of what was not sent")
	}
	if len(m.Unreadable) > len(s.unacked) || len(m.Above) > len(s.unacked) {
		return malformed("more unreadable, or more above what is acknowledged, than was sent")
	}
	if !aboveStands(m.Above, m.Through) {
		return malformed("numbers above what is acknowledged out of order")
	}
	for _, seq := range m.Above {
		if i, found := s.sent(seq); !found || s.unacked[i].acked {
			return malformed("an acknowledgement of what was not sent")
		}
	}
	for n, u := range m.Unreadable {
		if i, found := s.sent(u); !found || s.unacked[i].acked || u <= s.ackTo || !covers(m.Through, m.Above, u) {
			return malformed("an unreadable that was not sent")
		}
		if slices.ContainsFunc(s.unread, func(x Unread) bool { return x.Seq == u }) || slices.Contains(m.Unreadable[:n], u) {
			return malformed("an unreadable twice")
		}
	}
	unread, ok := unreadOf(m.Unreadable, m.Expired)
	if !ok {
		return malformed("expired that is not unreadable")
	}
	for _, seq := range m.Above {
		i, _ := s.sent(seq)
		s.unacked[i].acked = true
		s.above = append(s.above, seq)
	}
	slices.Sort(s.above)
	s.unread = append(s.unread, unread...)
	s.ackTo = m.Through
	poke(s.ackKick)
	return nil
}

// sent finds a delivery that is not acknowledged; s.mu is held.
func (s *server) sent(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(s.unacked, seq, func(d sent, seq uint64) int { return cmp.Compare(d.seq, seq) })
}

func (s *server) ackLoop() error {
	for {
		select {
		case <-s.live.Done():
			return s.lastAck()
		case <-s.ackKick:
		}
		a, news := s.takeAcked()
		if !news {
			continue
		}
		if err := s.backend.Ack(s.live, a); err != nil {
			return err
		}
		s.mu.Lock()
		s.acked = a.Through
		s.unacked = slices.DeleteFunc(s.unacked, func(d sent) bool {
			gone := covers(a.Through, a.Above, d.seq)
			if gone {
				s.unackedB -= d.bytes
			}
			return gone
		})
		s.mu.Unlock()
		poke(s.kick)
	}
}

// lastAck hands on what the device acknowledged with its goodbye. A device that was
// revoked or replaced has nothing more to say.
func (s *server) lastAck() error {
	var why *CloseError
	if errors.As(context.Cause(s.live), &why) && (why.Code == CodeRevoked || why.Code == CodeReplaced) {
		return nil
	}
	a, news := s.takeAcked()
	if !news {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.live), s.o.Timing.Write)
	defer cancel()
	return s.backend.Ack(ctx, a)
}

// takeAcked is what was acknowledged and is not handed on yet, if there is any.
func (s *server) takeAcked() (a Acked, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a = Acked{s.ackTo, s.above, s.unread}
	s.above, s.unread = nil, nil
	return a, a.Through != s.acked || len(a.Above) > 0
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
