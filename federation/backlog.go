package federation

import (
	"math"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// How far a worker looks ahead in its partner's outbox. Fairness between rooms
// reaches as far as this, and so does the memory that a partner costs.
const (
	LookaheadItems = 1_024
	LookaheadBytes = 4 << 20
	BatchItems     = wire.MaxDeliverItems
	BatchBytes     = 2 << 20 // but one item always fits
)

// Waiting of a room whose item was refused for now.
const (
	HoldFloor   = time.Second
	HoldCeiling = 5 * time.Minute
)

// backlog is what a worker has before it of its partner's outbox: entries by room,
// in order, taken in turns. A room whose item was refused for now is held: nothing
// of it overtakes that item, and nothing of it stays in memory meanwhile.
type backlog struct {
	cursor  uint64 // the highest number fetched
	skipped uint64 // the lowest number of a held room that was passed over; 0: none
	rooms   map[wire.RoomID][]*entry
	turn    []wire.RoomID // rooms with entries, the next one first
	held    map[wire.RoomID]hold
	entries int
	bytes   int

	// Messages are passed over for the life of the link while one side has the other in
	// quarantine; what follows them in their rooms is not.
	parking bool
	parked  uint64 // the lowest number of a message that was passed over; 0: none
}

// entry is an item with what the worker needs to know of it.
type entry struct {
	item     *pb.Item
	room     wire.RoomID // zero for what has none
	deadline time.Time   // zero for none
	message  bool
	size     int
}

// hold is a room's pause. It is kept for a while after it is over, so that the next
// one is longer when the same item is refused again.
type hold struct {
	until  time.Time
	length time.Duration
	over   bool
}

func newBacklog() *backlog {
	return &backlog{rooms: map[wire.RoomID][]*entry{}, held: map[wire.RoomID]hold{}}
}

func newEntry(it *pb.Item) *entry {
	b := it.GetBundle()
	e := &entry{item: it, size: 256 + len(it.GetEnvelope().GetCore()) +
		len(b.GetCommit()) + len(b.GetWelcome()) + len(b.GetGroupInfo()) + len(b.GetTree())}
	if core, err := wire.ParseCore(it.GetEnvelope().GetCore()); err == nil {
		e.room, e.deadline = wire.RoomID(core.Room), wire.DeadlineOf(core)
		e.message = core.Class == pb.Class_CLASS_MESSAGE
	}
	return e
}

// wants reports whether there is space to look further ahead.
func (b *backlog) wants() bool { return b.entries < LookaheadItems/2 && b.bytes < LookaheadBytes/2 }

// add takes items that were fetched after the cursor.
func (b *backlog) add(items []*pb.Item) {
	for _, it := range items {
		b.cursor = max(b.cursor, it.Number)
		e := newEntry(it)
		if b.parking && e.message {
			if b.parked == 0 {
				b.parked = it.Number // numbers rise
			}
			continue
		}
		line := b.rooms[e.room]
		if len(line) > 0 && line[len(line)-1].item.Number >= it.Number {
			continue // looked at again after a hold
		}
		if h, ok := b.held[e.room]; ok && !h.over {
			b.skip(it.Number)
			continue
		}
		if len(line) == 0 {
			b.turn = append(b.turn, e.room)
		}
		b.rooms[e.room] = append(line, e)
		b.entries++
		b.bytes += e.size
	}
}

func (b *backlog) skip(number uint64) {
	if b.skipped == 0 || number < b.skipped {
		b.skipped = number
	}
}

// batch returns the next entries, one of each room in turns; they stay in the
// backlog until they are answered. What has passed its deadline is dropped: the
// mailbox reports it, and nothing is to arrive after it was reported expired.
func (b *backlog) batch(now time.Time) []*entry {
	b.expire(now)
	var out []*entry
	size := 0
	for depth, more := 0, true; more; depth++ {
		more = false
		for _, id := range b.turn {
			line := b.rooms[id]
			if depth >= len(line) {
				continue
			}
			e := line[depth]
			if len(out) == BatchItems || len(out) > 0 && size+e.size > BatchBytes {
				b.rotate()
				return out
			}
			out = append(out, e)
			size += e.size
			more = true
		}
	}
	return out
}

func (b *backlog) expire(now time.Time) {
	for _, id := range slices.Clone(b.turn) {
		for _, e := range slices.Clone(b.rooms[id]) {
			if !e.deadline.IsZero() && !e.deadline.After(now) {
				b.remove(e)
			}
		}
	}
}

// rotate lets another room begin the next batch.
func (b *backlog) rotate() {
	if len(b.turn) > 1 {
		b.turn = append(b.turn[1:], b.turn[0])
	}
}

// answered removes what a batch decided and holds the rooms of what it left open;
// open says for each such number how long the partner wants to be left alone.
func (b *backlog) answered(batch []*entry, open map[uint64]time.Duration, now time.Time) {
	for _, e := range batch {
		if after, ok := open[e.item.Number]; ok {
			b.hold(e.room, after, now)
			continue
		}
		if h, ok := b.held[e.room]; ok && h.over {
			delete(b.held, e.room)
		}
		b.remove(e)
	}
}

func (b *backlog) remove(e *entry) {
	line := b.rooms[e.room]
	i := slices.Index(line, e)
	if i < 0 {
		return // its room is held
	}
	b.entries--
	b.bytes -= e.size
	if len(line) == 1 {
		b.forget(e.room)
		return
	}
	b.rooms[e.room] = slices.Delete(line, i, i+1)
}

func (b *backlog) forget(id wire.RoomID) {
	delete(b.rooms, id)
	b.turn = slices.DeleteFunc(b.turn, func(x wire.RoomID) bool { return x == id })
}

// hold drops a room's entries from memory until its pause is over; they are fetched
// again then, so that what was dropped from the outbox meanwhile is not sent.
func (b *backlog) hold(id wire.RoomID, after time.Duration, now time.Time) {
	h, ok := b.held[id]
	if ok && !h.over {
		return // held by an item before it in the same batch
	}
	h.length = min(max(2*h.length, HoldFloor), HoldCeiling)
	h.until, h.over = now.Add(min(max(h.length, after), HoldCeiling)), false
	b.held[id] = h
	for _, e := range b.rooms[id] {
		b.entries--
		b.bytes -= e.size
		b.skip(e.item.Number)
	}
	b.forget(id)
}

// release ends the pauses that are over and looks again at what was passed over.
func (b *backlog) release(now time.Time) {
	ended := false
	for id, h := range b.held {
		switch {
		case h.over && now.Sub(h.until) > HoldCeiling:
			delete(b.held, id)
		case !h.over && !h.until.After(now):
			ended, h.over = true, true
			b.held[id] = h
		}
	}
	if ended && b.skipped != 0 {
		b.cursor, b.skipped = min(b.cursor, b.skipped-1), 0
	}
}

// due returns when the next pause ends; ok is false when no room is held.
func (b *backlog) due() (at time.Time, ok bool) {
	for _, h := range b.held {
		if !h.over && (!ok || h.until.Before(at)) {
			at, ok = h.until, true
		}
	}
	return at, ok
}

// lowMark returns a number below which everything is settled.
func (b *backlog) lowMark() uint64 {
	low := b.cursor
	if low < math.MaxUint64 {
		low++
	}
	if b.skipped != 0 {
		low = min(low, b.skipped)
	}
	if b.parked != 0 {
		low = min(low, b.parked)
	}
	for _, line := range b.rooms {
		low = min(low, line[0].item.Number)
	}
	return low
}
