package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What a hub that was set back takes back of a room (docs/protocol.md 3.5): the Commits that
// partners have kept, so that group and epoch go on, and the highest place that any of them
// knows, so that the next one is above.

const (
	// settleTime bounds the questions about one room.
	settleTime = 30 * time.Second
	// maxBackPages bounds the pages of a partner's log of one room that are read.
	maxBackPages = wire.RoomLogCommits/roomLogPage + 1
	// maxOvertaken bounds how often devices may show that a room was set back, since a start: who
	// makes it up makes gaps, and no more than these.
	maxOvertaken = 8
)

// settlePlaces takes back what partners know of our rooms, once the call has ended.
func (n *Node) settlePlaces(ctx context.Context) {
	if n.recovering() || !n.placesCalled() {
		return
	}
	n.placing.mu.Lock()
	var ids []wire.RoomID
	for id := range n.placing.found {
		ids = append(ids, id)
	}
	vanished := n.placing.vanished
	n.placing.vanished = make(map[wire.RoomID]bool)
	n.placing.mu.Unlock()
	if len(vanished) > 0 {
		n.noteLoss(ctx, "%d rooms that were made since the copy: this node does not know them any more, their people make them anew", len(vanished))
	}
	ids = slices.DeleteFunc(ids, func(id wire.RoomID) bool { return !n.settles(id) })
	if len(ids) == 0 {
		return
	}
	if err := n.raiseAfterLoss(ctx); err != nil {
		n.log.Error("rooms wait for what was lost of their order", "error", err)
		return
	}
	for _, id := range ids {
		if err := n.settleRoom(ctx, id); err != nil && ctx.Err() == nil {
			n.log.Error("a room waits for what was lost of its order", "room", id, "error", err)
		}
	}
}

// raiseAfterLoss has partners take this node's numbers as new ones, once in a start, and voids
// the KeyPackages that may have been handed out. Links and tokens stay: what a partner says of
// a room is no proof.
func (n *Node) raiseAfterLoss(ctx context.Context) error {
	if n.placing.raised {
		return nil
	}
	if err := errors.Join(n.dir.DeleteKeyPackages(ctx), n.fed.RaiseIncarnation(ctx)); err != nil {
		return err
	}
	n.placing.raised = true
	return nil
}

// settleRoom takes a room's order back. After it the room goes on, above every place that
// is known, whether its Commits were to be had or not.
func (n *Node) settleRoom(ctx context.Context, id wire.RoomID) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	n.placing.mu.Lock()
	list := slices.Clone(n.placing.found[id])
	n.placing.mu.Unlock()
	back := 0
	for _, p := range list {
		took, err := n.commitsBack(ctx, id, p)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("a room's Commits are not taken back from this partner", "partner", p.by, "room", id, "error", err)
		}
		back += took
	}
	c, err := n.begin(id)
	if err != nil {
		return err
	}
	d := c.room(id)
	before, ahead := d.place.seq, shownEpoch{}
	for _, p := range list {
		d.above(p)
		if p.member && p.generation == d.row.Generation && d.group != nil && p.epoch > d.group.Epoch() {
			ahead = ahead.with(p)
		}
	}
	lost := d.place.seq - before
	if err := c.commit(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	n.placing.mu.Lock()
	delete(n.placing.found, id)
	if ahead.epoch > 0 {
		n.placing.epochs[id] = ahead
	}
	n.placing.mu.Unlock()
	n.noteLoss(ctx, "room %s: %d places beyond the copy's; %d of its changes were taken back from partners, the other entries reach nobody who had not fetched them", id, lost, back)
	if ahead.epoch > 0 {
		n.noteLoss(ctx, "room %s: changes up to epoch %d, which no partner has kept: its devices publish where they are when they write next", id, ahead.epoch)
	}
	return nil
}

// with is the latest epoch of both, and who has shown it.
func (e shownEpoch) with(p knownPlace) shownEpoch {
	switch {
	case p.epoch > e.epoch:
		return shownEpoch{p.epoch, []wire.OrganizationID{p.by}}
	case p.epoch == e.epoch:
		e.by = append(e.by, p.by)
	}
	return e
}

// above puts a room's last place at least where a partner knows it. Where the hash is not
// known, or is another than ours, a place is left out, so that nobody holds the next entry
// against what it had there: people are told of a gap.
func (d *draft) above(p knownPlace) {
	switch {
	case p.seq < d.place.seq:
	case p.seq > d.place.seq && p.hash != [32]byte{}:
		d.place.seq, d.place.hash = p.seq, p.hash
	case p.seq > d.place.seq, p.hash != [32]byte{} && p.hash != d.place.hash:
		d.place.seq, d.place.hash = p.seq+1, [32]byte{}
	}
	d.place.accepted = max(d.place.accepted, p.accepted)
	d.dirty.place = true
}

// commitsBack processes the handshakes that a partner has kept of a room and the hub has lost,
// and returns how many. Each is checked as when it was ordered; our devices get them too.
func (n *Node) commitsBack(ctx context.Context, id wire.RoomID, p knownPlace) (count int, err error) {
	for range maxBackPages {
		c, err := n.begin(id)
		if err != nil {
			return count, err
		}
		d := c.room(id)
		behind := d.group != nil && p.member && p.generation == d.row.Generation && (p.epoch == 0 || p.epoch > d.group.Epoch() || p.seq > d.place.seq)
		q := &pb.RoomLogQuery{Room: id[:], Generation: d.row.Generation, Own: true}
		if d.group != nil {
			q.FromEpoch = d.group.Epoch()
		}
		c.abandon()
		if !behind {
			return count, nil
		}
		a, err := n.recall(ctx, p.by, &pb.QueryRequest{Query: &pb.QueryRequest_RoomLog{RoomLog: q}})
		if err != nil {
			return count, err
		}
		took := 0
		st := n.withChains(ctx, func() *pb.Status {
			more, err := n.takeHandshakes(ctx, id, a.GetRoomLog().GetHandshakes())
			took += more
			return wire.StatusOf(err)
		})
		count += took
		if err := wire.Err(st); err != nil || took == 0 || !a.GetRoomLog().GetMore() {
			return count, err
		}
	}
	return count, nil
}

// takeHandshakes applies a page of handshakes to a room, in one change.
func (n *Node) takeHandshakes(ctx context.Context, id wire.RoomID, list []*pb.Envelope) (count int, err error) {
	c, err := n.begin(id)
	if err != nil {
		return 0, err
	}
	d := c.room(id)
	for _, env := range list[:min(len(list), roomLogPage)] {
		core, err := wire.ParseCore(env.GetCore())
		if err != nil || env.Seq == 0 || len(env.Previous) != 32 || d.group == nil {
			c.abandon()
			return 0, wire.Refuse(pb.Code_CODE_MALFORMED, "a handshake that does not stand")
		}
		if env.Seq <= d.place.seq || core.Generation != d.row.Generation || core.Epoch < d.group.Epoch() {
			continue // it is known
		}
		if env.Seq > d.place.seq+maxLeap {
			break
		}
		if err := c.takeBack(d, env, core); err != nil {
			if count == 0 {
				c.abandon()
				return 0, err
			}
			n.log.Warn("a handshake of a room is not taken back", "room", id, "epoch", core.Epoch, "error", err)
			break
		}
		count++
	}
	return count, c.commit(context.WithoutCancel(ctx))
}

// takeBack applies one handshake in the place that the hub had given it.
func (c *change) takeBack(d *draft, env *pb.Envelope, core *pb.EnvelopeCore) error {
	s := submission{core: env.Core, parsed: core}
	next, effects, err := d.group.Process(core.Body)
	if err != nil {
		return commitRefused(d, submission{}, err)
	}
	hub := !effects.IsCommit && effects.Sender.Type == mls.SenderExternal
	if err := policy.Check(d.group, effects); err != nil && !hub {
		return policyRefused(err)
	}
	if effects.IsCommit { // a partner's log is its word: it brings in nobody's Commit that is barred here
		if err := errors.Join(c.mayCommit(d, next.Member(effects.Committer)), checkRemovals(d, effects)); err != nil {
			return err
		}
	}
	removed, err := credentials(effects.Removed)
	if err != nil {
		return err
	}
	added, err := credentials(effects.Added)
	if err != nil {
		return err
	}
	local, _ := c.recipients(d, s)
	item := &pb.Item{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: env.Core, Seq: env.Seq, Previous: env.Previous, AcceptedMs: env.AcceptedMs},
		Origin: c.n.org.ID[:], Members: uint32(countMembers(members(next)))}
	if effects.IsCommit {
		item.Change = &pb.LeafChange{Added: refs(added), Removed: refs(removed)}
	}
	if _, err := c.stage(mailbox.Delivery{Item: item, Devices: local, Log: &d.id}); err != nil {
		return err
	}
	if effects.IsCommit {
		s.bundle = &pb.Bundle{Commit: core.Body}
		if err := c.recordCommit(d, s, next, effects); err != nil {
			return err
		}
		d.place.quiet = len(added) == 0 && len(removed) == 0
		c.batch.Delete(roomKey(infoPrefix, d.id)) // a member publishes it anew, or the next Commit brings one
		if len(added) > 0 {
			c.putTree(d.id, next.Tree())
		}
	}
	d.place.seq, d.place.accepted = env.Seq, max(d.place.accepted, env.AcceptedMs)
	d.place.hash = wire.SequenceHash(d.id, env.Seq, [32]byte(env.Previous), wire.IDOf(env.Core), env.AcceptedMs)
	d.group, d.dirty.place, d.dirty.group = next, true, true
	return nil
}

// overtaken has a room's order go on above a place that a device in it says it has seen, and
// that was not given as far as the hub knows: it was set back, and no partner could say so.
func (c *change) overtaken(d *draft, s submission) {
	seen := s.parsed.Seen
	if seen <= d.place.seq || seen > d.place.seq+maxLeap || !c.n.placing.overtake(d.id) {
		return
	}
	was := d.place.seq
	d.above(knownPlace{seq: seen})
	c.n.log.Error("a device has seen places of a room that its hub has not given, as after a restore: it goes on above them",
		"room", d.id, "ours", was, "seen", seen, "device", s.sender, "partner", s.from)
	c.then(func() {
		c.n.background(func(ctx context.Context) {
			c.n.noteLoss(ctx, "room %s: %d places beyond the copy's, which a device has seen; their entries reach nobody who had not fetched them", d.id, seen-was)
		})
	})
}

// overtake counts a room that devices have shown to be set back.
func (p *placecall) overtake(id wire.RoomID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaps[id] >= maxOvertaken {
		return false
	}
	if p.leaps == nil {
		p.leaps = make(map[wire.RoomID]int)
	}
	p.leaps[id]++
	return true
}

// agreementBack is told that an agreement was behind what both have signed, and was taken
// back from the partner: what was handed out since the copy may be handed out again.
func (n *Node) agreementBack(id wire.OrganizationID, from, to uint64) {
	n.background(func(ctx context.Context) {
		what := fmt.Sprintf("the agreement with %s had version %d in the copy; version %d, which both have signed, was taken back from the partner", n.nameOf(id), from, to)
		if from == to {
			what = fmt.Sprintf("a proposal of ours to %s was lost, and waits there: withdraw it (entente partner amend %s --withdraw) or let it be answered", n.nameOf(id), n.nameOf(id))
		}
		n.noteLoss(ctx, "%s", what)
		if n.adopting.forgot.Swap(true) {
			return
		}
		if err := n.forgetHandedOut(ctx); err != nil {
			n.adopting.forgot.Store(false)
			n.log.Error("links and tokens of before the restore are not void yet", "error", err)
		}
	})
}

// stoppedAgain is told that a partner is stopped as it was before the restore.
func (n *Node) stoppedAgain(id wire.OrganizationID, state string, at time.Time) {
	n.background(func(ctx context.Context) {
		n.noteLoss(ctx, "%s is %s again, as it was told %s: entente partner show %s", n.nameOf(id), state, at.UTC().Format("2006-01-02 15:04"), n.nameOf(id))
		if err := n.tellState(ctx, id); err != nil && ctx.Err() == nil { // sweepPartners does the rest
			n.log.Warn("devices were not told of an agreement's state; they ask by themselves", "partner", id, "error", err)
		}
	})
}
