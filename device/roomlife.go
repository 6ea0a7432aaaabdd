package device

import (
	"context"
	"errors"
	"fmt"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// announce queues the names of rooms that somebody new has to hear.
func (d *Device) announce() error {
	for id, r := range d.rooms {
		if !r.Announce || r.state == nil || r.Ended || r.Creating != nil || r.Committing > 0 || r.stalled() {
			continue
		}
		c := *r
		c.Announce = false
		encoded, mid, err := newContent(wire.MemberURI(d.account.Organization, d.account.Member), wire.RoomURI(r.Hub, r.ID), message{Name: r.Name})
		if err != nil {
			return err
		}
		now := d.now()
		o := &outgoing{ID: mid, Room: id, Content: encoded, Deadline: now.Add(wire.DefaultRetention).Unix(), Queued: now, Silent: true}
		err = d.vault.update(func(t *txn) error {
			if r.Name == "" || len(r.people()) < 2 {
				return c.save(t, false) // nothing to say, or nobody to say it to
			}
			return errors.Join(c.save(t, false), o.save(t))
		})
		if err != nil {
			return err
		}
		d.rooms[id] = &c
	}
	return nil
}

// named takes what somebody says that the room is called: an administrator, or anybody
// as long as it has no name for us.
func (b *batch) named(r *room, by memberKey, name string) {
	rules, err := policy.Of(r.state.Extensions())
	if err != nil || name == r.Name || checkRoomName(name) != nil {
		return
	}
	if r.Name != "" && rules.Role(policy.Person{Organization: by.Org, Member: by.Member}) != wire.RoleAdmin {
		return
	}
	r.Name = name
	b.touch(r.ID, false)
	b.show(Shown{Event: "room", State: "named", Room: r.ID.String(), RoomName: name, From: b.d.nameOf(by), At: b.d.now()})
}

// rulesChanged says what a Commit changed about the room's rules.
func (b *batch) rulesChanged(r *room, e *mls.Effects) error {
	if !e.Extensions {
		return nil
	}
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return err
	}
	by := ""
	if leaf := r.state.Public().Member(e.Committer); leaf != nil {
		if c, err := policy.CredentialOf(leaf); err == nil {
			by = b.d.nameOf(memberKey{c.Organization, c.Member})
		}
	}
	s := Shown{Event: "room", State: "rules changed", Room: r.ID.String(), RoomName: r.Name, From: by, At: b.d.now()}
	if rules.Room.Ended {
		s.State, r.Ended = "ended", true
		b.touch(r.ID, false)
	}
	b.show(s)
	return nil
}

// Leave asks to be taken out of a room: whoever is there does it. From now on this
// device says nothing more in it.
func (s *Sender) Leave(ctx context.Context, id wire.RoomID) error {
	if err := s.l.handedOver(ctx); err != nil {
		return err
	}
	if err := s.l.d.startLeaving(id); err != nil {
		return err
	}
	if err := s.l.submitWaiting(ctx); err != nil {
		return err
	}
	for s.l.open.Load() > 0 {
		if err := s.l.pause(ctx, s.l.d.now().Add(DefaultWait)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) startLeaving(id wire.RoomID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil || r.Ended {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	}
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return err
	}
	self := policy.Person{Organization: d.account.Organization, Member: d.account.Member}
	others := len(r.people()) - 1
	if rules.Roles != nil && rules.Role(self) == wire.RoleAdmin && rules.Roles.Admins() == 1 && others > 0 {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "you are its only administrator: make somebody else one first (entente room role), or end it (entente room end)")
	}
	c := *r
	c.Leaving, c.Ended = others > 0, others == 0
	err = d.vault.update(func(t *txn) error { return c.save(t, false) })
	if err == nil {
		d.rooms[id] = &c
	}
	return err
}

// leave proposes our own removal in rooms that we are leaving, once in each epoch until
// somebody commits it.
func (l *link) leave(ctx context.Context) error {
	d := l.d
	for id, r := range d.rooms {
		if !r.Leaving || r.Ended || r.state == nil || r.LeaveEpoch == r.state.Epoch() || r.Committing > 0 || r.stalled() {
			continue
		}
		c := *r
		c.LeaveEpoch = r.state.Epoch()
		for _, leaf := range r.leavesOf(memberKey{d.account.Organization, d.account.Member}) {
			if err := l.proposeRemove(ctx, &c, leaf); err != nil {
				return err
			}
		}
		d.rooms[id] = &c
	}
	return nil
}

// proposeRemove hands over a proposal to remove a leaf of our own.
func (l *link) proposeRemove(ctx context.Context, r *room, leaf mls.LeafIndex) error {
	next, proposal, err := r.state.ProposeRemove(leaf, nil)
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_PROPOSAL,
		Room: r.ID[:], Generation: r.Generation, Epoch: r.state.Epoch(), Body: proposal})
	if err != nil {
		return err
	}
	var counter uint64
	r.state = next
	err = l.d.vault.update(func(t *txn) error {
		n, err := t.nextCounter()
		counter = n
		return errors.Join(err, r.save(t, true))
	})
	if err != nil {
		return fmt.Errorf("device: leaving a room: %w", err)
	}
	id := r.ID
	l.open.Add(1)
	return l.client.Submit(ctx, counter, core, func(st *pb.Status) { l.proposed(id, st) })
}

// proposed notes a refusal of our proposal: it is made again with the next visit.
func (l *link) proposed(id wire.RoomID, st *pb.Status) {
	go func() {
		defer poke(l.settled)
		defer l.open.Add(-1)
		d := l.d
		d.mu.Lock()
		defer d.mu.Unlock()
		if wire.ClassOf(st.Code) == wire.Success {
			if st.Seq > 0 {
				_ = d.vault.update(func(t *txn) error { return t.ownPlace(id, st.Seq) })
			}
			return
		}
		if r := d.rooms[id]; r != nil {
			c := *r
			c.LeaveEpoch = 0
			if d.vault.update(func(t *txn) error { return c.save(t, false) }) == nil {
				d.rooms[id] = &c
			}
		}
	}()
}
