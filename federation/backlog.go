package federation

import (
	"cmp"
	"math"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// How far a worker looks ahead in its partner's outbox, and what it sends at once.
// Fairness between rooms reaches as far as it looks: farther than an outbox is filled
// by messages and control (mailbox.OutboxEnvelopes, OutboxControl). Only what is sent
// next is opened, so that looking costs some 64 bytes an item.
const (
	Lookahead  = 1 << 17
	listPage   = 4_096
	BatchItems = wire.MaxDeliverItems
	BatchBytes = 2 << 20 // but one item always fits
)

// Waiting of a room whose item was refused for now.
const (
	HoldFloor   = time.Second
	HoldCeiling = 5 * time.Minute
)

// backlog is what a worker has before it of its partner's outbox: entries by room,
// in order, taken in turns. A room whose item was refused for now is held: nothing
// of it overtakes that item.
type backlog struct {
	cursor  uint64 // the highest number listed
	rooms   map[wire.RoomID][]entry
	turn    []wire.RoomID // rooms with entries, the next one first
	held    map[wire.RoomID]hold
	entries int

	// Messages are passed over for the life of the link while one side has the other in
	// quarantine; what follows them in their rooms is not.
	parking bool
	parked  uint64 // the lowest number of a message that was passed over; 0: none
}

// entry is an item that waits, unopened.
type entry struct {
	number uint64
	room   wire.RoomID
	size   int
}

// opened is an entry with its item.
type opened struct {
	entry
	item *pb.Item
}

// hold is a room's pause. It is kept for a while after it is over, so that the next
// one is longer when the same item is refused again.
type hold struct {
	until  time.Time
	length time.Duration
	over   bool
}

func newBacklog() *backlog {
	return &backlog{rooms: map[wire.RoomID][]entry{}, held: map[wire.RoomID]hold{}}
}

// wants reports whether there is space to look further ahead.
func (b *backlog) wants() bool { return b.entries < Lookahead }

// add takes items that were listed after the cursor.
func (b *backlog) add(items []Listed) {
	for _, it := range items {
		b.cursor = max(b.cursor, it.Number)
		if b.parking && it.Message {
			if b.parked == 0 {
				b.parked = it.Number // numbers rise
			}
			continue
		}
		line := b.rooms[it.Room]
		if len(line) == 0 {
			b.turn = append(b.turn, it.Room)
		}
		b.rooms[it.Room] = append(line, entry{it.Number, it.Room, 256 + it.Size})
		b.entries++
	}
}

// batch returns the next entries, one of each room in turns; they stay in the
// backlog until they are answered.
func (b *backlog) batch() []entry {
	var out []entry
	size := 0
	for depth, more := 0, true; more; depth++ {
		more = false
		for _, id := range b.turn {
			line := b.rooms[id]
			if depth >= len(line) || b.waits(id) {
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

// waits reports whether a room is held.
func (b *backlog) waits(id wire.RoomID) bool {
	h, ok := b.held[id]
	return ok && !h.over
}

// open fetches the items of a batch. What has left the outbox or passed its deadline is
// forgotten: the mailbox reports it, and nothing is to arrive after it was reported
// expired.
func (b *backlog) open(batch []entry, fetch func([]uint64) ([]*pb.Item, error), now time.Time) ([]opened, error) {
	numbers := make([]uint64, len(batch))
	for i, e := range batch {
		numbers[i] = e.number
	}
	items, err := fetch(numbers)
	if err != nil {
		return nil, err
	}
	out := make([]opened, 0, len(items))
	for _, e := range batch {
		if len(items) == 0 || items[0].Number != e.number {
			b.remove(e)
			continue
		}
		it := items[0]
		items = items[1:]
		if core, err := wire.ParseCore(it.GetEnvelope().GetCore()); err == nil {
			if at := wire.DeadlineOf(core); !at.IsZero() && !at.After(now) {
				b.remove(e)
				continue
			}
		}
		out = append(out, opened{e, it})
	}
	return out, nil
}

// sizeOf is what an item counts in bytes, with what it costs to handle any.
func sizeOf(it *pb.Item) int {
	b := it.GetBundle()
	return 256 + len(it.GetEnvelope().GetCore()) +
		len(b.GetCommit()) + len(b.GetWelcome()) + len(b.GetGroupInfo()) + len(b.GetTree())
}

// isMessage reports whether an item is of class message.
func isMessage(it *pb.Item) bool {
	core, err := wire.ParseCore(it.GetEnvelope().GetCore())
	return err == nil && core.Class == pb.Class_CLASS_MESSAGE
}

// rotate lets another room begin the next batch.
func (b *backlog) rotate() {
	if len(b.turn) > 1 {
		b.turn = append(b.turn[1:], b.turn[0])
	}
}

// answered removes what a batch decided and holds the rooms of what it left open;
// left says for each such number how long the partner wants to be left alone.
func (b *backlog) answered(batch []opened, left map[uint64]time.Duration, now time.Time) {
	for _, e := range batch {
		if after, ok := left[e.number]; ok {
			b.hold(e.room, after, now)
			continue
		}
		if h, ok := b.held[e.room]; ok && h.over {
			delete(b.held, e.room)
		}
		b.remove(e.entry)
	}
}

func (b *backlog) remove(e entry) {
	line := b.rooms[e.room]
	i, ok := slices.BinarySearchFunc(line, e.number, func(e entry, n uint64) int { return cmp.Compare(e.number, n) })
	switch {
	case !ok:
		return
	case len(line) == 1:
		delete(b.rooms, e.room)
		b.turn = slices.DeleteFunc(b.turn, func(x wire.RoomID) bool { return x == e.room })
	case i == 0: // as nearly always
		b.rooms[e.room] = line[1:]
	default:
		b.rooms[e.room] = slices.Delete(line, i, i+1)
	}
	b.entries--
}

// hold has a room wait. Several items of a batch hold it once.
func (b *backlog) hold(id wire.RoomID, after time.Duration, now time.Time) {
	if b.waits(id) {
		return
	}
	h := b.held[id]
	h.length = min(max(2*h.length, HoldFloor), HoldCeiling)
	h.until, h.over = now.Add(min(max(h.length, after), HoldCeiling)), false
	b.held[id] = h
}

// release ends the pauses that are over.
func (b *backlog) release(now time.Time) {
	for id, h := range b.held {
		switch {
		case h.over && now.Sub(h.until) > HoldCeiling:
			delete(b.held, id)
		case !h.over && !h.until.After(now):
			h.over = true
			b.held[id] = h
		}
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
	if b.parked != 0 {
		low = min(low, b.parked)
	}
	for _, line := range b.rooms {
		low = min(low, line[0].number)
	}
	return low
}
