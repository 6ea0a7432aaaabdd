package device

import (
	"encoding/json"
	"errors"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// compose makes the message that the options ask for.
func (d *Device) compose(r *room, text string, o SendOptions) (m message, err error) {
	m.Text, m.File = text, o.file
	if m.Expires, err = o.expiry(d.now()); err != nil {
		return m, err
	}
	switch o.Action {
	case ActionReply:
		m.ReplyTo = &o.About
	case ActionReact:
		if m.ReplyTo, m.Reaction = &o.About, true; len(text) == 0 || len(text) > maxReaction {
			return m, wire.Refuse(pb.Code_CODE_MALFORMED, "a reaction is 1 to %d bytes", maxReaction)
		}
	case ActionEdit, ActionDelete:
		if m.Replaces, m.Deleted = &o.About, o.Action == ActionDelete; m.Deleted {
			m.Text = ""
		}
		return m, d.checkOwn(r, o.About)
	}
	return m, nil
}

// checkOwn: only what one has said oneself, in this room, can be changed.
func (d *Device) checkOwn(r *room, id MessageID) error {
	var s Sent
	err := d.vault.view(func(t *txn) error {
		raw, err := t.history(sentKey(id))
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &s)
	})
	if errors.Is(err, errNoRecord) {
		err = d.checkSeen(r, id)
	}
	if errors.Is(err, errNoRecord) || err == nil && s.Room != "" && s.Room != r.ID.String() {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "only messages of your own can be edited or deleted")
	}
	return err
}

// checkSeen is checkOwn of what another device of ours has said; errNoRecord: it was not.
func (d *Device) checkSeen(r *room, id MessageID) error {
	return d.vault.view(func(t *txn) error {
		raw, err := t.history(seenKey(id))
		if err != nil {
			return err
		}
		var was seen
		if err := json.Unmarshal(raw, &was); err != nil {
			return err
		}
		if was.From != d.ownKey() || was.Room != r.ID {
			return errNoRecord
		}
		return nil
	})
}

// putSent stores what is known of a new message, and what it does to an earlier one of
// ours. The text of one that ends lies apart.
func (t *txn) putSent(own memberKey, o *outgoing, m message, s Sent) error {
	if m.Replaces != nil {
		here, err := t.editOwn(m)
		if err == nil && !here {
			err = t.replace(own, o.Room, m, Shown{})
		}
		if err != nil {
			return err
		}
		s.Text, s.Hidden = "", true
	}
	if m.expires() && m.Replaces == nil {
		if err := t.putExpiring(o.ID, m.record(t.v.now(), true)); err != nil {
			return err
		}
		s.Text, s.Expiring = "", true
	}
	_, err := t.changeSent(o.ID, func(x *Sent) { *x = s })
	return err
}

// editOwn changes a message that this device has sent; here is whether it has.
func (t *txn) editOwn(m message) (here bool, err error) {
	if _, err := t.history(sentKey(*m.Replaces)); errors.Is(err, errNoRecord) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, t.editSent(*m.Replaces, m)
}

func (t *txn) editSent(id MessageID, m message) error {
	x, ok, err := t.expiringText(id)
	if err != nil {
		return err
	}
	if ok {
		if x.Text = m.Text; m.Deleted {
			err = t.deleteState(expiringKey(id))
		} else {
			err = t.putExpiring(id, x)
		}
		if err != nil {
			return err
		}
	}
	_, err = t.changeSent(id, func(s *Sent) {
		if s.Edited, s.Deleted = !m.Deleted, m.Deleted; !s.Expiring {
			s.Text = m.Text
		}
	})
	return err
}

// withSentText is withText of what one has sent.
func (t *txn) withSentText(s *Sent) error {
	if !s.Expiring {
		return nil
	}
	id, err := ParseMessageID(s.ID)
	if err != nil {
		return err
	}
	x, ok, err := t.expiringText(id)
	s.Text, s.File, s.Gone = x.Text, x.File.info(), err == nil && !ok
	return err
}
