package device

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// What nobody reads on this device, because it could not be opened or ended before it came,
// is told to the node with the acknowledgement, so that the sender learns of it (P2). The acknowledgement can be lost with its connection, and what
// lies at or below the mark is not looked at again: the numbers are stored with the mark and
// said again with the next Hello (docs/protocol.md 6.4).
const (
	unreportedName = "unreadable-unreported" // all of them
	expiredName    = "expired-unreported"    // of these, those that ended
)

// addUnreported notes mailbox numbers of deliveries that nobody reads. A window's worth is
// kept: more than that is never unacknowledged at once.
func (t *txn) addUnreported(seqs []session.Unread) error {
	if len(seqs) == 0 {
		return nil
	}
	all, err := t.unreported()
	if err != nil {
		return err
	}
	all = append(all, seqs...)
	slices.SortStableFunc(all, func(a, b session.Unread) int { return cmp.Compare(a.Seq, b.Seq) })
	all = slices.CompactFunc(all, func(a, b session.Unread) bool { return a.Seq == b.Seq })
	return t.putUnreported(all[max(0, len(all)-wire.DeliverWindow):])
}

// unreported are the numbers, rising.
func (t *txn) unreported() (all []session.Unread, err error) {
	seqs, err := t.numbersOf(unreportedName)
	if err != nil {
		return nil, err
	}
	expired, err := t.numbersOf(expiredName)
	for _, n := range seqs {
		all = append(all, session.Unread{Seq: n, Expired: slices.Contains(expired, n)})
	}
	return all, err
}

func (t *txn) numbersOf(name string) (seqs []uint64, err error) {
	b, err := t.meta([]byte(name))
	if errors.Is(err, errNoRecord) {
		return nil, nil
	}
	if err != nil || len(b)%8 != 0 {
		return nil, errors.Join(errSealed, err)
	}
	for ; len(b) > 0; b = b[8:] {
		seqs = append(seqs, binary.BigEndian.Uint64(b))
	}
	return seqs, nil
}

func (t *txn) putUnreported(all []session.Unread) error {
	var seqs, expired []byte
	for _, u := range all {
		if seqs = binary.BigEndian.AppendUint64(seqs, u.Seq); u.Expired {
			expired = binary.BigEndian.AppendUint64(expired, u.Seq)
		}
	}
	return errors.Join(t.putMeta([]byte(unreportedName), seqs), t.putMeta([]byte(expiredName), expired))
}

// unreadOf lists those of some deliveries that nobody reads here, whenever they came first.
func (d *Device) unreadOf(ds []*pb.Deliver) (unread []session.Unread, err error) {
	err = d.vault.view(func(t *txn) error {
		unread, err = t.unreported()
		return err
	})
	return slices.DeleteFunc(unread, func(u session.Unread) bool {
		return !slices.ContainsFunc(ds, func(x *pb.Deliver) bool { return x.Seq == u.Seq })
	}), err
}

// unreported lists what the next Hello says: what lies above the acknowledgement waits for it.
func (l *link) unreported() []session.Unread {
	through := l.d.acknowledged()
	err := l.d.vault.view(func(t *txn) (err error) { l.reporting, err = t.unreported(); return err })
	l.reporting = slices.DeleteFunc(l.reporting, func(u session.Unread) bool { return u.Seq > through })
	if err != nil {
		l.reporting = nil
	}
	return l.reporting
}

// reported forgets what the node has taken with the last Hello.
func (l *link) reported() error {
	if len(l.reporting) == 0 {
		return nil
	}
	last := l.reporting[len(l.reporting)-1].Seq
	l.reporting = nil
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	return l.d.vault.update(func(t *txn) error {
		left, err := t.unreported()
		if err != nil {
			return err
		}
		for len(left) > 0 && left[0].Seq <= last {
			left = left[1:]
		}
		return t.putUnreported(left)
	})
}
