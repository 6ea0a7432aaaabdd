package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a Conn in memory with no buffer: a peer that does not read stops the
// other's Write, as a full TCP connection does.
type pipe struct {
	in, out chan []byte
	closed  chan struct{} // shared by both ends
	once    *sync.Once
}

var errPipe = errors.New("pipe closed")

func newPipe() (a, b *pipe) {
	x, y, c, o := make(chan []byte), make(chan []byte), make(chan struct{}), new(sync.Once)
	return &pipe{x, y, c, o}, &pipe{y, x, c, o}
}

func (p *pipe) Read(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.in:
		return b, nil
	case <-p.closed:
		return nil, errPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Write(ctx context.Context, b []byte) error {
	select {
	case p.out <- b:
		return nil
	case <-p.closed:
		return errPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Close(int, string) { p.once.Do(func() { close(p.closed) }) }

// backend records what the server asks of it.
type backend struct {
	mu      sync.Mutex
	mail    []*pb.Deliver
	pulled  uint64 // highest seq ever handed out
	dones   []func(*pb.Status)
	acked   uint64
	above   []uint64
	ackErr  error
	unread  []Unread
	until   time.Time
	pullErr error
}

func (b *backend) Submit(_ context.Context, _ uint64, _ []byte, done func(*pb.Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dones = append(b.dones, done)
}

func (b *backend) Pull(after uint64, n, _ int) (out []*pb.Deliver, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.mail {
		if d.Seq > after && len(out) < n {
			out = append(out, d)
			b.pulled = max(b.pulled, d.Seq)
		}
	}
	return out, b.pullErr
}

func (b *backend) Wake() <-chan struct{} { return nil }

func (b *backend) Ack(_ context.Context, a Acked) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acked, b.above, b.unread = a.Through, append(b.above, a.Above...), append(b.unread, a.Unread...)
	return b.ackErr
}

func (b *backend) SubmitMark() uint64 { return 41 }

func (b *backend) Reauth(ticket []byte) (time.Time, error) {
	if ticket[0] != 1 {
		return time.Time{}, errors.New("no such ticket")
	}
	return b.until, nil
}

func mail(n, size int) (ds []*pb.Deliver) {
	for i := range n {
		ds = append(ds, &pb.Deliver{Seq: uint64(i + 1), Envelope: &pb.Envelope{Core: make([]byte, size)}})
	}
	return ds
}

// peer is a device by hand.
type peer struct {
	t    *testing.T
	conn *pipe
	end  chan error // what Serve returned
}

func serve(t *testing.T, ctx context.Context, b *backend, o ServeOptions, hello *pb.Hello) *peer {
	t.Helper()
	if hello == nil {
		hello = &pb.Hello{WindowEnvelopes: 256, WindowBytes: 1 << 20}
	}
	if o.AuthExpires.IsZero() {
		o.AuthExpires = time.Now().Add(24 * time.Hour)
	}
	device, node := newPipe()
	p := &peer{t, device, make(chan error, 1)}
	go func() { p.end <- Serve(ctx, node, hello, b, o) }()
	if w := p.read().Frames[0].GetWelcome(); w == nil || w.SubmitMark != 41 {
		t.Fatalf("no Welcome: %v", w)
	}
	return p
}

func (p *peer) send(frames ...*pb.Frame) {
	p.t.Helper()
	b, err := EncodeBatch(frames)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = p.conn.Write(context.Background(), b)
}

func (p *peer) read() *pb.Batch {
	p.t.Helper()
	b, err := p.conn.Read(context.Background())
	if err != nil {
		p.t.Fatalf("reading: %v", err)
	}
	batch, err := DecodeBatch(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return batch
}

// closed reads until the Close frame and returns its code.
func (p *peer) closed() int {
	p.t.Helper()
	for {
		for _, f := range p.read().Frames {
			if c := f.GetClose(); c != nil {
				<-p.end
				return int(c.Code)
			}
		}
	}
}

// seqs reads until n deliveries have come.
func (p *peer) seqs(n int) (got []uint64) {
	p.t.Helper()
	for len(got) < n {
		for _, f := range p.read().Frames {
			if d := f.GetDeliver(); d != nil {
				got = append(got, d.Seq)
			}
		}
	}
	return got
}

func submit(n uint64, size int) *pb.Frame {
	return &pb.Frame{Frame: &pb.Frame_Submit{Submit: &pb.Submit{N: n, Counter: n, Envelope: make([]byte, size)}}}
}

func ack(through uint64, unreadable ...uint64) *pb.Frame {
	return &pb.Frame{Frame: &pb.Frame_Ack{Ack: &pb.Ack{Through: through, Unreadable: unreadable}}}
}

func ping() *pb.Frame { return &pb.Frame{Frame: &pb.Frame_Ping{Ping: &pb.Ping{T: 7}}} }

func reauth(first byte) *pb.Frame {
	ticket := make([]byte, TicketLen)
	ticket[0] = first
	return &pb.Frame{Frame: &pb.Frame_Reauth{Reauth: &pb.Reauth{Ticket: ticket}}}
}

var accepted = wire.Status(pb.Code_CODE_ACCEPTED, "")
