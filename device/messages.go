package device

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// seen is what is remembered of a message that was stored, by its ID: who may change
// it, and where its row is. Key "d/" ‖ message ID.
type seen struct {
	From  memberKey
	Room  wire.RoomID
	Event uint64
}

func seenKey(id MessageID) []byte { return append([]byte("d/"), id[:]...) }

// take stores a message for people, or changes one that they have. One message ID is
// shown once.
func (b *batch) take(r *room, from memberKey, m message, s Shown) {
	now := b.d.now()
	b.writes = append(b.writes, func(t *txn) (err error) {
		if _, err := t.history(seenKey(m.ID)); err == nil {
			return nil
		}
		if m.evidence != nil {
			if m.evidence, err = t.keep(m.evidence, m.context, from); err != nil {
				return err
			}
		}
		if m.Replaces != nil {
			if err := t.remember(m.ID, from, r.ID, 0); err != nil {
				return err
			}
			if from == b.d.ownKey() { // of another device of ours
				before, err := t.known(from, *m.Replaces)
				if err != nil && !errors.Is(err, errNoRecord) {
					return err
				}
				if here, err := t.editOwn(m); here || err != nil {
					if err != nil || before.Deleted {
						return err
					}
					return t.showEdited(m, before, s)
				}
			}
			return t.replace(b.d, from, r.ID, m, s)
		}
		n, err := t.number("events")
		if err != nil {
			return err
		}
		if err := t.remember(m.ID, from, r.ID, n+1); err != nil {
			return err
		}
		if m.ReplyTo != nil {
			s.ReplyTo = m.ReplyTo.String()
		}
		if m.Reaction {
			s.Event = "reaction"
		}
		if m.expires() {
			x := m.record(now, false)
			x.Evidence = m.evidence
			if err := t.putExpiring(m.ID, x); err != nil {
				return err
			}
			s.Text, s.Mentions, s.MentionsYou, s.Expiring = "", nil, false, true
			return t.show(s)
		}
		return errors.Join(t.putEvidence(m.ID, m.evidence), t.show(s))
	})
}

func (t *txn) remember(id MessageID, from memberKey, room wire.RoomID, event uint64) error {
	v, err := json.Marshal(seen{from, room, event})
	if err != nil {
		return err
	}
	return t.putHistory(seenKey(id), t.v.now().Add(HistoryLife), v)
}

// replace edits or deletes a message of the same sender in the same room; anything else
// changes nothing. s is what is shown of it, when it has an event.
func (t *txn) replace(d *Device, from memberKey, room wire.RoomID, m message, s Shown) error {
	raw, err := t.history(seenKey(*m.Replaces))
	if err != nil {
		return nil // not here, or not any more
	}
	var was seen
	if err := json.Unmarshal(raw, &was); err != nil || was.From != from || !d.sameView(was.Room, room) || was.Event == 0 {
		return nil
	}
	row, key, err := t.event(was.Event)
	if errors.Is(err, errNoRecord) || err == nil && row.Deleted {
		return nil // a deletion is for good
	}
	if err != nil {
		return err
	}
	ended := false
	if _, err := t.state(expiringKey(*m.Replaces)); err == nil {
		x, ok, err := t.expiringText(*m.Replaces)
		if err != nil {
			return err
		}
		ended = !ok
		if x.Text, x.Mentions, x.MentionsYou, x.Evidence = m.Text, m.Mentions, m.MentionsYou, m.evidence; m.Deleted || !ok {
			err = t.deleteState(expiringKey(*m.Replaces))
		} else {
			err = t.putExpiring(*m.Replaces, x)
		}
		if err != nil {
			return err
		}
	}
	if err != nil || ended || row.Deleted || row.Event == "expired" || row.Event == "reaction" && !m.Deleted {
		return err
	}
	said := row.Text
	if row.Deleted, row.Edited = m.Deleted, !m.Deleted; !row.Expiring || m.Deleted {
		row.Text, row.Mentions, row.MentionsYou = m.Text, m.Mentions, m.MentionsYou
	}
	row.Expiring = row.Expiring && !m.Deleted
	switch {
	case m.Deleted:
		err = t.tx.Bucket(historyBucket).Delete(evidenceKey(*m.Replaces))
	case !row.Expiring:
		err = t.putEvidence(*m.Replaces, m.evidence) // of what it says now
	}
	if err != nil {
		return err
	}
	v, err := json.Marshal(row)
	if err != nil {
		return err
	}
	if err := t.putHistory(key, t.v.now().Add(HistoryLife), v); err != nil {
		return err
	}
	if string(key[:2]) == "n/" {
		return nil // not shown yet: it is shown as it is now
	}
	if s.Event == "" {
		return nil // it was done here: there is nobody to tell
	}
	// The text stands with the message and nowhere else, or a deletion would miss it.
	s.Event, s.ID, s.Text, s.Expiring, s.Mentions, s.MentionsYou = "edited", row.ID, "", row.Expiring, nil, false
	switch {
	case row.Event == "reaction": // one word, said again to whoever has read it
		s.Event, s.Deleted, s.Text, s.ReplyTo = "reaction", true, said, row.ReplyTo
	case m.Deleted:
		s.Event = "deleted"
	}
	return t.show(s)
}

// event finds a row of the history, new or shown.
func (t *txn) event(n uint64) (s Shown, key []byte, err error) {
	for _, prefix := range []string{"n/", "m/"} {
		key = append([]byte(prefix), newKey(n)[2:]...)
		raw, e := t.history(key)
		if errors.Is(e, errNoRecord) {
			continue
		}
		if e != nil {
			return s, nil, e
		}
		return s, key, json.Unmarshal(raw, &s)
	}
	return s, nil, errNoRecord
}

// withText puts the text of a message that ends into its row, or says that it is gone.
func (t *txn) withText(s *Shown) error {
	if err := t.quote(s); err != nil {
		return err
	}
	if s.Event == "edited" && !s.Expiring {
		return t.editedText(s)
	}
	if !s.Expiring {
		return nil
	}
	id, err := ParseMessageID(s.ID)
	if err != nil {
		return err
	}
	x, ok, err := t.expiringText(id)
	if err != nil {
		return err
	}
	if !ok {
		s.Gone = true
		return nil
	}
	s.Text, s.File, s.Mentions, s.MentionsYou = x.Text, x.File.info(), x.Mentions, x.MentionsYou
	switch {
	case x.End > 0:
		s.Ends = time.Unix(x.End, 0)
	default:
		if s.Burns = time.Duration(x.Seconds * int64(time.Second)).String(); x.Last > 0 {
			s.Ends = time.Unix(x.Last, 0)
		}
	}
	return nil
}

// editedText is the text that an edited message has now.
func (t *txn) editedText(s *Shown) error {
	id, err := ParseMessageID(s.ID)
	if err != nil {
		return err
	}
	raw, err := t.history(seenKey(id))
	if err != nil {
		return t.editedSent(s, id)
	}
	var was seen
	if err := json.Unmarshal(raw, &was); err != nil {
		return err
	}
	row, _, err := t.event(was.Event)
	if errors.Is(err, errNoRecord) {
		return nil
	}
	s.Text, s.Mentions, s.MentionsYou, s.Deleted = row.Text, row.Mentions, row.MentionsYou, row.Deleted
	return err
}

// editedSent is editedText of what this device has sent itself.
func (t *txn) editedSent(s *Shown, id MessageID) error {
	raw, err := t.history(sentKey(id))
	if err != nil {
		return nil // its day is over
	}
	var was Sent
	if err := json.Unmarshal(raw, &was); err != nil {
		return err
	}
	s.Text, s.Mentions, s.Deleted = was.Text, was.Mentions, was.Deleted
	return nil
}

// showEdited tells of a change, by another device of ours, to what this one has sent.
func (t *txn) showEdited(m message, before known, s Shown) error {
	raw, err := t.history(sentKey(*m.Replaces))
	if err != nil {
		return nil // its day is over
	}
	var was Sent
	if err := json.Unmarshal(raw, &was); err != nil {
		return err
	}
	s.Event, s.ID, s.Text, s.Expiring, s.Mentions, s.MentionsYou = "edited", was.ID, "", was.Expiring && !m.Deleted, nil, false
	switch {
	case before.Reaction:
		s.Event, s.Deleted, s.Text, s.ReplyTo = "reaction", true, before.Text, before.ReplyTo
	case m.Deleted:
		s.Event = "deleted"
	}
	return t.show(s)
}

// stale reports whether a row says nothing any more: an edit of what was deleted or has
// ended since, or a reaction that was taken back.
func (s *Shown) stale() bool {
	return s.Event == "edited" && (s.Deleted || s.Gone) || s.Event == "reaction" && s.Deleted && s.Text == ""
}

// FindMessage finds a message of a room's history, received or sent, by the beginning
// of its ID (at least 6 characters), and the room that it is in.
func (d *Device) FindMessage(text string) (id MessageID, room wire.RoomID, err error) {
	if len(text) < 6 {
		return id, room, wire.Refuse(pb.Code_CODE_MALFORMED, "name a message by at least 6 characters of its ID")
	}
	all := make(map[string]string)
	received, err := d.History()
	if err != nil {
		return id, room, err
	}
	for _, s := range received {
		if s.Event == "message" || s.Event == "reaction" && s.Own {
			all[s.ID] = s.Room
		}
	}
	sent, err := d.Sent()
	if err != nil {
		return id, room, err
	}
	for _, s := range sent {
		all[s.ID] = s.Room
	}
	found := ""
	for k := range all {
		if len(k) >= len(text) && k[:len(text)] == text {
			if found != "" {
				return id, room, wire.Refuse(pb.Code_CODE_MALFORMED, "several messages begin with %q", text)
			}
			found = k
		}
	}
	if found == "" {
		return id, room, wire.Refuse(pb.Code_CODE_MALFORMED, "no message here begins with %q: entente device history shows them", text)
	}
	if id, err = ParseMessageID(found); err != nil {
		return id, room, err
	}
	room, err = wire.ParseRoomID(all[found])
	return id, room, err
}
