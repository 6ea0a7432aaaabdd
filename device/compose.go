package device

import (
	"errors"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// compose makes the message that the options ask for.
func (d *Device) compose(r *room, text string, o SendOptions) (m message, err error) {
	m.Text, m.File, m.plain = text, o.file, o.Plain
	if m.Expires, err = o.expiry(d.now()); err != nil {
		return m, err
	}
	if err := o.checkText(text); err != nil {
		return m, err
	}
	if m.File == nil && !m.plain && o.Action != ActionReact {
		m.linked, m.Mentions = mention(text, d.addressees(r))
	}
	switch o.Action {
	case ActionReply:
		m.ReplyTo = &o.About
		return m, d.checkThere(o.About)
	case ActionReact:
		m.ReplyTo, m.Reaction = &o.About, true
		return m, d.checkReaction(o.About, text)
	case ActionUnreact:
		return d.unreact(o.About, text)
	case ActionEdit:
		m.Replaces = &o.About
		_, err := d.checkOwn(r, o)
		return m, err
	case ActionDelete:
		k, err := d.checkOwn(r, o)
		return deletion(o.About, k), err
	}
	return m, nil
}

// deletion takes a message back, or a reaction (the draft's "Unlike").
func deletion(id MessageID, k known) message {
	m := message{Replaces: &id, Deleted: true, Reaction: k.Reaction}
	if about, err := ParseMessageID(k.ReplyTo); err == nil && k.Reaction {
		m.ReplyTo = &about
	}
	return m
}

// checkReaction: once each, to what is there.
func (d *Device) checkReaction(about MessageID, text string) error {
	if len(text) > maxReaction {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a reaction is 1 to %d bytes", maxReaction)
	}
	if _, found, err := d.ownReaction(about, text); err != nil {
		return err
	} else if found {
		return wire.Refuse(pb.Code_CODE_EXISTS, "you have reacted so already")
	}
	return d.checkThere(about)
}

// unreact finds the reaction that is taken back.
func (d *Device) unreact(about MessageID, text string) (message, error) {
	id, found, err := d.ownReaction(about, text)
	if err != nil {
		return message{}, err
	}
	if !found {
		return message{}, wire.Refuse(pb.Code_CODE_NOT_FOUND, "you have no such reaction to that message")
	}
	return deletion(id, known{Reaction: true, ReplyTo: about.String()}), nil
}

// putSent stores what is known of a new message, and what it does to an earlier one of
// ours. The text of one that ends lies apart.
func (t *txn) putSent(d *Device, o *outgoing, m message, s Sent) error {
	if m.Replaces != nil {
		s.Reaction, s.ReplyTo = false, ""
		here, err := t.editOwn(m)
		if err == nil && !here {
			err = t.replace(d, d.ownKey(), o.Room, m, Shown{})
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
		s.Text, s.Expiring, s.Mentions = "", true, nil
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
		if x.Text, x.Mentions = m.Text, m.Mentions; m.Deleted {
			err = t.deleteState(expiringKey(id))
		} else {
			err = t.putExpiring(id, x)
		}
		if err != nil {
			return err
		}
	}
	_, err = t.changeSent(id, func(s *Sent) {
		if s.Deleted {
			return // for good
		}
		s.Mentions = m.Mentions
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
	s.Text, s.File, s.Mentions, s.Gone = x.Text, x.File.info(), x.Mentions, err == nil && !ok
	return err
}
