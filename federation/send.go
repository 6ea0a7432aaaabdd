package federation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// startWorker starts the partner's worker unless it runs, or is not wanted: before
// Run, after Close, and for agreements that were suspended or ended.
func (f *Federation) startWorker(p *partner) {
	f.mu.Lock()
	wanted := f.started && !f.closed
	if wanted {
		f.running.Add(1)
	}
	f.mu.Unlock()
	if !wanted {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil || p.record.Suspended || p.record.Ended {
		f.running.Done()
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan struct{})
	before := p.stopped
	p.stop, p.stopped = cancel, done
	go func() {
		defer f.running.Done()
		defer close(done)
		if before != nil {
			<-before // told to stop: a partner has one worker
		}
		f.work(ctx, p)
	}()
}

// stopWorker tells the worker to end and returns what is closed when it has. The
// caller waits without f.making: the worker may be waiting for that.
func (p *partner) stopWorker() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
	if p.stopped == nil {
		never := make(chan struct{})
		close(never)
		return never
	}
	return p.stopped
}

// work links with the partner again and again. A back-off ends at once when the
// partner is heard from.
func (f *Federation) work(ctx context.Context, p *partner) {
	for ctx.Err() == nil {
		f.speakOfAmendments(ctx, p)
		if err := f.awaited(p); err != nil {
			if !f.await(ctx, p, err) {
				return
			}
			continue
		}
		err := f.attempt(ctx, p)
		if err == nil {
			err = f.link(ctx, p)
		}
		if ctx.Err() != nil {
			return
		}
		f.heed(ctx, p, err)
		if wire.StatusOf(err).Code == pb.Code_CODE_NO_AGREEMENT {
			f.mismatched(ctx, p)
		}
		timer := time.NewTimer(f.backOff(p, err))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.heard:
		}
		timer.Stop()
	}
}

// errDialsUs is why there is no link with a partner that names no address.
var errDialsUs = wire.Refuse(pb.Code_CODE_UNREACHABLE, "it names no address: it dials us")

// awaited returns errDialsUs when the partner cannot be dialled and has not dialled us.
func (f *Federation) awaited(p *partner) error {
	info := p.addrInfo()
	if len(info.Addrs) > 0 || f.host.Network().Connectedness(info.ID) == network.Connected {
		return nil
	}
	return errDialsUs
}

// await waits until the partner is heard from; no attempt is made and none is counted. It
// looks again all the same, for a connection whose hello was lost. False: ctx has ended.
func (f *Federation) await(ctx context.Context, p *partner, why error) bool {
	p.mu.Lock()
	p.link.problem, p.link.next = short(why.Error()), time.Time{}
	p.mu.Unlock()
	timer := time.NewTimer(wire.PartnerBackoffCeil)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-p.heard:
	}
	return true
}

// attempt records that a link is about to be tried, before it is tried.
func (f *Federation) attempt(ctx context.Context, p *partner) error {
	if err := f.inForce(p); err != nil {
		return err
	}
	p.mu.Lock()
	p.link.attempts++
	p.link.last = f.clock.Now()
	rec := attemptRecord{Version: recordVersion, Attempts: p.link.attempts, Last: p.link.last, Contact: p.link.contact}
	p.mu.Unlock()
	return f.put(ctx, attemptKey(p.id), rec)
}

// backOff notes why a link ended and returns how long to wait.
func (f *Federation) backOff(p *partner, err error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay := backOffDelay(p.link.attempts)
	var refusal *wire.StatusError
	if errors.As(err, &refusal) {
		delay = max(delay, min(time.Duration(refusal.Status.RetryMs)*time.Millisecond, wire.PartnerBackoffCeil))
	}
	p.link.problem = ""
	if err != nil {
		p.link.problem = short(err.Error())
	}
	p.link.next = f.clock.Now().Add(delay)
	f.log.Info("partner is not linked", "partner", p.id.String(), "attempt", p.link.attempts, "wait", delay.String(), "error", p.link.problem)
	return delay
}

// backOffDelay doubles from the floor to the ceiling; the upper half is drawn, so
// that partners of a node that comes back do not arrive together.
func backOffDelay(attempts int) time.Duration {
	d := wire.PartnerBackoffCeil
	if attempts < 20 {
		d = min(wire.PartnerBackoffFloor<<max(attempts-1, 0), wire.PartnerBackoffCeil)
	}
	return d/2 + rand.N(d/2+1)
}

func short(s string) string { return s[:min(len(s), wire.MaxDetail)] }

// link connects, says hello and sends until the link is lost. It always returns an
// error but when ctx has ended.
func (f *Federation) link(ctx context.Context, p *partner) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := f.refresh(ctx, p); err != nil {
		f.metrics.attempts.WithLabelValues("unreachable").Inc()
		return err
	}
	out, err := f.open(ctx, p, DeliverProtocol)
	if err != nil {
		f.metrics.attempts.WithLabelValues("unreachable").Inc()
		return err
	}
	defer out.s.Reset()
	defer context.AfterFunc(ctx, func() { out.s.Reset() })()
	b := newBacklog()
	b.parking = p.quarantined()
	if err := f.fill(p, b); err != nil {
		return err
	}
	holds, err := f.hello(p, out, b)
	if err != nil {
		f.metrics.attempts.WithLabelValues("refused").Inc()
		return err
	}
	f.metrics.attempts.WithLabelValues("linked").Inc()
	f.metrics.connected.Inc()
	defer f.metrics.connected.Dec()
	p.linked(f.clock.Now())
	defer p.unlinked()
	p.holds(holds)
	if holds && !b.parking {
		b = newBacklog() // looked at again, without the messages
		b.parking = true
	}
	f.log.Info("partner is linked", "partner", p.id.String())
	f.gossip.met(p.standing().peer)
	f.running.Go(func() { f.gossip.catchUp(ctx, p) })
	f.opts.Linked(p.id)
	f.answered(ctx, p)
	return f.pump(ctx, cancel, p, out, b)
}

func (p *partner) linked(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link.connected, p.link.attempts, p.link.problem, p.link.refused = true, 0, "", 0
	p.link.next, p.link.contact = time.Time{}, now
	select { // what was heard before is no news any more
	case <-p.heard:
	default:
	}
}

func (p *partner) unlinked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link.connected = false
}

// open connects to the partner's peer and opens a stream. The connection is not
// believed before the partner has answered on it: a refused dialler is told
// nothing else at first.
func (f *Federation) open(ctx context.Context, p *partner, proto protocol.ID) (*frames, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	info := p.addrInfo()
	f.clearDialBackOff(info.ID)
	if err := f.host.Connect(ctx, info); err != nil {
		return nil, wire.Refuse(pb.Code_CODE_UNREACHABLE, "%s", dialText(err))
	}
	return f.newStream(ctx, info.ID, proto)
}

// hello introduces us and waits to be welcomed. It reports whether the partner holds our
// messages back.
func (f *Federation) hello(p *partner, out *frames, b *backlog) (holds bool, err error) {
	digest := p.standing().digest
	id := f.opts.Organization.ID
	sent := f.clock.Now()
	h := &pb.DeliverHello{
		Version: wire.ProtocolVersion, Organization: id[:], Incarnation: f.incarnation.Load(),
		LowMark: b.lowMark(), TimeMs: sent.UnixMilli(), Agreement: digest[:], Holding: b.parking,
		Manifest: f.opts.Organization.Manifest.Sequence, ManifestHash: f.opts.Organization.Tip(),
	}
	if err := out.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Hello{Hello: h}}, maxHello, HelloTimeout); err != nil {
		return false, lost(err)
	}
	var frame pb.DeliverFrame
	release, err := out.read(&frame, maxHello, HelloTimeout)
	if err != nil {
		return false, lost(err)
	}
	release()
	w := frame.GetWelcome()
	if w == nil {
		return false, fmt.Errorf("%w: an answer to a hello that is no welcome", wire.ErrMalformed)
	}
	now := f.clock.Now()
	p.met(sent.Add(now.Sub(sent)/2), w.TimeMs)
	p.heardStop(w)
	if w.Status.GetCode() == pb.Code_CODE_ROLLED_BACK {
		if err := f.surpass(w.KnownIncarnation); err != nil {
			return false, err
		}
	}
	return w.Quarantined, wire.Err(w.Status)
}

func lost(err error) error {
	if errors.Is(err, wire.ErrMalformed) {
		return err
	}
	return wire.Refuse(pb.Code_CODE_UNREACHABLE, "the link was lost: %v", short(err.Error()))
}

// fill looks ahead in the outbox as far as the backlog wants.
func (f *Federation) fill(p *partner, b *backlog) error {
	for b.wants() {
		items, err := f.opts.Outbox.List(p.id, b.cursor, listPage)
		if err != nil {
			return fmt.Errorf("federation: reading the outbox: %w", err)
		}
		if len(items) == 0 {
			return nil
		}
		if items[0].Number <= b.cursor {
			return errors.New("federation: the outbox repeats a number")
		}
		b.add(items)
	}
	return nil
}

// next returns the next batch, opened; empty when nothing can be sent now.
func (f *Federation) next(p *partner, b *backlog) ([]opened, error) {
	for {
		if err := f.fill(p, b); err != nil {
			return nil, err
		}
		chosen := b.batch()
		if len(chosen) == 0 {
			return nil, nil
		}
		fetch := func(numbers []uint64) ([]*pb.Item, error) { return f.opts.Outbox.Open(p.id, numbers) }
		batch, err := b.open(chosen, fetch, f.clock.Now())
		if err != nil {
			return nil, fmt.Errorf("federation: reading the outbox: %w", err)
		}
		if len(batch) > 0 {
			return batch, nil // else all of them had gone
		}
	}
}

// pump sends batches and settles what they are answered with. One goroutine beside it
// reads, so that a link lost while nothing is to be sent is noticed.
func (f *Federation) pump(ctx context.Context, cancel context.CancelFunc, p *partner, out *frames, b *backlog) error {
	results := make(chan reply)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		readReplies(ctx, out, results)
	}()
	err := f.send(ctx, p, out, b, results)
	cancel()
	out.s.Reset()
	<-done
	return err
}

// reply is a result with the memory it holds, or why there are no more.
type reply struct {
	result  *pb.DeliverResult
	release func()
	err     error
}

func readReplies(ctx context.Context, out *frames, results chan<- reply) {
	for {
		var r reply
		var frame pb.DeliverFrame
		if r.err = out.await(0); r.err == nil {
			r.release, r.err = out.read(&frame, maxResult, FrameTimeout)
			r.result = frame.GetResult()
		}
		select {
		case results <- r:
		case <-ctx.Done():
			if r.release != nil {
				r.release()
			}
			return
		}
		if r.err != nil {
			return
		}
	}
}

// maxResult bounds a result: 256 statuses with their details.
const maxResult = wire.MaxDeliverItems * (wire.MaxDetail + 128)

// emptyWake is the pause after the outbox has said that it grew and had nothing.
const emptyWake = 50 * time.Millisecond

// send is the worker's loop while the link is up.
func (f *Federation) send(ctx context.Context, p *partner, out *frames, b *backlog, results <-chan reply) error {
	seen := uint64(math.MaxUint64) // the cursor when there was nothing to send
	for {
		if err := p.speaks(f.clock.Now()); err != nil {
			return err
		}
		b.release(f.clock.Now())
		batch, err := f.next(p, b)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			// An outbox that wakes us and then has nothing is not asked in a loop.
			if seen == b.cursor {
				if err := rest(ctx, emptyWake, results); err != nil {
					return err
				}
			}
			seen = b.cursor
			if err := f.idle(ctx, p, b, results); err != nil {
				return err
			}
			continue
		}
		seen = math.MaxUint64
		pause, err := f.exchange(ctx, p, out, b, batch, results)
		if err != nil {
			return err
		}
		if err := rest(ctx, pause, results); err != nil {
			return err
		}
	}
}

// idle waits for the outbox to grow, for a held room's turn or for the link's end.
func (f *Federation) idle(ctx context.Context, p *partner, b *backlog, results <-chan reply) error {
	until := f.clock.Now().Add(time.Minute) // to look at the agreement again
	if at, ok := b.due(); ok && at.Before(until) {
		until = at
	}
	waiting, stop := context.WithTimeout(ctx, max(until.Sub(f.clock.Now()), time.Millisecond))
	defer stop()
	broken := make(chan error, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case r := <-results:
			broken <- unasked(r)
			stop()
		case <-waiting.Done():
		}
	}()
	err := f.opts.Outbox.Wait(waiting, p.id, b.cursor)
	ended := waiting.Err() != nil
	stop()
	<-watched
	select {
	case err := <-broken:
		return err
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !ended {
		return fmt.Errorf("federation: waiting for the outbox: %w", err)
	}
	return nil
}

// unasked is what a reply means that nothing was sent for.
func unasked(r reply) error {
	if r.err != nil {
		return lost(r.err)
	}
	r.release()
	return fmt.Errorf("%w: a result that nothing was sent for", wire.ErrMalformed)
}

// rest pauses the whole link, because the partner asked for it.
func rest(ctx context.Context, pause time.Duration, results <-chan reply) error {
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case r := <-results:
		return unasked(r)
	}
}

// exchange sends a batch, waits for its result and settles it. It returns how long
// the partner wants to be left alone.
func (f *Federation) exchange(ctx context.Context, p *partner, out *frames, b *backlog, batch []opened, results <-chan reply) (time.Duration, error) {
	frame := &pb.DeliverBatch{LowMark: b.lowMark()}
	for _, e := range batch {
		frame.Items = append(frame.Items, e.item)
	}
	if err := out.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Batch{Batch: frame}}, wire.MaxDeliverFrame, FrameTimeout); err != nil {
		return 0, lost(err)
	}
	timer := time.NewTimer(2 * FrameTimeout)
	defer timer.Stop()
	select {
	case r := <-results:
		if r.err != nil {
			return 0, lost(r.err)
		}
		defer r.release()
		return f.settle(ctx, p, b, batch, r.result)
	case <-timer.C:
		return 0, wire.Refuse(pb.Code_CODE_UNREACHABLE, "no answer to a batch")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// settle takes what was answered for good out of the outbox.
func (f *Federation) settle(ctx context.Context, p *partner, b *backlog, batch []opened, result *pb.DeliverResult) (pause time.Duration, err error) {
	if len(result.GetStatuses()) != len(batch) {
		return 0, fmt.Errorf("%w: %d statuses for %d items", wire.ErrMalformed, len(result.GetStatuses()), len(batch))
	}
	open := map[uint64]time.Duration{}
	var settled []Settlement
	for i, s := range result.Statuses {
		number := batch[i].number
		if s.Number != number || s.Status == nil {
			return 0, fmt.Errorf("%w: a status for number %d where %d was sent", wire.ErrMalformed, s.Number, number)
		}
		s.Status = wire.Heard(s.Status)
		f.metrics.sent.WithLabelValues(wire.CodeName(s.Status.Code)).Inc()
		if !staysOpen(batch[i].item, s.Status.Code) {
			s.Status.Detail = short(s.Status.Detail)
			f.contradicted(p, batch[i], s.Status)
			settled = append(settled, Settlement{number, s.Status})
			continue
		}
		open[number] = max(0, min(time.Duration(s.Status.RetryMs), HoldCeiling/time.Millisecond)) * time.Millisecond
		if s.Status.Code == pb.Code_CODE_RATE_LIMITED {
			pause = max(pause, open[number])
		}
	}
	if len(settled) > 0 {
		if err := f.opts.Outbox.Settle(ctx, p.id, settled); err != nil {
			return 0, fmt.Errorf("federation: settling: %w", err)
		}
	}
	b.answered(batch, open, f.clock.Now())
	p.met(f.clock.Now(), 0)
	return pause, nil
}

// contradicted logs that a partner refuses an entry of a room that we order: the order that it
// was shown is another, as after a restore, and its people will miss the entry.
func (f *Federation) contradicted(p *partner, e opened, s *pb.Status) {
	if e.item.Kind == pb.ItemKind_ITEM_KIND_FANOUT && s.Code == pb.Code_CODE_MALFORMED {
		f.log.Error("a partner refuses an entry of a room that this node orders: its people miss it, and are told", "partner", p.id.String(),
			"room", e.room.String(), "seq", e.item.Envelope.GetSeq(), "detail", s.Detail)
	}
}

// newStream opens a stream to a peer that we are connected with.
func (f *Federation) newStream(ctx context.Context, id peer.ID, proto protocol.ID) (*frames, error) {
	s, err := f.host.NewStream(network.WithNoDial(ctx, "connected before"), id, proto)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_UNREACHABLE, "opening a stream: %v", short(err.Error()))
	}
	if err := s.Scope().SetService(serviceName); err != nil {
		s.Reset()
		return nil, fmt.Errorf("federation: no resources for a stream: %w", err)
	}
	return newFrames(s), nil
}

// clearDialBackOff makes the library dial again at once; we have a back-off of our
// own, which ends when the partner is heard from.
func (f *Federation) clearDialBackOff(id peer.ID) {
	if s, ok := f.host.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		s.Backoff().Clear(id)
	}
}
