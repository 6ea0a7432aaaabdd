package mailbox

import (
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Defaults beside those of wire/limits.go: what a partner's outbox may hold while
// the partner is away, and how much of a device's control quota one partner gets.
const (
	OutboxEnvelopes     = 100_000
	OutboxBytes         = 1 << 30
	OutboxPerSender     = 5_000
	OutboxControl       = 10_000
	ControlPartnerShare = 50 // percent
)

// Quota bounds one queue. Handshakes are outside it (docs/protocol.md 9).
type Quota struct {
	Envelopes    int   // messages
	Bytes        int64 // of messages
	PerSender    int   // messages of one sender
	Share        int   // percent of Envelopes and Bytes that one partner may fill
	Control      int   // control envelopes
	ControlShare int   // percent of Control that one partner may fill
}

// Limits of all queues; a zero field takes its default.
type Limits struct {
	Inbox  Quota
	Outbox Quota
	Log    int // Commits that a room log keeps
}

func (l Limits) withDefaults() Limits {
	l.Inbox = l.Inbox.or(Quota{
		Envelopes: wire.MailboxEnvelopes, Bytes: wire.MailboxBytes, PerSender: wire.MailboxPerSender,
		Share: wire.MailboxPartnerShare, Control: wire.ControlPerMailbox, ControlShare: ControlPartnerShare,
	})
	l.Outbox = l.Outbox.or(Quota{
		Envelopes: OutboxEnvelopes, Bytes: OutboxBytes, PerSender: OutboxPerSender,
		Share: 100, Control: OutboxControl, ControlShare: 100,
	})
	if l.Log == 0 {
		l.Log = wire.RoomLogCommits
	}
	return l
}

func (q Quota) or(d Quota) Quota {
	pick := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	pick(&q.Envelopes, d.Envelopes)
	pick(&q.PerSender, d.PerSender)
	pick(&q.Share, d.Share)
	pick(&q.Control, d.Control)
	pick(&q.ControlShare, d.ControlShare)
	if q.Bytes == 0 {
		q.Bytes = d.Bytes
	}
	return q
}

// share is what one partner holds of a queue.
type share struct {
	messages, control int
	bytes             int64
}

// usage counts what a queue holds, reservations included.
type usage struct {
	messages, control, handshakes int
	commits                       int   // of the handshakes
	bytes                         int64 // of messages
	held                          int64 // bytes of everything
	partners                      map[wire.OrganizationID]share
	senders                       map[senderTag]int
}

// admit refuses m when it would pass one of q's bounds: new ones are refused, old
// ones never dropped.
func (u *usage) admit(q Quota, m *meta) *pb.Status {
	of := u.partners[m.from]
	foreign := !m.from.IsZero()
	switch m.class {
	case pb.Class_CLASS_MESSAGE:
		size := int64(m.size)
		switch {
		case u.messages+1 > q.Envelopes || u.bytes+size > q.Bytes:
			return wire.Status(pb.Code_CODE_FULL, "the mailbox holds %d envelopes and %d bytes: wait until some are fetched or expire", u.messages, u.bytes)
		case foreign && (of.messages+1 > part(q.Envelopes, q.Share) || of.bytes+size > part(q.Bytes, q.Share)):
			return wire.Status(pb.Code_CODE_FULL, "the partner's share of the mailbox is used up: wait until some are fetched or expire")
		case u.senders[m.sender]+1 > q.PerSender:
			return wire.Status(pb.Code_CODE_FULL, "the sender's share of the mailbox is used up: wait until some are fetched or expire")
		}
	case pb.Class_CLASS_CONTROL:
		if u.control+1 > q.Control || foreign && of.control+1 > part(q.Control, q.ControlShare) {
			return wire.Status(pb.Code_CODE_FULL, "no room for more control envelopes")
		}
	}
	return nil
}

// part is percent of whole, but never nothing.
func part[T int | int64](whole T, percent int) T {
	return max(1, whole*T(percent)/100)
}

// count adds m n times (1 or -1). Entries that reach zero leave the maps, which so
// never hold more than the queue does.
func (u *usage) count(m *meta, n int) {
	of := u.partners[m.from]
	u.held += int64(n) * int64(m.size)
	switch m.class {
	case pb.Class_CLASS_MESSAGE:
		u.messages += n
		u.bytes += int64(n) * int64(m.size)
		of.messages += n
		of.bytes += int64(n) * int64(m.size)
		put(&u.senders, m.sender, u.senders[m.sender]+n)
	case pb.Class_CLASS_CONTROL:
		u.control += n
		of.control += n
	case pb.Class_CLASS_HANDSHAKE:
		u.handshakes += n
		if m.kind == pb.Kind_KIND_COMMIT {
			u.commits += n
		}
	}
	if !m.from.IsZero() {
		put(&u.partners, m.from, of)
	}
}

func put[K, V comparable](m *map[K]V, key K, value V) {
	var zero V
	if value == zero {
		delete(*m, key)
		return
	}
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = value
}
