package session

import (
	"cmp"
	"context"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// What a device was handed and cannot take yet keeps its own acknowledgement back and nothing
// else's: what comes after it is acknowledged by its number (docs/protocol.md 6.4).

// hand gives deliveries to the device, and acknowledges what it has of all that is open. After an
// error nothing more may be handed over: the device would take that for all there is.
func (l *link) hand(ctx context.Context, to Handler, ds []*pb.Deliver) error {
	unread, err := to(ctx, ds)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err() // it has ended already, for another reason
		}
		return &handlerError{err}
	}
	l.stored(l.c.o.Mark(), unread)
	return nil
}

// stored notes up to where the device has everything, and what of it nobody reads.
func (l *link) stored(mark uint64, unread []Unread) {
	taken := make(map[uint64]bool) // asked before l.mu is held: the device has a lock of its own
	for _, d := range l.open {
		taken[d.Seq] = d.Seq > mark && l.c.o.Taken(d.Seq)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range unread {
		at, found := slices.BinarySearchFunc(l.unread, u, func(a, b Unread) int { return cmp.Compare(a.Seq, b.Seq) })
		if !found {
			l.unread = slices.Insert(l.unread, at, u)
		}
	}
	l.open = slices.DeleteFunc(l.open, func(d *pb.Deliver) bool {
		if d.Seq > mark && !taken[d.Seq] {
			return false
		}
		if d.Seq > mark {
			l.above = append(l.above, d.Seq)
		}
		if l.ackN == 0 {
			l.ackSince = time.Now()
		}
		l.ackN++
		l.ackBytes += proto.Size(d)
		return true
	})
	if l.ackN == 0 {
		return
	}
	l.through = max(l.through, min(mark, l.handedTo))
	l.above = slices.DeleteFunc(l.above, func(seq uint64) bool { return seq <= l.through })
	poke(l.kick)
}

// takeUnread is what an acknowledgement says; l.mu is held.
func (l *link) takeUnread() (said []Unread) {
	l.unread = slices.DeleteFunc(l.unread, func(u Unread) bool {
		if !covers(l.through, l.above, u.Seq) {
			return false
		}
		said = append(said, u)
		return true
	})
	return said
}

// handAgain hands over what the device could not take, and makes room where the node has more
// than that leaves room for.
func (l *link) handAgain(ctx context.Context) error {
	if len(l.open) == 0 {
		return nil
	}
	if err := l.hand(ctx, l.c.o.Handler, l.open); err != nil {
		return err
	}
	if l.stuck() {
		return l.giveUp(ctx)
	}
	return nil
}

// makeRoom has the device take what it could not, while that fills the window.
func (l *link) makeRoom(ctx context.Context) error {
	for n := 0; l.full() && len(l.open) != n; {
		n = len(l.open)
		if err := l.giveUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// giveUp has the device take the older quarter of what is open: not less, that the mailbox
// moves on, and not more, for it is lost.
func (l *link) giveUp(ctx context.Context) error {
	if l.c.o.GiveUp == nil || len(l.open) == 0 {
		return nil
	}
	return l.hand(ctx, l.c.o.GiveUp, l.open[:max(1, len(l.open)/4)])
}

// full reports whether the node can send nothing more before it gets an acknowledgement.
func (l *link) full() bool {
	bytes := 0
	for _, d := range l.open {
		bytes += proto.Size(d)
	}
	return len(l.open) >= l.c.o.WindowEnvelopes || bytes >= l.c.o.WindowBytes
}

// stuckPongs is how many answers to pings without a delivery say that a node has one that the
// window does not take: longer than Silence, which bounds one that is on its way.
const stuckPongs = 3

// stuck reports whether the node has a delivery that is too large for what is left of the window:
// it has not said that the mailbox is empty, everything was acknowledged that can be,
// and nothing comes.
func (l *link) stuck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) > 0 && !l.empty && len(l.inbox) == 0 && l.ackN == 0 && l.pongs >= stuckPongs
}
