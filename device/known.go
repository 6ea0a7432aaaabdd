package device

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// known is what this device knows of a message that another one is about.
type known struct {
	Own      bool // by this member, on whatever device
	Room     string
	Text     string
	Deleted  bool
	Gone     bool // it has ended
	Burns    bool // after it was read: others may not have
	Reaction bool
	ReplyTo  string
}

// known finds a message, sent here or received; errNoRecord: it is not here (any more).
func (t *txn) known(own memberKey, id MessageID) (k known, err error) {
	if raw, err := t.history(sentKey(id)); err == nil {
		var s Sent
		if err := json.Unmarshal(raw, &s); err != nil {
			return k, err
		}
		if err := t.withSentText(&s); err != nil {
			return k, err
		}
		return known{true, s.Room, s.Text, s.Deleted, s.Gone && !s.Deleted, s.Burns, s.Reaction, s.ReplyTo}, nil
	}
	raw, err := t.history(seenKey(id))
	if err != nil {
		return k, err
	}
	var was seen
	if err := json.Unmarshal(raw, &was); err != nil {
		return k, err
	}
	if was.Event == 0 { // an edit, or too late
		return k, errNoRecord
	}
	s, _, err := t.event(was.Event)
	if err != nil {
		return k, err
	}
	gone := s.Event == "expired"
	if s.Expiring {
		x, ok, err := t.expiringText(id)
		if err != nil {
			return k, err
		}
		s.Text, gone = x.Text, !ok
	}
	return known{was.From == own, was.Room.String(), s.Text, s.Deleted, gone && !s.Deleted, false, s.Event == "reaction", s.ReplyTo}, nil
}

// about looks a message up that another one shall be about.
func (d *Device) about(id MessageID) (k known, err error) {
	err = d.vault.view(func(t *txn) error { k, err = t.known(d.ownKey(), id); return err })
	return k, err
}

// checkOwn: only what one has said oneself, in this room, and what is still there, can be
// changed.
func (d *Device) checkOwn(r *room, o SendOptions) (known, error) {
	k, err := d.about(o.About)
	if errors.Is(err, errNoRecord) || err == nil && (!k.Own || k.Room != "" && d.viewText(k.Room) != d.viewText(r.ID.String())) {
		return k, wire.Refuse(pb.Code_CODE_FORBIDDEN, "only messages of your own can be edited or deleted")
	}
	switch {
	case err != nil:
		return k, err
	case k.Deleted:
		return k, wire.Refuse(pb.Code_CODE_FORBIDDEN, "you have deleted that message")
	case k.Gone && !(k.Burns && o.Action == ActionDelete): // others may not have read it yet
		return k, wire.Refuse(pb.Code_CODE_FORBIDDEN, "that message has ended")
	case k.Reaction && o.Action == ActionEdit:
		return k, wire.Refuse(pb.Code_CODE_FORBIDDEN, "that is a reaction: take it back, and react anew")
	}
	return k, nil
}

// checkThere refuses answers and reactions to what is there no more.
func (d *Device) checkThere(id MessageID) error {
	switch k, err := d.about(id); {
	case errors.Is(err, errNoRecord):
		return nil // its day is over here; others may have it
	case err != nil:
		return err
	case k.Deleted:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "that message was deleted")
	case k.Gone:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "that message has ended")
	case k.Reaction:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "that is a reaction: name the message that it is about")
	}
	return nil
}

// ownReaction finds the last reaction of this member to a message, with this text or, when
// it is empty, with any.
func (d *Device) ownReaction(about MessageID, text string) (id MessageID, found bool, err error) {
	match := func(own bool, s known) bool {
		return own && s.Reaction && !s.Deleted && s.ReplyTo == about.String() && (text == "" || s.Text == text)
	}
	last := ""
	err = d.vault.view(func(t *txn) error {
		var at int64
		note := func(id string, when int64) {
			if when >= at {
				last, at = id, when
			}
		}
		if err := t.eachHistory("s/", func(_, v []byte) error {
			var s Sent
			if err := json.Unmarshal(v, &s); err != nil {
				return err
			}
			if match(true, known{Reaction: s.Reaction, Deleted: s.Deleted, ReplyTo: s.ReplyTo, Text: s.Text}) {
				note(s.ID, s.At.UnixNano())
			}
			return nil
		}); err != nil {
			return err
		}
		for _, prefix := range []string{"m/", "n/"} { // of another device of ours
			if err := t.eachHistory(prefix, func(_, v []byte) error {
				var s Shown
				if err := json.Unmarshal(v, &s); err != nil {
					return err
				}
				if s.Event == "reaction" && match(s.Own, known{Reaction: true, Deleted: s.Deleted, ReplyTo: s.ReplyTo, Text: s.Text}) {
					note(s.ID, s.At.UnixNano())
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || last == "" {
		return id, false, err
	}
	id, err = ParseMessageID(last)
	return id, err == nil, err
}

// quoteLength is how much of a message is shown where another is about it, in characters.
const quoteLength = 40

// quote puts the beginning of the message that one is about beside it, when it is here.
func (t *txn) quote(s *Shown) error {
	id, err := ParseMessageID(s.ReplyTo)
	if err != nil {
		return nil // about nothing
	}
	k, err := t.known(memberKey{}, id)
	if errors.Is(err, errNoRecord) {
		return nil
	}
	line := []rune(strings.Join(strings.Fields(k.Text), " "))
	if len(line) > quoteLength {
		line = append(line[:quoteLength-1], '…')
	}
	s.Quote = string(line)
	return err
}
