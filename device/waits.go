package device

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// Deliveries that cannot be taken yet, because a partner cannot be asked for certificates or a
// room's hub for its log, wait, and what follows them in their room. Nothing else does: the mark goes
// on, and they alone are not acknowledged, so that the node keeps them and brings them again
// (docs/protocol.md 6.4). Their numbers are stored with the mark.

const (
	waitingName = "mailbox-waiting"
	waitsReason = "one of the room's organizations cannot be reached now, and this device needs an answer of it to read on"
)

// untaken is a mailbox number at or below the mark whose delivery was not taken yet.
type untaken struct {
	seq   uint64
	room  wire.RoomID // zero: it is of no room's order
	since int64       // Unix seconds
}

// Why a delivery waits, and why it does no longer.
var (
	errWaits   = errors.New("device: it waits for what came before it")
	errGivenUp = errors.New("device: it has waited for somebody's organization for too long, or until the mailbox was full")
)

// away reports whether an error says that somebody else than the home node cannot be asked now.
// Not that a room waits for its people: what they decide comes by the same mailbox.
func away(ctx context.Context, err error) bool {
	if !waitsFor(ctx, err) {
		return false
	}
	switch wire.StatusOf(err).Code {
	case pb.Code_CODE_UNREACHABLE, pb.Code_CODE_RECOVERING, pb.Code_CODE_CLOCK_SUSPECT:
		return true
	}
	return false
}

// waitsFor reports whether what a delivery needs may be had later, and says nothing about the home
// node itself: whatever temporary status a partner answers, it holds up only what needs it.
func waitsFor(ctx context.Context, err error) bool {
	var st *wire.StatusError
	if ctx.Err() != nil || errors.Is(err, session.ErrAway) || errors.Is(err, errUndecided) || errors.Is(err, errWelcomeComes) {
		return false
	}
	return errors.As(err, &st) && wire.ClassOf(st.Status.Code) == wire.Temporary
}

// orderOf is the room whose order a delivery has a place in; zero: none.
func orderOf(x *pb.Deliver) (room wire.RoomID) {
	if x.Ended != nil && len(x.Ended.Room) == len(room) {
		return wire.RoomID(x.Ended.Room)
	}
	core, err := wire.ParseCore(x.GetEnvelope().GetCore())
	if err != nil {
		return room
	}
	switch core.Kind {
	case pb.Kind_KIND_WELCOME, pb.Kind_KIND_COMMIT, pb.Kind_KIND_PROPOSAL, pb.Kind_KIND_APPLICATION,
		pb.Kind_KIND_RESULT, pb.Kind_KIND_COMPLAINT: // the place of an own entry; what is said of one
		room = wire.RoomID(core.Room)
	}
	return room
}

// all is what waits as this batch leaves it, rising.
func (b *batch) all() []untaken {
	if b.rewait {
		return b.untaken
	}
	return b.d.untaken
}

func place(all []untaken, seq uint64) (int, bool) {
	return slices.BinarySearchFunc(all, seq, func(w untaken, seq uint64) int { return cmp.Compare(w.seq, seq) })
}

// waits reports whether a number waits.
func (b *batch) waits(seq uint64) bool {
	_, found := place(b.all(), seq)
	return found
}

// comesAfter reports whether something waits that comes before a delivery in its room.
func (b *batch) comesAfter(x *pb.Deliver, gone func(uint64) bool) bool {
	all := b.all()
	if len(all) == 0 || all[0].seq >= x.Seq {
		return false
	}
	room := orderOf(x)
	return room != (wire.RoomID{}) && slices.ContainsFunc(all, func(w untaken) bool { return w.room == room && w.seq < x.Seq && !gone(w.seq) })
}

// wait notes that a delivery was not taken; false: too many wait already, or it has waited for
// wire.DeliverPatience: whoever is away shall not stop a room for as long as its Commits last.
// People are told of the first of a room.
func (b *batch) wait(x *pb.Deliver) bool {
	all := b.all()
	at, found := place(all, x.Seq)
	now := b.d.now().Add(b.d.ahead).Unix()
	if found {
		return now-all[at].since < int64(wire.DeliverPatience/time.Second)
	}
	if len(all) >= wire.DeliverWindow {
		return false // a session does not come here: its window is full before
	}
	w := untaken{x.Seq, orderOf(x), now}
	if w.room != (wire.RoomID{}) && !slices.ContainsFunc(all, func(o untaken) bool { return o.room == w.room }) {
		b.show(b.d.ofRoom(b.roomOrID(w.room), "waits", waitsReason))
	}
	b.untaken, b.rewait = slices.Insert(slices.Clone(all), at, w), true
	return true
}

// forget drops numbers that wait no longer.
func (b *batch) forget(these func(uint64) bool) {
	left := slices.DeleteFunc(slices.Clone(b.all()), func(w untaken) bool { return these(w.seq) })
	if len(left) < len(b.all()) {
		b.untaken, b.rewait = left, true
	}
}

// waited notes that a delivery waits no longer.
func (b *batch) waited(seq uint64) { b.forget(func(n uint64) bool { return n == seq }) }

// endedMeanwhile is a delivery that has waited, or only its place if it has ended: its sender
// is told so, whatever this device still has of it.
func (d *Device) endedMeanwhile(x *pb.Deliver) *pb.Deliver {
	core, err := wire.ParseCore(x.GetEnvelope().GetCore())
	if err != nil || core.Kind != pb.Kind_KIND_APPLICATION || core.Deadline == 0 || d.now().Add(d.ahead).Before(time.Unix(core.Deadline, 0)) {
		return x
	}
	id, e := wire.IDOf(x.Envelope.Core), x.Envelope
	return &pb.Deliver{Seq: x.Seq, Ended: &pb.Ended{Room: core.Room, Generation: core.Generation, Seq: e.Seq, Previous: e.Previous,
		EnvelopeId: id[:], AcceptedMs: e.AcceptedMs, Deadline: core.Deadline}}
}

// giveUpWaiting is session.ClientOptions.GiveUp: what waits of these deliveries is lost, that the
// mailbox does not stand still.
func (d *Device) giveUpWaiting(ctx context.Context, ds []*pb.Deliver) ([]session.Unread, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.newBatch(ctx)
	for _, x := range ds {
		if !b.waits(x.Seq) {
			continue
		}
		var why error = errGivenUp
		if x = d.endedMeanwhile(x); x.Ended != nil {
			why = b.deliver(x)
		}
		b.giveUp(x, why)
	}
	if err := b.commit(d.mark()); err != nil {
		return nil, err
	}
	return d.unreadOf(ds)
}

// giveUp loses what waited. A room whose Commit it was comes back by its hub's log.
func (b *batch) giveUp(x *pb.Deliver, why error) {
	b.lose(x, why)
	b.waited(x.Seq)
	core, err := wire.ParseCore(x.GetEnvelope().GetCore())
	if err != nil || core.Kind != pb.Kind_KIND_COMMIT {
		return
	}
	if r := b.room(wire.RoomID(core.Room)); r != nil && r.state != nil {
		r.Behind = true
		b.touch(r.ID)
	}
}

// waitsIn reports whether something of a room's order waits; d.mu is held.
func (d *Device) waitsIn(id wire.RoomID) bool {
	return slices.ContainsFunc(d.untaken, func(w untaken) bool { return w.room == id })
}

// acknowledged is the mailbox number up to which everything was taken.
func (d *Device) acknowledged() (n uint64) {
	_ = d.vault.view(func(t *txn) error {
		all, err := t.untaken()
		if err == nil && len(all) > 0 {
			n = all[0].seq - 1
			return nil
		}
		n, err = t.number(markName)
		return err
	})
	return n
}

// taken reports whether a delivery above what is acknowledged was taken, and is to be
// acknowledged alone.
func (d *Device) taken(seq uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, waits := place(d.untaken, seq)
	return !waits && seq <= d.mark()
}

// begins is called with each connection: deliveries come from the acknowledgement on, in
// order.
func (l *link) begins(clock time.Time) {
	d := l.d
	l.cursor = d.acknowledged()
	if clock.IsZero() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead = clock.Sub(d.now())
}

// gone says of which numbers the node has nothing any more when it brings these deliveries: it
// has passed them over. What it has of them it brings, after a restart under numbers of
// its own; so they are forgotten with what came instead, not before.
func (l *link) gone(ds []*pb.Deliver) func(uint64) bool {
	from, to := l.cursor, ds[len(ds)-1].Seq
	return func(seq uint64) bool {
		return seq > from && seq < to && !slices.ContainsFunc(ds, func(x *pb.Deliver) bool { return x.Seq == seq })
	}
}

// emptied forgets the numbers above all that has come: the mailbox is empty there.
func (l *link) emptied() {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	b := l.d.newBatch(context.Background())
	if b.forget(func(seq uint64) bool { return seq > l.cursor }); b.rewait {
		_ = b.commit(l.d.mark()) // else with the next connection
	}
}

func (d *Device) loadUntaken() error {
	return d.vault.view(func(t *txn) (err error) { d.untaken, err = t.untaken(); return err })
}

// untaken reads rows of uint64 number ‖ room ‖ int64 Unix seconds since when, rising.
func (t *txn) untaken() (all []untaken, err error) {
	const row = 8 + len(wire.RoomID{}) + 8
	b, err := t.meta([]byte(waitingName))
	if errors.Is(err, errNoRecord) {
		return nil, nil
	}
	if err != nil || len(b)%row != 0 {
		return nil, errors.Join(errSealed, err)
	}
	for ; len(b) > 0; b = b[row:] {
		all = append(all, untaken{binary.BigEndian.Uint64(b), wire.RoomID(b[8 : row-8]), int64(binary.BigEndian.Uint64(b[row-8 : row]))})
	}
	return all, nil
}

func (t *txn) putUntaken(all []untaken) error {
	var b []byte
	for _, w := range all {
		b = append(binary.BigEndian.AppendUint64(b, w.seq), w.room[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(w.since))
	}
	return t.putMeta([]byte(waitingName), b)
}
