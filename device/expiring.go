package device

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// expiring is the text of a message that ends before the history does; state record
// "x/" ‖ message ID. It lies under the state key and nowhere else: when it ends, the
// record goes and the key is replaced in place, so that what the file still holds of it
// opens with nothing.
type expiring struct {
	Text    string
	Seconds int64       // after it was read first; 0: End stands from the beginning
	End     int64       // Unix; 0: not read yet
	File    *attachment `json:",omitempty"`
	Last    int64       `json:",omitempty"` // Unix: End is no later; 0: of its own

	Mentions    []string `json:",omitempty"`
	MentionsYou bool     `json:",omitempty"`

	Evidence *evidence `json:",omitempty"` // for a report; of what others have said
}

const expiringPrefix = "x/"

func expiringKey(id MessageID) []byte { return append([]byte(expiringPrefix), id[:]...) }

// until turns an expiry into a record. read says that its clock starts now.
func (e expiry) record(text string, now time.Time, read bool) expiring {
	x := expiring{Text: text}
	switch {
	case !e.Relative:
		x.End = e.Seconds
	case read:
		x.End = now.Unix() + e.Seconds
	default:
		x.Seconds = e.Seconds
	}
	// Never longer than the history.
	if last := now.Add(HistoryLife).Unix(); x.End > last {
		x.End = last
	}
	return x
}

// expires reports whether a message's text lies apart: it ends before the history does,
// or names a file, whose key is worth nothing once its blob has ended.
func (m *message) expires() bool { return m.Expires.Seconds > 0 || m.File != nil }

// record is a message's text, and its file's key, until they end.
func (m *message) record(now time.Time, read bool) expiring {
	x := m.Expires.record(m.Text, now, read)
	x.File, x.Mentions, x.MentionsYou, x.Last = m.File, m.Mentions, m.MentionsYou, m.Expires.Until
	if last := now.Add(HistoryLife).Unix(); x.Last > last {
		x.Last = last
	}
	if m.File != nil && (x.Last == 0 || m.File.Expires < x.Last) {
		x.Last = min(m.File.Expires, now.Add(HistoryLife).Unix())
	}
	if x.Last > 0 && (m.Expires.Seconds == 0 || x.End > x.Last) {
		x.End = x.Last
	}
	return x
}

func (x *expiring) ended(now time.Time) bool {
	return x.End > 0 && x.End <= now.Unix() || x.Last > 0 && x.Last <= now.Unix()
}

func (t *txn) putExpiring(id MessageID, x expiring) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return t.putState(expiringKey(id), b)
}

// expiringText is the text of a message that ends, as long as it has not.
func (t *txn) expiringText(id MessageID) (x expiring, ok bool, err error) {
	b, err := t.state(expiringKey(id))
	if errors.Is(err, errNoRecord) {
		return x, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err == nil && x.ended(t.v.now()) {
		return expiring{}, false, nil // its sweep is still to come
	}
	return x, err == nil, err
}

// read starts the clock of a message that was shown.
func (t *txn) read(id MessageID) error {
	x, ok, err := t.expiringText(id)
	if err != nil || !ok || x.End > 0 {
		return err
	}
	x.End = min(t.v.now().Unix()+x.Seconds, t.v.now().Add(HistoryLife).Unix())
	if x.Last > 0 {
		x.End = min(x.End, x.Last)
	}
	return t.putExpiring(id, x)
}

// Sweep destroys what has ended. It is called by Open and while a device stays open;
// a device that is off destroys it when it is opened next.
func (d *Device) Sweep() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sweep()
}

func (d *Device) sweep() error {
	now := d.now()
	var ended [][]byte
	err := d.vault.view(func(t *txn) error {
		return t.eachState(expiringPrefix, func(k, v []byte) error {
			var x expiring
			if err := json.Unmarshal(v, &x); err != nil {
				return err
			}
			if x.ended(now) {
				ended = append(ended, bytes.Clone(k))
			}
			return nil
		})
	})
	if err != nil || len(ended) == 0 {
		return err
	}
	err = d.vault.update(func(t *txn) error {
		for _, k := range ended {
			if err := t.deleteState(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.vault.rotate()
}

// checkExpiry bounds what a sender asks for.
func (o SendOptions) expiry(now time.Time) (expiry, error) {
	switch {
	case o.Burn < 0 || o.Burn > HistoryLife || o.Burn > 0 && o.Burn < time.Second:
		return expiry{}, wire.Refuse(pb.Code_CODE_MALFORMED, "a message burns between a second and 30 days after it was read")
	case o.Until.IsZero() && o.Burn > 0:
		return expiry{Relative: true, Seconds: int64(o.Burn / time.Second)}, nil
	case o.Until.IsZero():
		return expiry{}, nil
	case !o.Until.After(now) || o.Until.After(now.Add(HistoryLife)):
		return expiry{}, wire.Refuse(pb.Code_CODE_MALFORMED, "a message ends in the future, within 30 days")
	}
	if o.Burn > 0 {
		return expiry{Relative: true, Seconds: int64(o.Burn / time.Second), Until: o.Until.Unix()}, nil
	}
	return expiry{Seconds: o.Until.Unix()}, nil
}
