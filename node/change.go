package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// change is one store transaction of the node: what a submission, a partner's
// batch or a decision of ours writes, all of it or nothing. The rooms that it
// touches are locked from begin to finish.
type change struct {
	n      *Node
	batch  store.Batch
	drafts map[wire.RoomID]*draft
	staged []*mailbox.Staged
	events []mailbox.Event // refusals by quotas, to be told in the same batch
	after  []func()        // run once it is committed
	unlock func()
}

// begin locks the rooms that a change will look at.
func (n *Node) begin(ids ...wire.RoomID) (*change, error) {
	locked, unlock, err := n.rooms.lock(ids)
	if err != nil {
		return nil, err
	}
	c := &change{n: n, drafts: make(map[wire.RoomID]*draft), unlock: unlock}
	for id, r := range locked {
		c.drafts[id] = r.draft()
	}
	return c, nil
}

// room returns the draft of a room that begin has locked.
func (c *change) room(id wire.RoomID) *draft { return c.drafts[id] }

// stage adds a delivery to the change. Queues that refuse it are told of in the
// same batch; an error means that nothing was added.
func (c *change) stage(d mailbox.Delivery) (*mailbox.Staged, error) {
	s, err := c.n.mail.Stage(&c.batch, d)
	if err != nil {
		return nil, err
	}
	c.staged = append(c.staged, s)
	c.events = append(c.events, s.Events...)
	return s, nil
}

// then runs f once the change is committed, before its rooms are unlocked.
func (c *change) then(f func()) { c.after = append(c.after, f) }

// commit writes the change. When it returns nil, everything in it is on stable
// storage and visible; on an error nothing of it is.
func (c *change) commit(ctx context.Context) (err error) {
	defer c.unlock()
	defer func() { c.settle(err == nil) }()
	for _, d := range c.drafts {
		if err := d.write(&c.batch); err != nil {
			return err
		}
	}
	if len(c.events) > 0 {
		told, err := c.n.notify(ctx, &c.batch, c.events)
		c.staged = append(c.staged, told...)
		if err != nil {
			return err
		}
	}
	if c.batch.Len() == 0 {
		return nil
	}
	// Once it is under way a caller's going away must not leave us in doubt.
	if _, err := c.n.store.Commit(context.WithoutCancel(ctx), &c.batch); err != nil {
		return storeRefuses(fmt.Errorf("node: committing: %w", err))
	}
	for _, d := range c.drafts {
		d.publish()
	}
	for _, f := range c.after {
		f()
	}
	return nil
}

// storeRefuses gives what the store, or the disk, takes only later its status.
func storeRefuses(err error) error {
	switch {
	case errors.Is(err, store.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return wire.Refuse(pb.Code_CODE_FULL, "this node's disk is full: its operator has to make room")
	case errors.Is(err, store.ErrDeadline):
		return wire.Refuse(pb.Code_CODE_CLOCK_SUSPECT, "this node holds its clock back: its operator has to look")
	}
	return err
}

// abandon gives the change up; nothing of it was written.
func (c *change) abandon() {
	c.settle(false)
	c.unlock()
}

func (c *change) settle(committed bool) {
	for _, s := range c.staged {
		s.Done(committed)
	}
}
