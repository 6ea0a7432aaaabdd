package device

import (
	"encoding/binary"
	"errors"

	"github.com/entente-im/entente/wire"
)

// What this device could not open is told to the node with the acknowledgement, so that the
// sender learns of it (P2). The acknowledgement can be lost with its connection, and what
// lies at or below the mark is not looked at again: the numbers are stored with the mark and
// said again with the next Hello (docs/protocol.md 6.4).
const unreportedName = "unreadable-unreported"

// addUnreported notes mailbox numbers of deliveries that could not be opened. A window's
// worth is kept: more than that is never unacknowledged at once.
func (t *txn) addUnreported(seqs []uint64) error {
	if len(seqs) == 0 {
		return nil
	}
	all, err := t.unreported()
	if err != nil {
		return err
	}
	all = append(all, seqs...)
	return t.putUnreported(all[max(0, len(all)-wire.DeliverWindow):])
}

// unreported are the numbers, rising.
func (t *txn) unreported() (seqs []uint64, err error) {
	b, err := t.meta([]byte(unreportedName))
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

func (t *txn) putUnreported(seqs []uint64) error {
	var b []byte
	for _, n := range seqs {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return t.putMeta([]byte(unreportedName), b)
}

// unreported lists what the next Hello says.
func (l *link) unreported() []uint64 {
	err := l.d.vault.view(func(t *txn) (err error) { l.reporting, err = t.unreported(); return err })
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
	last := l.reporting[len(l.reporting)-1]
	l.reporting = nil
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	return l.d.vault.update(func(t *txn) error {
		left, err := t.unreported()
		if err != nil {
			return err
		}
		for len(left) > 0 && left[0] <= last {
			left = left[1:]
		}
		return t.putUnreported(left)
	})
}
