package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// maxHello bounds the frames that open a deliver stream.
const maxHello = 4 << 10

// serveDeliver is the receiving end of a deliver stream (docs/protocol.md 5.3).
func (f *Federation) serveDeliver(ctx context.Context, in *frames) error {
	p, err := f.welcome(in)
	if p == nil || err != nil {
		return err
	}
	p.believe(in.s)
	f.answered(ctx, p)
	defer p.forgetStream(in.s)
	p.wake()
	f.running.Go(func() { // no link of ours may come up for long
		if err := f.refresh(ctx, p); err != nil && ctx.Err() == nil {
			f.log.Info("a partner's manifests were not asked for", "partner", p.id.String(), "error", err.Error())
		}
	})
	for {
		if err := in.await(0); err != nil {
			return endOf(err)
		}
		if err := f.receive(ctx, p, in); err != nil {
			return endOf(err)
		}
	}
}

// endOf says that a stream which ended between frames ended well.
func endOf(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// welcome reads the hello and answers it. It returns no partner when the peer was
// refused; it has been told why then.
func (f *Federation) welcome(in *frames) (*partner, error) {
	var frame pb.DeliverFrame
	release, err := in.read(&frame, maxHello, HelloTimeout)
	if err != nil {
		return nil, err
	}
	release()
	hello := frame.GetHello()
	if hello == nil {
		return nil, fmt.Errorf("%w: a deliver stream that does not begin with a hello", wire.ErrMalformed)
	}
	p, refusal := f.admit(in.s.Conn().RemotePeer())
	if refusal == nil {
		refusal = f.checkHello(p, hello)
		if errors.Is(refusal, errOtherAgreement) {
			f.running.Go(func() { f.mismatched(f.ctx, p) })
		}
	}
	answer := &pb.DeliverWelcome{Status: wire.StatusOf(refusal), TimeMs: f.clock.Now().UnixMilli(), Incarnation: f.incarnation.Load()}
	if answer.Status.Code == pb.Code_CODE_ROLLED_BACK {
		answer.KnownIncarnation = p.knownIncarnation()
	}
	if p != nil {
		answer.ChangedMs = p.changedMs()
	}
	if refusal == nil {
		answer.Quarantined = p.quarantined()
		p.holding(hello.Holding)
	}
	err = in.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Welcome{Welcome: answer}}, maxHello, HelloTimeout)
	if refusal != nil {
		f.metrics.refused.WithLabelValues(wire.CodeName(answer.Status.Code)).Inc()
		return nil, err
	}
	p.met(f.clock.Now(), hello.TimeMs)
	p.shows(hello.Manifest, hello.ManifestHash)
	f.gossip.met(in.s.Conn().RemotePeer())
	return p, err
}

// knownIncarnation is the highest incarnation of the partner's numbers that was here.
func (p *partner) knownIncarnation() uint64 {
	p.delivering.Lock()
	defer p.delivering.Unlock()
	return p.marks.incarnation
}

// errOtherAgreement refuses a link whose hello names another text than the one in force: one
// of the two is behind, and asks (inforce.go).
var errOtherAgreement = wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "another agreement is in force here")

// checkHello holds what a hello says against what we know of the partner, and
// starts its marks for this link.
func (f *Federation) checkHello(p *partner, h *pb.DeliverHello) error {
	if h.Version != wire.ProtocolVersion {
		return wire.Refuse(pb.Code_CODE_UNSUPPORTED, "version %d of the deliver protocol", h.Version)
	}
	if string(h.Organization) != string(p.id[:]) {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "this peer speaks for another organization")
	}
	digest := p.standing().digest
	if string(h.Agreement) != string(digest[:]) {
		return errOtherAgreement
	}
	p.delivering.Lock()
	defer p.delivering.Unlock()
	next, err := p.marks.begin(h.Incarnation, h.LowMark)
	if err == nil {
		p.marks = next
	}
	return err
}

// receive reads one batch, has it committed and answers it.
func (f *Federation) receive(ctx context.Context, p *partner, in *frames) error {
	var frame pb.DeliverFrame
	release, err := in.read(&frame, wire.MaxDeliverFrame, FrameTimeout)
	if err != nil {
		return err
	}
	defer release()
	batch := frame.GetBatch()
	if err := checkBatch(batch); err != nil {
		return err
	}
	result := f.decide(p, batch)
	for _, s := range result.Statuses {
		f.metrics.received.WithLabelValues(wire.CodeName(s.Status.Code)).Inc()
	}
	p.met(f.clock.Now(), 0)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return in.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Result{Result: result}}, wire.MaxDeliverFrame, FrameTimeout)
}

// checkBatch refuses what no honest sender sends; the stream ends then. A single
// bad item is not such a thing: it gets its status.
func checkBatch(b *pb.DeliverBatch) error {
	if b == nil {
		return fmt.Errorf("%w: a frame where a batch is due", wire.ErrMalformed)
	}
	if len(b.Items) > wire.MaxDeliverItems {
		return fmt.Errorf("%w: a batch of %d items", wire.ErrMalformed, len(b.Items))
	}
	seen := make(map[uint64]bool, len(b.Items))
	for _, it := range b.Items {
		if it.Number == 0 || seen[it.Number] {
			return fmt.Errorf("%w: a batch with the number %d twice, or with 0", wire.ErrMalformed, it.Number)
		}
		seen[it.Number] = true
	}
	return nil
}

// decide answers every item of a batch. When it returns, what was accepted is on
// stable storage together with the marks that make it a duplicate.
func (f *Federation) decide(p *partner, batch *pb.DeliverBatch) *pb.DeliverResult {
	p.delivering.Lock()
	defer p.delivering.Unlock()
	answers := make([]*pb.Status, len(batch.Items))
	base := p.marks.raise(batch.LowMark)
	var fresh []*pb.Item
	var places []int
	now := f.clock.Now()
	standing := p.speaks(now)
	for i, it := range batch.Items {
		answers[i] = f.screen(p, base, it, standing, now)
		if answers[i] == nil && base.full(len(fresh)+1) {
			answers[i] = wire.Status(pb.Code_CODE_FULL, "settle what is open first")
		}
		if answers[i] == nil {
			fresh, places = append(fresh, it), append(places, i)
		}
	}
	for i, s := range f.commit(p, base, fresh) {
		answers[places[i]] = s
	}
	out := &pb.DeliverResult{}
	for i, it := range batch.Items {
		out.Statuses = append(out.Statuses, &pb.ItemStatus{Number: it.Number, Status: answers[i]})
	}
	return out
}

// screen answers an item that the Handler is not to see, or returns nil.
func (f *Federation) screen(p *partner, m marks, it *pb.Item, standing error, now time.Time) *pb.Status {
	if s, ok := m.seen(it.Number); ok {
		return s
	}
	if standing != nil {
		return wire.StatusOf(standing)
	}
	if it.Envelope == nil {
		return wire.Status(pb.Code_CODE_MALFORMED, "an item without an envelope")
	}
	if p.quarantined() && isMessage(it) {
		return wire.Status(pb.Code_CODE_QUARANTINED, "")
	}
	if wait := p.itemBucket().take(now, 1); wait > 0 {
		return wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)
	}
	if wait := p.bytes.take(now, float64(sizeOf(it))); wait > 0 {
		return wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)
	}
	return nil
}

// commit hands the items to the Handler; p.delivering is held. The marks in memory
// follow the disk: they change only when what the Handler answered is what it
// recorded, or after they have been written here.
func (f *Federation) commit(p *partner, base marks, items []*pb.Item) []*pb.Status {
	if len(items) == 0 {
		p.marks = base
		return nil
	}
	var written marks
	recorded := false
	record := func(b *store.Batch, statuses []*pb.Status) error {
		if len(statuses) != len(items) {
			return fmt.Errorf("federation: %d statuses for %d items", len(statuses), len(items))
		}
		written, recorded = base.with(items, statuses), true
		b.Put(marksKey(p.id), written.encode())
		return nil
	}
	statuses := f.opts.Handler.Deliver(f.ctx, p.id, items, record)
	if len(statuses) != len(items) {
		f.log.Error("the node answered for another number of items", "partner", p.id.String(), "items", len(items), "statuses", len(statuses))
		return repeat(wire.Status(pb.Code_CODE_INTERNAL, ""), len(items))
	}
	next := base.with(items, statuses)
	switch {
	case len(next.decided) == len(base.decided): // nothing was decided
		p.marks = base
	case recorded && string(written.encode()) == string(next.encode()):
		p.marks = next
	default:
		return f.commitMarks(p, next, statuses)
	}
	return statuses
}

// commitMarks writes marks that the Handler did not record: items that it refused
// for good without a transaction of its own.
func (f *Federation) commitMarks(p *partner, next marks, statuses []*pb.Status) []*pb.Status {
	var b store.Batch
	b.Put(marksKey(p.id), next.encode())
	if _, err := f.opts.Store.Commit(f.ctx, &b); err != nil {
		f.log.Error("marks were not written", "partner", p.id.String(), "error", err.Error())
		return repeat(wire.Status(pb.Code_CODE_INTERNAL, ""), len(statuses))
	}
	p.marks = next
	return statuses
}

func repeat(s *pb.Status, n int) []*pb.Status {
	out := make([]*pb.Status, n)
	for i := range out {
		out[i] = s
	}
	return out
}
