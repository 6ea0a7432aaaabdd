package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Notices of rooms with more than two members, and of bursts in a room of two, are gathered
// for a second, so that one signature tells of many envelopes (docs/protocol.md 2.7). What is still to be told lies
// in the store from the batch that removed the envelopes on, and leaves it in the batch
// that holds the notice: a crash loses none and tells none twice.
//
// Rows: "nd/told/" ‖ number uint64; value: JSON toldRow.
const toldPrefix = "nd/told/"

// told numbers the rows, and knows where something was told within the last second.
type told struct {
	last atomic.Uint64

	mu     sync.Mutex
	lately map[toldKey]int64 // ms of the clock
}

// maxLately bounds what told remembers: beyond it, notices are gathered that need not be.
const maxLately = 4_096

// atOnce reports whether a notice of a room of two may go now: the first one does, and
// what follows it within wire.NoticeGather shares the next. A person who waits for an
// answer waits for the first; a hundred messages a second are not worth a hundred
// signatures.
func (t *told) atOnce(key toldKey, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.lately[key]; ok && now-last < wire.NoticeGather.Milliseconds() && now >= last {
		return false
	}
	if len(t.lately) >= maxLately {
		for k, last := range t.lately {
			if now-last >= wire.NoticeGather.Milliseconds() || now < last {
				delete(t.lately, k)
			}
		}
		if len(t.lately) >= maxLately {
			return false
		}
	}
	if t.lately == nil {
		t.lately = make(map[toldKey]int64)
	}
	t.lately[key] = now
	return true
}

// toldRow is what became of some envelopes of a room, each of them at each of some
// members.
type toldRow struct {
	Version int             `json:"version"`
	At      int64           `json:"at"` // ms
	Key     toldKey         `json:"key"`
	Epoch   uint64          `json:"epoch"`
	Members []wire.MemberID `json:"members"`
	Events  []toldEvent     `json:"events"`
}

const toldRowVersion = 1

// toldKey is what shares a notice: who is told, through whom, and the room.
type toldKey struct {
	Origin     wire.OrganizationID `json:"origin"`
	Through    wire.OrganizationID `json:"through"`
	Room       wire.RoomID         `json:"room"`
	Generation uint32              `json:"generation"`
}

type toldEvent struct {
	State  mailbox.State `json:"state"`
	Seq    uint64        `json:"seq"`
	Reason pb.Code       `json:"reason,omitempty"`
	Handle []byte        `json:"handle"`
}

// openTold finds the number to go on from.
func openTold(s *store.Store) (*told, error) {
	t := &told{}
	err := eachTold(s, func(number uint64, _ *toldRow) { t.last.Store(max(t.last.Load(), number)) })
	return t, err
}

func toldRowKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(toldPrefix), number)
}

// eachTold calls see for every row, in order; the row is nil where it does not parse.
func eachTold(s *store.Store, see func(number uint64, row *toldRow)) error {
	var after []byte
	for {
		page, err := s.Scan([]byte(toldPrefix), after, toldPage)
		if err != nil {
			return fmt.Errorf("node: what is still to be told: %w", err)
		}
		for _, kv := range page {
			after = kv.Key
			if len(kv.Key) != len(toldPrefix)+8 {
				continue
			}
			row := &toldRow{}
			if json.Unmarshal(kv.Value, row) != nil || row.Version != toldRowVersion {
				row = nil
			}
			see(binary.BigEndian.Uint64(kv.Key[len(toldPrefix):]), row)
		}
		if len(page) < toldPage {
			return nil
		}
	}
}

const (
	toldPage    = 256
	toldEvents  = 250                    // of one row
	toldSayings = 50_000                 // of one batch
	toldLook    = 250 * time.Millisecond // how often rows are looked for
)

// put adds what is to be told later to the batch of its removal.
func (t *told) put(b *store.Batch, row toldRow) error {
	events := row.Events
	for len(events) > 0 {
		row.Events = events[:min(len(events), toldEvents)]
		events = events[len(row.Events):]
		v, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("node: what is to be told: %w", err)
		}
		b.Put(toldRowKey(t.last.Add(1)), v)
	}
	return nil
}

// sayings is what a row tells, one for each envelope and member.
func (r *toldRow) sayings() []mailbox.Saying {
	var out []mailbox.Saying
	for _, e := range r.Events {
		for _, m := range r.Members {
			if len(e.Handle) == wire.ReturnHandleLen {
				out = append(out, mailbox.Saying{Origin: r.Key.Origin, Room: r.Key.Room, Member: m, State: e.State, Reason: e.Reason,
					Seq: e.Seq, Handle: [wire.ReturnHandleLen]byte(e.Handle)})
			}
		}
	}
	return out
}

// tellLater sends the notices that were gathered, when they are due.
func (n *Node) tellLater(ctx context.Context) error {
	ticker := time.NewTicker(toldLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = n.tellDue(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("notices wait", "error", err)
			}
		}
	}
}

// tellDue writes the notices of rows that have waited for wire.NoticeGather, and of the
// later ones for the same, in place of the rows, and reports whether there may be more. A recovering node signs nothing: they
// wait until it is itself again.
func (n *Node) tellDue(ctx context.Context) (more bool, err error) {
	if n.recovering() {
		return false, nil
	}
	due := n.clock.Now().Add(-wire.NoticeGather).UnixMilli()
	groups := make(map[toldKey]*toldGroup)
	var order []*toldGroup
	var batch store.Batch
	count := 0
	err = eachTold(n.store, func(number uint64, row *toldRow) {
		switch {
		case row == nil:
			n.log.Error("what is to be told does not parse; its senders learn nothing", "row", number)
			batch.Delete(toldRowKey(number))
		case count >= toldSayings:
			more = true
		case row.At <= due || groups[row.Key] != nil: // a later one goes along
			g := groups[row.Key]
			if g == nil {
				g = &toldGroup{key: row.Key}
				groups[row.Key] = g
				order = append(order, g)
			}
			s := row.sayings()
			g.epoch, g.said = max(g.epoch, row.Epoch), append(g.said, s...)
			count += len(s)
			batch.Delete(toldRowKey(number))
		}
	})
	if err != nil || batch.Len() == 0 {
		return false, err
	}
	return more, n.tell(ctx, &batch, order)
}

// toldGroup is what shares a notice.
type toldGroup struct {
	key   toldKey
	epoch uint64
	said  []mailbox.Saying
}

func (n *Node) tell(ctx context.Context, batch *store.Batch, groups []*toldGroup) (err error) {
	var staged []*mailbox.Staged
	defer func() {
		for _, s := range staged {
			s.Done(err == nil)
		}
	}()
	for _, g := range groups {
		s, err := n.sendNotices(batch, g)
		staged = append(staged, s...)
		if err != nil {
			return err
		}
	}
	_, err = n.store.Commit(context.WithoutCancel(ctx), batch)
	return err
}

// sendNotices signs and stages what a group says.
func (n *Node) sendNotices(b *store.Batch, g *toldGroup) (staged []*mailbox.Staged, err error) {
	for _, said := range mailbox.Gather(n.org.ID, n.clock.Now(), g.said) {
		s, err := n.sendNotice(b, g, said)
		if err != nil {
			return staged, err
		}
		if s != nil {
			staged = append(staged, s)
		}
	}
	return staged, nil
}

// groupsOf sorts events into what shares a notice and concerns the same members.
func (n *Node) groupsOf(events []mailbox.Event) []*toldRow {
	type who struct {
		key toldKey
		id  [32]byte // the member, or the partner whose members they all are
	}
	rows := make(map[who]*toldRow)
	var out []*toldRow
	now := n.clock.Now().UnixMilli()
	for _, e := range events {
		if len(e.Return) != wire.ReturnHandleLen || e.Seq == 0 || !n.isTold(e) {
			continue
		}
		w := who{key: toldKey{n.origin(e), e.From, e.Room, e.Generation}, id: [32]byte(n.memberOf(e.Device))}
		if !e.Partner.IsZero() {
			w.id = [32]byte(e.Partner)
		}
		row := rows[w]
		if row == nil {
			row = &toldRow{Version: toldRowVersion, At: now, Key: w.key, Members: n.concerned(e)}
			rows[w] = row
			if len(row.Members) > 0 {
				out = append(out, row)
			}
		}
		event := toldEvent{State: e.State, Seq: e.Seq, Handle: bytes.Clone(e.Return)}
		if s, ok := e.Say(wire.MemberID{1}); ok {
			event.Reason = s.Reason
		}
		row.Epoch, row.Events = max(row.Epoch, e.Epoch), append(row.Events, event)
	}
	return out
}

// isTold leaves out what nobody is told: what a partner has taken (its own notices say more)
// and, in rooms of many members, all but what did not arrive.
func (n *Node) isTold(e mailbox.Event) bool {
	if !e.Partner.IsZero() && e.State == mailbox.StateStored {
		return false
	}
	return e.State == mailbox.StateExpired || e.State == mailbox.StateRefused || n.rooms.size(e.Room) <= wire.NoticeRoom
}

// concerned lists the members that an event is about: the device's, or, where a partner
// has refused an envelope, each of the partner's members in the room.
func (n *Node) concerned(e mailbox.Event) []wire.MemberID {
	if !e.Partner.IsZero() {
		return n.partnerMembers(e.Room, e.Partner)
	}
	if m := n.memberOf(e.Device); !m.IsZero() {
		return []wire.MemberID{m}
	}
	return nil
}
