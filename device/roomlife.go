package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

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
				return c.save(t) // nothing to say, or nobody to say it to
			}
			return errors.Join(c.save(t), o.save(t))
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
	if err != nil || name == r.Name || CheckRoomName(name) != nil {
		return
	}
	if r.Name != "" && rules.Role(policy.Person{Organization: by.Org, Member: by.Member}) != wire.RoleAdmin {
		return
	}
	r.Name = name
	b.touch(r.ID)
	b.show(Shown{Event: "room", State: "named", Room: r.ID.String(), RoomName: name, From: b.d.nameOf(by), At: b.d.now()})
}

// rulesChanged says what a Commit changed about the room's rules.
func (b *batch) rulesChanged(r *room, before *mls.PublicGroup, e *mls.Effects) error {
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
		b.touch(r.ID)
	}
	if rules.Room.Ended || !rulesFollow(before, r.state.Public()) {
		b.show(s)
	}
	return nil
}

// Leave asks to be taken out of a room: whoever is there does it. From now on this
// device says nothing more in it. When the room moved on meanwhile it is asked again; a
// *wire.StatusError says that it was refused, for now or for good.
func (s *Sender) Leave(ctx context.Context, id wire.RoomID) error {
	l := s.l
	if err := l.handedOver(ctx); err != nil {
		return err
	}
	if err := l.d.startLeaving(id); err != nil {
		return err
	}
	for range maxAttempts {
		if err := l.submitWaiting(ctx); err != nil {
			return err
		}
		st, err := l.awaitProposals(ctx, id)
		switch {
		case err != nil:
			return err
		case st == nil:
			return nil
		case st.Code == pb.Code_CODE_WRONG_EPOCH:
			l.d.mu.Lock()
			err := l.d.catchUp(ctx, id)
			l.d.mu.Unlock()
			if err != nil {
				return err
			}
		case wire.ClassOf(st.Code) == wire.Temporary:
			return wire.Refuse(st.Code, "%s; it is asked again with the next visit", st.Detail)
		default:
			return errors.Join(wire.Err(st), l.d.stopLeaving(id))
		}
	}
	return wire.Refuse(pb.Code_CODE_WRONG_EPOCH, "the room moved on %d times; it is asked again with the next visit", maxAttempts)
}

// awaitProposals waits for the hub's answers to our proposals to leave a room, and
// returns a refusal; nil too when a hub elsewhere does not answer in time.
func (l *link) awaitProposals(ctx context.Context, id wire.RoomID) (*pb.Status, error) {
	for patience := time.Now().Add(DefaultWait); ; {
		refused, open := l.d.proposalOutcome(l.proposals[id])
		if refused != nil || !open || !time.Now().Before(patience) {
			return refused, nil
		}
		if err := l.pause(ctx, patience); err != nil {
			return nil, err
		}
	}
}

func (d *Device) proposalOutcome(counters []uint64) (refused *pb.Status, open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range counters {
		switch st := d.outcomes[n]; {
		case st == nil:
			open = true
		case wire.ClassOf(st.Code) != wire.Success:
			refused = d.outcome(n)
		}
	}
	return refused, open
}

// stopLeaving takes a wish to leave back that was refused for good.
func (d *Device) stopLeaving(id wire.RoomID) error {
	return d.changeRoom(id, func(r *room) { r.Leaving, r.LeaveEpoch = false, 0 })
}

// changeRoom changes what is stored of a room, except its group.
func (d *Device) changeRoom(id wire.RoomID, change func(*room)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rooms[id] == nil {
		return nil
	}
	c := *d.rooms[id]
	change(&c)
	err := d.vault.update(func(t *txn) error { return c.save(t) })
	if err == nil {
		d.rooms[id] = &c
	}
	return err
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
	left := map[wire.RoomID]*room{id: r}
	for i, x := range d.rooms {
		if x.state != nil && !x.Ended && d.merged(x) != nil && d.view(i) == id {
			left[i] = x // people see one room, and leave all of it
		}
	}
	for i, x := range left {
		c := *x
		c.Leaving, c.Ended = len(x.people()) > 1, len(x.people()) <= 1
		if i != id {
			c.Into = id
		}
		left[i] = &c
	}
	err = d.vault.update(func(t *txn) (err error) {
		for _, c := range left {
			err = errors.Join(err, c.save(t))
		}
		return err
	})
	if err == nil {
		maps.Copy(d.rooms, left)
	}
	return err
}

// leave proposes our own removal in rooms that we are leaving, once in each epoch until
// somebody commits it.
func (l *link) leave(ctx context.Context) error {
	d := l.d
	for id, r := range d.rooms {
		if r.Leaving && !r.Ended && r.Peer != (memberKey{}) && r.state != nil && !r.holds(r.Peer) && r.Committing == 0 {
			if err := d.alter(id, func(c *room) { c.Ended = true }); err != nil { // both have left; we took the other out
				return err
			}
			continue
		}
		if !r.Leaving || r.Ended || r.state == nil || r.LeaveEpoch == r.state.Epoch() || r.Committing > 0 || r.stalled() {
			continue
		}
		c := *r
		c.LeaveEpoch = r.state.Epoch()
		l.proposals[id] = nil
		for _, leaf := range r.leavesOf(memberKey{d.account.Organization, d.account.Member}) {
			counter, err := l.proposeRemove(ctx, &c, leaf)
			if err != nil {
				return err
			}
			l.proposals[id] = append(l.proposals[id], counter)
		}
		d.rooms[id] = &c
	}
	return nil
}

// proposeRemove hands over a proposal to remove a leaf of our own, under the counter
// that it returns.
func (l *link) proposeRemove(ctx context.Context, r *room, leaf mls.LeafIndex) (counter uint64, err error) {
	next, proposal, err := r.state.ProposeRemove(leaf, nil)
	if err != nil {
		return 0, err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_PROPOSAL,
		Room: r.ID[:], Generation: r.Generation, Epoch: r.state.Epoch(), Body: proposal})
	if err != nil {
		return 0, err
	}
	r.state = next
	err = l.d.vault.update(func(t *txn) error {
		n, err := l.d.overtaking(t)
		counter, r.LeaveCounter = n, n
		return errors.Join(err, r.save(t))
	})
	if err != nil {
		return 0, fmt.Errorf("device: leaving a room: %w", err)
	}
	id := r.ID
	return counter, l.client.Submit(ctx, counter, core, func(st *pb.Status) { l.proposed(id, counter, st) })
}

// proposed notes the node's answer to a proposal of ours.
func (l *link) proposed(id wire.RoomID, counter uint64, st *pb.Status) {
	go func() {
		defer poke(l.settled)
		if st.Code == pb.Code_CODE_ACCEPTED {
			return // the hub's answer comes as a result
		}
		b := l.d.newBatch(context.Background())
		l.d.mu.Lock()
		defer l.d.mu.Unlock()
		b.proposed(id, counter, st)
		_ = b.commit(l.d.mark()) // else it is asked again in the next epoch
	}()
}

// proposed takes the hub's answer to a proposal of ours: one that was refused is made
// again.
func (b *batch) proposed(id wire.RoomID, counter uint64, st *pb.Status) {
	r := b.room(id)
	if r == nil || !r.Leaving {
		return
	}
	b.d.keepOutcome(counter, st)
	if wire.ClassOf(st.Code) != wire.Success {
		r.LeaveEpoch = 0
		b.touch(id)
	} else if st.Seq > 0 {
		b.ownPlace(id, st.Seq)
	}
}
