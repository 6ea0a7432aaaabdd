package node

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Deliver takes a batch of a partner's items in one transaction, together with
// the numbers that record adds, and returns one status for each. It is called by
// federation for peers that speak for a partner under an agreement in force.
func (n *Node) Deliver(ctx context.Context, from wire.OrganizationID, items []*pb.Item, record func(*store.Batch, []*pb.Status) error) []*pb.Status {
	statuses := make([]*pb.Status, len(items))
	if n.store.Status().Recovering {
		for i := range statuses {
			statuses[i] = wire.Status(pb.Code_CODE_RECOVERING, "")
		}
		return statuses // nothing was taken: the partner keeps it all
	}
	parsed := make([]*pb.EnvelopeCore, len(items))
	var ids []wire.RoomID
	for i, item := range items {
		core, err := wire.ParseCore(item.GetEnvelope().GetCore())
		if errors.Is(err, wire.ErrMalformed) {
			err = wire.Refuse(pb.Code_CODE_MALFORMED, "an envelope that does not stand")
		}
		if err != nil {
			statuses[i] = wire.StatusOf(err)
			continue
		}
		parsed[i] = core
		ids = append(ids, wire.RoomID(core.Room))
	}
	if err := n.deliver(ctx, from, items, parsed, statuses, ids, record); err != nil {
		n.log.Error("a partner's batch was not committed", "partner", from, "items", len(items), "error", err)
		for i := range statuses {
			statuses[i] = wire.StatusOf(err)
		}
	}
	// A Commit that waits for certificates was refused for now; it comes again.
	n.background(func(ctx context.Context) { n.fetchMissing(ctx) })
	return statuses
}

func (n *Node) deliver(ctx context.Context, from wire.OrganizationID, items []*pb.Item, parsed []*pb.EnvelopeCore, statuses []*pb.Status, ids []wire.RoomID, record func(*store.Batch, []*pb.Status) error) error {
	c, err := n.begin(ids...)
	if err != nil {
		return err
	}
	held := make(map[wire.RoomID]bool)
	for i, item := range items {
		if parsed[i] == nil {
			continue
		}
		room := wire.RoomID(parsed[i].Room)
		if held[room] {
			// Something before it in its room was refused for now: order is kept.
			statuses[i] = wire.Retry(wire.Status(pb.Code_CODE_UNREACHABLE, "what comes before it in its room is still to come"), time.Second)
			continue
		}
		statuses[i] = c.acceptOne(from, item, parsed[i])
		held[room] = wire.ClassOf(statuses[i].Code) == wire.Temporary && statuses[i].Code != pb.Code_CODE_WRONG_EPOCH
		n.metrics.received.WithLabelValues(wire.CodeName(statuses[i].Code)).Inc()
	}
	if err := record(&c.batch, statuses); err != nil {
		c.abandon()
		return err
	}
	return c.commit(ctx)
}

func (c *change) acceptOne(from wire.OrganizationID, item *pb.Item, core *pb.EnvelopeCore) *pb.Status {
	switch item.Kind {
	case pb.ItemKind_ITEM_KIND_SUBMIT:
		if core.Class == pb.Class_CLASS_CONTROL {
			return wire.Status(pb.Code_CODE_UNSUPPORTED, "control is not sequenced")
		}
		return c.order(submission{from: from, core: item.Envelope.Core, parsed: core, bundle: item.Bundle})
	case pb.ItemKind_ITEM_KIND_FANOUT:
		return c.acceptFanout(from, item, core)
	case pb.ItemKind_ITEM_KIND_CONTROL:
		return c.acceptControl(from, item, core)
	}
	return wire.Status(pb.Code_CODE_UNSUPPORTED, "item kind %d", item.Kind)
}

// acceptFanout takes a sequenced envelope from a room's hub for our devices in it.
func (c *change) acceptFanout(from wire.OrganizationID, item *pb.Item, core *pb.EnvelopeCore) *pb.Status {
	d := c.room(wire.RoomID(core.Room))
	if !d.known || d.row.Hub != from {
		return wire.Status(pb.Code_CODE_UNKNOWN_ROOM, "")
	}
	in, env := d.row.Devices, item.Envelope
	if d.row.Generation != core.Generation {
		founders, ok := d.founds(c.n, item, core)
		if !ok {
			return wire.Status(pb.Code_CODE_UNKNOWN_ROOM, "")
		}
		in = founders
	}
	if env.Seq == 0 || len(env.Previous) != 32 || core.Class == pb.Class_CLASS_CONTROL || len(env.Frank) != 0 && len(env.Frank) != 32 {
		return wire.Status(pb.Code_CODE_MALFORMED, "a fanned-out envelope without its place")
	}
	left, late, err := d.late(env, core.Class)
	if err != nil {
		return wire.StatusOf(err)
	}
	had, err := d.entered(env)
	if errors.Is(err, errContradicts) {
		err = errors.Join(c.tellForked(d, env), err)
	}
	if err != nil {
		return wire.StatusOf(err)
	}
	if had && !late {
		return wire.Status(pb.Code_CODE_DUPLICATE, "")
	}
	origin, err := originOf(item, from)
	if err != nil {
		return wire.StatusOf(err)
	}
	if core.Class == pb.Class_CLASS_MESSAGE && d.row.Members == 2 {
		if err := c.n.refuseBlocked(memberKey{org: origin}); err != nil {
			return wire.StatusOf(err)
		}
	}
	var devices []wire.DeviceID
	sender := c.n.senderOf(core.ReturnHandle, origin)
	for _, device := range in {
		if device != sender && c.n.active(device) {
			devices = append(devices, device)
		}
	}
	if core.Class == pb.Class_CLASS_MESSAGE && len(devices) == 0 && sender.IsZero() {
		return wire.Status(pb.Code_CODE_UNKNOWN_DEVICE, "the member has no active device in this room any more")
	}
	// A full mailbox is no reason to hold the room back: its refusal goes to the sender
	// as a notice, in this transaction.
	delivery := mailbox.Delivery{
		Item: item, From: from, Sender: relayedKey(from, origin), Devices: devices,
		Deadline: c.n.retentionWith(from),
	}
	if core.Class == pb.Class_CLASS_HANDSHAKE {
		delivery.Log = &d.id // for a hub that is set back: docs/protocol.md 3.5
	}
	if _, err = c.stage(delivery); err != nil {
		return wire.StatusOf(err)
	}
	if err := c.answered(core, env, sender); err != nil {
		return wire.StatusOf(err)
	}
	if late {
		d.keepGaps(left)
		return wire.Status(pb.Code_CODE_ACCEPTED, "")
	}
	if c.n.fed.HoldsBack(from) {
		d.passed(env)
	}
	d.place = place{seq: env.Seq, accepted: env.AcceptedMs,
		hash: wire.SequenceHash(d.id, env.Seq, [32]byte(env.Previous), wire.IDOf(env.Core), env.AcceptedMs)}
	d.dirty.place = true
	if d.row.Generation != core.Generation {
		d.row.Generation, d.row.Devices, d.dirty.row = core.Generation, in, true
	}
	d.leave(item.Change, c.n.org.ID)
	d.told(item.Members)
	d.stepped(core)
	return wire.Status(pb.Code_CODE_ACCEPTED, "")
}

// answered tells a device of ours that its handshake has this place, before what follows it
// there: the hub's answer goes another way, and a device that has not had it cannot follow.
func (c *change) answered(core *pb.EnvelopeCore, env *pb.Envelope, sender wire.DeviceID) error {
	if core.Class != pb.Class_CLASS_HANDSHAKE || sender.IsZero() {
		return nil
	}
	st := wire.Status(pb.Code_CODE_SEQUENCED, "")
	st.Seq, st.AcceptedMs, st.Epoch = env.Seq, env.AcceptedMs, core.Epoch
	if core.Kind == pb.Kind_KIND_COMMIT {
		st.Epoch++
	}
	told, err := c.n.result(&c.batch, mailbox.Event{Room: wire.RoomID(core.Room), Generation: core.Generation, Epoch: core.Epoch,
		Return: core.ReturnHandle, Status: st})
	c.staged = append(c.staged, told...)
	return err
}

// stepped notes the epoch that a Commit of the hub's begins.
func (d *draft) stepped(core *pb.EnvelopeCore) {
	if core.Kind == pb.Kind_KIND_COMMIT {
		d.row.Epoch, d.dirty.row = core.Epoch+1, true
	}
}

// errContradicts refuses an entry by which a hub says of a room's order what it has not said before.
var errContradicts = wire.Refuse(pb.Code_CODE_MALFORMED, "an entry that contradicts the room's order before it")

// entered reports whether an entry of the hub's is one that was taken before, and
// refuses one that contradicts what the hub has said of the room's order: another
// entry in the last place, one that does not follow the last, or time that runs back
// (docs/protocol.md 3.4). Places may be missing: they expired on the way, and the
// devices show the gap.
func (d *draft) entered(env *pb.Envelope) (bool, error) {
	last := d.place
	if env.Seq < last.seq {
		return true, nil
	}
	hash := wire.SequenceHash(d.id, env.Seq, [32]byte(env.Previous), wire.IDOf(env.Core), env.AcceptedMs)
	switch {
	case last.seq == 0:
		return false, nil
	case env.Seq == last.seq && hash == last.hash:
		return true, nil
	case env.Seq == last.seq || env.Seq == last.seq+1 && !bytes.Equal(env.Previous, last.hash[:]):
		return false, errContradicts
	case env.AcceptedMs < last.accepted:
		return false, wire.Refuse(pb.Code_CODE_MALFORMED, "an entry that was accepted before the one before it")
	}
	return false, nil
}

// relayedKey is what undelivered messages that a partner hands on are counted by: the
// partner's word about where they come from is its own, so it fills no share but its.
func relayedKey(from, origin wire.OrganizationID) string {
	if from == origin {
		return "organization/" + from.String()
	}
	return "organization/" + from.String() + "/for/" + origin.String()
}

// leave takes our devices off the room that a handshake has removed and not added
// again (a device that resyncs does both).
func (d *draft) leave(change *pb.LeafChange, own wire.OrganizationID) {
	added := ourDevices(change.GetAdded(), own)
	for _, gone := range ourDevices(change.GetRemoved(), own) {
		if i := slices.Index(d.row.Devices, gone); i >= 0 && !slices.Contains(added, gone) {
			d.row.Devices = slices.Delete(d.row.Devices, i, i+1)
			d.dirty.row = true
		}
	}
}

// ourDevices picks the devices of our organization.
func ourDevices(list []*pb.DeviceRef, own wire.OrganizationID) []wire.DeviceID {
	var out []wire.DeviceID
	for _, r := range list {
		if id, err := wire.Bytes32(r.Device); err == nil && bytes.Equal(r.Organization, own[:]) {
			out = append(out, id)
		}
	}
	return out
}

// acceptControl takes Welcomes, notices and revocations.
func (c *change) acceptControl(from wire.OrganizationID, item *pb.Item, core *pb.EnvelopeCore) *pb.Status {
	if core.Class != pb.Class_CLASS_CONTROL {
		return wire.Status(pb.Code_CODE_UNSUPPORTED, "class %d is not control", core.Class)
	}
	switch core.Kind {
	case pb.Kind_KIND_WELCOME:
		return c.acceptWelcome(from, item, core)
	case pb.Kind_KIND_NOTICE:
		return wire.StatusOf(c.acceptNotice(from, item, core))
	case pb.Kind_KIND_REVOCATION:
		return wire.StatusOf(c.acceptRevocation(from, core))
	case pb.Kind_KIND_COMPLAINT, pb.Kind_KIND_RESYNC:
		return wire.StatusOf(c.acceptComplaint(from, item, core))
	}
	return wire.Status(pb.Code_CODE_UNSUPPORTED, "control of kind %d", core.Kind)
}

// originOf returns the organization that resolves an item's return handle.
func originOf(item *pb.Item, from wire.OrganizationID) (wire.OrganizationID, error) {
	if len(item.Origin) == 0 {
		return from, nil
	}
	o, err := wire.Bytes32(item.Origin)
	if err != nil {
		return o, wire.Refuse(pb.Code_CODE_MALFORMED, "an origin of %d bytes", len(item.Origin))
	}
	return o, nil
}
