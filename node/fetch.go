package node

import (
	"context"
	"sync"
	"time"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// deviceSession is a device's side of the node while its session lasts: what it
// submits goes to submit in batches, what waits in its mailbox is pulled from
// there and never queued here. It is session.Backend.
type deviceSession struct {
	n      *Node
	device wire.DeviceID

	mu      sync.Mutex
	waiting []pendingSubmit
	ready   chan struct{}

	wake chan struct{} // yields when there may be more
	ask  chan uint64   // Pull to the waiter: wait after this seq
}

type pendingSubmit struct {
	ownSubmission
	done func(*pb.Status)
}

func (n *Node) newDeviceSession(device wire.DeviceID) *deviceSession {
	return &deviceSession{n: n, device: device,
		ready: make(chan struct{}, 1), wake: make(chan struct{}, 1), ask: make(chan uint64, 1)}
}

// run works until ctx ends: one goroutine commits submissions, one waits for mail.
func (s *deviceSession) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.commitLoop(ctx) })
	wg.Go(func() { s.waitLoop(ctx) })
	wg.Wait()
}

// Submit implements session.Backend. The session's window bounds what waits.
func (s *deviceSession) Submit(_ context.Context, counter uint64, core []byte, done func(*pb.Status)) {
	s.mu.Lock()
	s.waiting = append(s.waiting, pendingSubmit{ownSubmission{counter: counter, core: core}, done})
	s.mu.Unlock()
	poke(s.ready)
}

// commitLoop takes everything that has gathered while the batch before was being
// written: the busier, the larger the batches.
func (s *deviceSession) commitLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			s.refuseRest()
			return
		case <-s.ready:
		}
		for _, batch := range s.take() {
			subs := make([]ownSubmission, len(batch))
			for i, p := range batch {
				subs[i] = p.ownSubmission
			}
			for i, status := range s.n.submit(ctx, s.device, subs) {
				batch[i].done(status)
			}
		}
	}
}

// take returns what waits, in batches of one session window.
func (s *deviceSession) take() [][]pendingSubmit {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]pendingSubmit
	for len(s.waiting) > 0 {
		n := min(len(s.waiting), wire.SubmitWindow)
		out = append(out, s.waiting[:n:n])
		s.waiting = s.waiting[n:]
	}
	s.waiting = nil
	return out
}

func (s *deviceSession) refuseRest() {
	for _, batch := range s.take() {
		for _, p := range batch {
			p.done(wire.Status(pb.Code_CODE_SHUTTING_DOWN, ""))
		}
	}
}

// Pull implements session.Backend: deliveries straight from the mailbox.
func (s *deviceSession) Pull(after uint64, n, bytes int) ([]*pb.Deliver, error) {
	after = s.n.mailed.in(after)
	entries, err := s.n.mail.Fetch(context.Background(), s.device, after, n, bytes)
	if err != nil {
		return nil, err
	}
	out := make([]*pb.Deliver, 0, len(entries))
	for _, e := range entries {
		if e.Err != nil {
			// The copy is damaged: the number alone, so that the device acknowledges it as unreadable.
			out = append(out, &pb.Deliver{Seq: s.n.mailed.out(e.Seq)})
			continue
		}
		if e.Ended {
			out = append(out, &pb.Deliver{Seq: s.n.mailed.out(e.Seq), Ended: endedOf(e.Envelope)})
			continue
		}
		out = append(out, &pb.Deliver{Seq: s.n.mailed.out(e.Seq), Envelope: e.Envelope})
	}
	if len(entries) > 0 {
		after = entries[len(entries)-1].Seq
	}
	select { // the waiter shall wait for what comes after this
	case <-s.ask:
	default:
	}
	s.ask <- after
	return out, nil
}

// Wake implements session.Backend.
func (s *deviceSession) Wake() <-chan struct{} { return s.wake }

func (s *deviceSession) waitLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case after := <-s.ask:
			if err := s.n.mail.Wait(ctx, s.device, after); err != nil {
				continue // the session ends, or the inbox is erased and Pull says so
			}
			poke(s.wake)
		}
	}
}

// endedOf is what a device is told of a message that nobody reads any more: its place.
func endedOf(e *pb.Envelope) *pb.Ended {
	core, err := wire.ParseCore(e.Core)
	if err != nil {
		return nil
	}
	id := wire.IDOf(e.Core)
	return &pb.Ended{Room: core.Room, Generation: core.Generation, Seq: e.Seq, Previous: e.Previous, EnvelopeId: id[:], AcceptedMs: e.AcceptedMs, Deadline: core.Deadline}
}

// Ack implements session.Backend.
func (s *deviceSession) Ack(ctx context.Context, a session.Acked) error {
	of := mailbox.Acked{Through: s.n.mailed.in(a.Through)}
	for _, seq := range a.Above {
		if lsn := s.n.mailed.of(seq); lsn != 0 { // else of a start that is not known here
			of.Above = append(of.Above, lsn)
		}
	}
	for _, u := range a.Unread {
		switch lsn := s.n.mailed.of(u.Seq); {
		case lsn == 0:
		case u.Expired:
			of.Expired = append(of.Expired, lsn)
		default:
			of.Unreadable = append(of.Unreadable, lsn)
		}
	}
	return s.n.mail.Ack(ctx, s.device, of)
}

// SubmitMark implements session.Backend.
func (s *deviceSession) SubmitMark() uint64 {
	mark, err := s.n.results.mark(s.device)
	if err != nil {
		s.n.log.Error("results of a device", "device", s.device, "error", err)
	}
	return mark
}

// Reauth implements session.Backend. The gate answers it before it comes here.
func (s *deviceSession) Reauth([]byte) (time.Time, error) {
	return time.Time{}, wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, "")
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
