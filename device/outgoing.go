package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// outgoing is a message that the hub has not sequenced yet; state record "out/" ‖
// message ID. Its content is kept, so that it can be encrypted again for another
// epoch under the same message ID.
type outgoing struct {
	ID       MessageID
	Room     wire.RoomID
	Content  []byte
	Deadline int64
	Counter  uint64 // 0: not encrypted yet
	Epoch    uint64 // that it was encrypted for last
	Core     []byte
	Accepted bool // at the home node; the hub's answer is still to come
	Silent   bool // about the room itself: nobody is told what becomes of it
	Queued   time.Time
}

const (
	outPrefix   = "out/"
	counterName = "submit-counter"
	markName    = "mailbox-mark"

	// HistoryLife is how long messages stay readable on this device.
	HistoryLife = 30 * 24 * time.Hour
)

func (o *outgoing) save(t *txn) error {
	b, err := o.marshal()
	if err != nil {
		return err
	}
	return t.putState(append([]byte(outPrefix), o.ID[:]...), b)
}

func (t *txn) outgoing(id MessageID) (*outgoing, error) {
	v, err := t.state(append([]byte(outPrefix), id[:]...))
	if err != nil {
		return nil, err
	}
	o := &outgoing{}
	if err := o.unmarshal(v); err != nil {
		return nil, err
	}
	return o, nil
}

// nextCounter takes the next number of a submission.
func (t *txn) nextCounter() (uint64, error) {
	n, err := t.number(counterName)
	if err != nil {
		return 0, err
	}
	return n + 1, t.putNumber(counterName, n+1)
}

// waiting lists the messages without an end, in the order in which they were queued.
func (d *Device) waiting() ([]*outgoing, error) {
	var out []*outgoing
	err := d.vault.view(func(t *txn) error {
		return t.eachState(outPrefix, func(_, v []byte) error {
			o := &outgoing{}
			if err := o.unmarshal(v); err != nil {
				return err
			}
			out = append(out, o)
			return nil
		})
	})
	slices.SortFunc(out, func(a, b *outgoing) int {
		if a.Counter != b.Counter && a.Counter != 0 && b.Counter != 0 {
			return int(int64(a.Counter - b.Counter))
		}
		if (a.Counter == 0) != (b.Counter == 0) { // what has a counter goes first
			if a.Counter == 0 {
				return 1
			}
			return -1
		}
		return a.Queued.Compare(b.Queued)
	})
	return out, err
}

// Sent is what became of a message that this member sent.
type Sent struct {
	ID       string    `json:"id"`
	To       string    `json:"to"`
	Room     string    `json:"room"`
	Seq      uint64    `json:"seq,omitempty"`
	Text     string    `json:"text"`
	File     *FileInfo `json:"file,omitempty"`
	At       time.Time `json:"at"`
	Deadline time.Time `json:"deadline"`
	Edited   bool      `json:"edited,omitempty"`
	Deleted  bool      `json:"deleted,omitempty"`
	Expiring bool      `json:"expiring,omitempty"` // the text lies apart and ends; Gone: it has
	Gone     bool      `json:"gone,omitempty"`
	Burns    bool      `json:"burns,omitempty"`    // after it was read, on each device by its own time
	Reaction bool      `json:"reaction,omitempty"` // Text is one to ReplyTo
	ReplyTo  string    `json:"reply_to,omitempty"`
	Mentions []string  `json:"mentions,omitempty"` // addresses
	Hidden   bool      `json:"hidden,omitempty"`   // an edit or deletion: what it did stands with the message
	State    string    `json:"state"`              // queued, waiting, accepted, sequenced, then what notices say
	Reason   string    `json:"reason,omitempty"`
	Code     pb.Code   `json:"code,omitempty"` // of the refusal for now
	// Of is how many others were in the room; Members, what their organizations have said
	// of the message at each. In a room of two State says the same.
	Of      int           `json:"of,omitempty"`
	Members []MemberState `json:"members,omitempty"`
}

// MemberState is what became of a message at one member: stored (until when), delivered,
// acknowledged, unreadable, expired, refused, dropped; signed by the member's
// organization.
type MemberState struct {
	Address string    `json:"address"`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	At      time.Time `json:"at"`
}

// Acknowledged counts the members with a device that has stored the message.
func (s *Sent) Acknowledged() (n int) {
	for _, m := range s.Members {
		if m.State == "acknowledged" {
			n++
		}
	}
	return n
}

// stateWaiting is a message that was refused for now: it goes out again with the
// next session.
const stateWaiting = "waiting"

func sentKey(id MessageID) []byte { return append([]byte("s/"), id[:]...) }

func placeKey(room wire.RoomID, seq uint64) []byte {
	return fmt.Appendf(nil, "q/%s/%020d", room, seq)
}

// putPlace notes which message of ours has a place: its ID ‖ the return handle by which notices
// speak of it, where the node has said that. A place alone says too little: a hub that was set
// back could give it twice, and what is said of the other message is not said of this one.
func (t *txn) putPlace(o *outgoing, st *pb.Status, until time.Time) error {
	v := append([]byte(nil), o.ID[:]...)
	if len(st.ReturnHandle) == wire.ReturnHandleLen {
		v = append(v, st.ReturnHandle...)
	}
	return t.putHistory(placeKey(o.Room, st.Seq), until, v)
}

// placed reads what putPlace notes; false: it is no message of ours.
func placed(v []byte) (id MessageID, handle []byte, ok bool) {
	if len(v) != len(id) && len(v) != len(id)+wire.ReturnHandleLen {
		return id, nil, false
	}
	return MessageID(v[:len(id)]), v[len(id):], true
}

// putSent changes what is known of a sent message.
func (t *txn) changeSent(id MessageID, change func(*Sent)) (*Sent, error) {
	s := &Sent{}
	b, err := t.history(sentKey(id))
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil && !errors.Is(err, errNoRecord) {
		return nil, err
	}
	change(s)
	if b, err = json.Marshal(s); err != nil {
		return nil, err
	}
	return s, t.putHistory(sentKey(id), s.At.Add(HistoryLife), b)
}

// settled notes the status of the submission of a message under a counter. It returns
// whether the message has to be encrypted again. The record decides what still waits:
// the hub's result can be stored before the node's own answer is.
func (d *Device) settled(t *txn, id MessageID, counter uint64, st *pb.Status) (again bool, err error) {
	o, err := t.outgoing(id)
	if errors.Is(err, errNoRecord) || err == nil && o.Counter != counter {
		return false, nil // answered before
	}
	if err != nil {
		return false, err
	}
	state, reason := wire.CodeName(st.Code), ""
	tell := func(change func(*Sent)) error {
		if o.Silent {
			return nil
		}
		_, err := t.changeSent(o.ID, change)
		return err
	}
	switch {
	case st.Code == pb.Code_CODE_SEQUENCED || st.Code == pb.Code_CODE_DUPLICATE:
		if err := t.deleteState(append([]byte(outPrefix), o.ID[:]...)); err != nil {
			return false, err
		}
		if err := t.putPlace(o, st, d.now().Add(HistoryLife)); err != nil {
			return false, err
		}
	case st.Code == pb.Code_CODE_ACCEPTED:
		o.Accepted = true
		if err := o.save(t); err != nil {
			return false, err
		}
	case wire.ClassOf(st.Code) == wire.Temporary || st.Code == pb.Code_CODE_ROLLED_BACK:
		// Later under a counter of its own: those after it may be taken meanwhile.
		o.Counter, o.Core, o.Accepted = 0, nil, false
		if err := o.save(t); err != nil || st.Code == pb.Code_CODE_WRONG_EPOCH || st.Code == pb.Code_CODE_ROLLED_BACK && d.overtaken(counter) {
			return true, err
		}
		return true, tell(func(s *Sent) {
			s.State, s.Code, s.Reason = stateWaiting, st.Code, (&wire.StatusError{Status: st}).Error()
		})
	default:
		if err := t.deleteState(append([]byte(outPrefix), o.ID[:]...)); err != nil {
			return false, err
		}
		state, reason = "refused", (&wire.StatusError{Status: st}).Error()
	}
	return false, tell(func(s *Sent) {
		s.State, s.Reason = state, reason
		if state == "refused" {
			s.Code = st.Code
		}
		if st.Seq > 0 {
			s.Seq = st.Seq
		}
	})
}
