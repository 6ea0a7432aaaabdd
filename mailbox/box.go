package mailbox

import (
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// kind says whose queue a box is; it is a byte on disk.
type kind byte

const (
	kindInbox  kind = 'd' // a device's, named by its device ID
	kindOutbox kind = 'o' // a partner's, named by its organization ID
	kindLog    kind = 'l' // a room's handshakes, named by its room ID
)

// String is the kind's name in metrics and log lines.
func (k kind) String() string {
	return map[kind]string{kindInbox: "inbox", kindOutbox: "outbox", kindLog: "log"}[k]
}

// boxName is the ID of a device, an organization or a room.
type boxName [32]byte

type boxKey struct {
	kind kind
	name boxName
}

// box is the state in memory of one queue: what it holds, and what was handed out
// of it. All of it is rebuilt from the store at open.
type box struct {
	boxKey
	id store.QueueID

	// removal is held from choosing references to remove until their removal is
	// durable, so that no two callers remove, and report, the same one. It is taken
	// after Mailbox.sweep and before mu; see the lock order at Mailbox.
	removal sync.Mutex

	mu      sync.Mutex
	durable bool // the box's row is in the store
	closed  bool // erased: takes nothing, hands out nothing
	usage   usage
	handed  map[store.LSN]handout
	high    store.LSN // highest number handed out since open
	legacy  store.LSN // what may have been handed out before open; 0 after the first fetch
	acked   store.LSN // highest number acknowledged since open
}

// handout is a reference that was handed out and not settled yet.
type handout struct {
	meta     *meta // nil: the metadata is damaged, so nobody can be told
	deadline time.Time
	at       time.Time
	damaged  bool // the body does not open: reported as unreadable
	ended    bool // its own deadline had passed: reported as expired
}

func newBox(key boxKey, id store.QueueID) *box {
	return &box{boxKey: key, id: id, handed: make(map[store.LSN]handout)}
}

// reserve counts m in when the box is open and the quota allows it; else it returns
// the refusal.
func (b *box) reserve(q Quota, m *meta) *pb.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return wire.Status(pb.Code_CODE_REVOKED, "")
	}
	if b.kind != kindLog { // only handshakes, outside all quotas
		if s := b.usage.admit(q, m); s != nil {
			return s
		}
	}
	b.usage.count(m, 1)
	return nil
}

// release undoes reserve.
func (b *box) release(m *meta) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usage.count(m, -1)
}

// hand notes that a reference was handed out.
func (b *box) hand(lsn store.LSN, h handout) {
	b.handed[lsn] = h
	b.high = max(b.high, lsn)
}

// settle forgets a reference that is gone from the store.
func (b *box) settle(l leaving) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.handed, l.lsn)
	if l.meta != nil {
		b.usage.count(l.meta, -1)
	}
}

// Usage is what a queue holds: messages and their bytes count against its quota,
// control against its own, handshakes against none.
type Usage struct {
	Messages, Control, Handshakes int
	Bytes                         int64     // of messages
	Held                          int64     // bytes of everything in it
	Earliest                      time.Time // earliest deadline; zero when empty
	Acknowledged                  uint64    // highest number acknowledged since the node started
}

func (b *box) snapshot() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Usage{
		Messages: b.usage.messages, Control: b.usage.control, Handshakes: b.usage.handshakes,
		Bytes: b.usage.bytes, Held: b.usage.held, Acknowledged: uint64(b.acked),
	}
}
