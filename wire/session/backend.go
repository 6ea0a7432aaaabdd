package session

import (
	"context"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Backend is what a node does for one device's session. Serve calls each method
// from one goroutine at a time; Submit, Pull, Ack and Reauth may overlap each other.
type Backend interface {
	// Submit takes one submission, in the order of arrival. It may block, which
	// holds the device back, until ctx ends. done is called exactly once, from any
	// goroutine, before or after Submit returns and even after the session has
	// ended; it never blocks.
	Submit(ctx context.Context, counter uint64, core []byte, done func(*pb.Status))
	// Pull returns the mailbox's next deliveries above after, at most n of them
	// and about so many bytes, but one if there is any. The order is that of seq.
	Pull(after uint64, n, bytes int) ([]*pb.Deliver, error)
	// Wake returns a channel that yields, or is closed, once there may be
	// deliveries that a Pull before did not return. It is asked for before each Pull.
	Wake() <-chan struct{}
	// Ack drops what the device has, on stable storage when it returns nil.
	// The device's first Through comes from its own memory: the Backend bounds it
	// by what it has ever given out.
	Ack(ctx context.Context, a Acked) error
	// SubmitMark is the highest counter that has a result.
	SubmitMark() uint64
	// Reauth redeems a new ticket of the same device and returns until when the
	// session may last.
	Reauth(ticket []byte) (time.Time, error)
}

// ServeOptions belong to one session.
type ServeOptions struct {
	Session           [16]byte  // its ID, for logs of both ends
	AuthExpires       time.Time // the session ends then, unless Reauth moves it
	SubmitWindow      int       // 0: wire.SubmitWindow
	SubmitWindowBytes int       // 0: wire.SubmitWindowBytes
	Timing            Timing
	Clock             func() time.Time // nil: time.Now
}

func (o ServeOptions) orDefault() ServeOptions {
	if o.SubmitWindow <= 0 {
		o.SubmitWindow = wire.SubmitWindow
	}
	if o.SubmitWindowBytes <= 0 {
		o.SubmitWindowBytes = wire.SubmitWindowBytes
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.Timing = o.Timing.orDefault()
	return o
}

// TicketLen is the length of a ticket (docs/protocol.md 6.1).
const TicketLen = 32

// MaxEnvelope is the longest core that a Submit may carry.
const MaxEnvelope = wire.MaxMessageBody + wire.MaxEnvelopeExtra

// ReadHello reads the first message of a new connection: one Hello frame alone,
// within the Hello time. It closes the connection when it fails.
func ReadHello(ctx context.Context, c Conn, t Timing) (*pb.Hello, error) {
	t = t.orDefault()
	batch, err := read(ctx, c, t.Hello)
	if err == nil {
		var h *pb.Hello
		if h, err = checkHello(batch); err == nil {
			return h, nil
		}
	}
	say(c, closeOf(err), t.Write)
	return nil, err
}

func checkHello(batch *pb.Batch) (*pb.Hello, error) {
	h := batch.Frames[0].GetHello()
	switch {
	case h == nil || len(batch.Frames) != 1:
		return nil, malformed("the first frame is Hello, alone")
	case h.Version != wire.ProtocolVersion:
		return nil, malformed("a version that this node does not speak")
	case len(h.Ticket) != TicketLen:
		return nil, malformed("a ticket has 32 bytes")
	case h.WindowEnvelopes == 0 || h.WindowBytes == 0:
		return nil, malformed("an empty window")
	}
	if _, ok := unreadStands(h.Unreadable, h.Expired, h.AckedThrough, nil); !ok {
		return nil, malformed("unreadable out of order, above what is acknowledged or too many")
	}
	return h, nil
}

// Refuse ends a connection after ReadHello with a Close frame.
func Refuse(c Conn, why *CloseError, t Timing) { say(c, why, t.orDefault().Write) }
