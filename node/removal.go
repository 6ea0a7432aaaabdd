package node

import (
	"context"
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// proposeRemoval has the hub propose, as external sender, that a revoked device's
// leaf be removed. The revocation is the proposal's authenticated data; any online
// device commits it. A device that is not in the room needs nothing.
func (c *change) proposeRemoval(d *draft, from wire.OrganizationID, r *identity.Revocation, revocation []byte) error {
	leaf, ok := leafOf(d.group, r)
	if !ok {
		return nil
	}
	return c.proposeLeaf(d, from, removal{leaf, r.Device, revocation})
}

// proposeLeaf orders the hub's proposal to remove a leaf, unless it waits already.
func (c *change) proposeLeaf(d *draft, from wire.OrganizationID, r removal) error {
	for _, had := range removals(d.group) {
		if had.leaf == r.leaf {
			return nil
		}
	}
	if st := c.n.placeable(d.id); st != nil {
		return &wire.StatusError{Status: st}
	}
	proposal, err := d.group.NewExternalRemove(c.n.hubKey, 0, r.leaf, r.revocation)
	if err != nil {
		return err
	}
	next, _, err := d.group.Process(proposal)
	if errors.Is(err, mls.ErrLimit) {
		// Not for good: there is room again after the next Commit.
		return wire.Refuse(pb.Code_CODE_RATE_LIMITED, "too many removals wait for a Commit")
	}
	if err != nil {
		return commitRefused(d, submission{}, err)
	}
	core := &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_PROPOSAL,
		Room: d.id[:], Generation: d.row.Generation, Epoch: d.group.Epoch(), Body: proposal}
	raw, err := wire.EncodeCore(core)
	if err != nil {
		return err
	}
	before := *d
	s := submission{sender: r.device, core: raw, parsed: core}
	local, partners := c.recipients(d, s)
	item := c.entry(d, s, raw)
	partners, _ = c.takers(partners, eventOf(d, s, item))
	if _, err := c.stage(mailbox.Delivery{Item: item, From: from, Devices: local, Partners: partners, Log: &d.id}); err != nil {
		*d = before
		return err
	}
	d.group = next
	d.dirty.place, d.dirty.group = true, true
	return nil
}

// proposeAgain has the hub propose in a new epoch what it had proposed in the one
// before and what was not done: an external Commit covers no proposals. A partner's
// revocation is of one epoch: removePartners signs the next.
func (c *change) proposeAgain(d *draft, waiting []removal) {
	for _, r := range waiting {
		leaf := d.group.Member(r.leaf)
		if _, err := identity.ReadPartnerRevocation(string(r.revocation)); leaf == nil || err == nil {
			continue
		}
		if who, err := policy.CredentialOf(leaf); err != nil || who.Device != r.device {
			continue // the leaf is somebody else's by now
		}
		if err := c.proposeLeaf(d, wire.OrganizationID{}, r); err != nil {
			c.n.log.Error("a removal was not proposed again", "room", d.id, "device", r.device, "error", err)
		}
	}
}

// leafOf finds the leaf that a revocation means: a device of that very member of
// that very organization, so that nobody revokes what is another's.
func leafOf(g *mls.PublicGroup, r *identity.Revocation) (mls.LeafIndex, bool) {
	for _, m := range g.Members() {
		c, err := wire.ParseCredential(m.Node.Credential.Identity)
		if err == nil && c.Organization == r.Organization && c.Member == r.Member && c.Device == r.Device {
			return m.Leaf, true
		}
	}
	return 0, false
}

// removeEverywhere follows a revocation of a device of ours: its session ends, its
// mailbox is erased, and every hub of a room with its leaf is told. It returns how
// many rooms those are. Each step may be repeated.
func (n *Node) removeEverywhere(ctx context.Context, r *identity.Revocation, revocation string) (int, error) {
	device := r.Device
	n.gate.End(device)
	if err := n.mail.Erase(ctx, device); err != nil {
		return 0, err
	}
	ids, err := n.rooms.all()
	if err != nil {
		return 0, err
	}
	count := 0
	var failed []error
	for _, id := range ids { // one room that fails keeps no other from being told
		concerned, err := n.removeIn(ctx, id, r, revocation)
		if concerned {
			count++
		}
		failed = append(failed, err)
	}
	return count, errors.Join(failed...)
}

func (n *Node) removeIn(ctx context.Context, id wire.RoomID, r *identity.Revocation, revocation string) (bool, error) {
	c, err := n.begin(id)
	if err != nil {
		return false, err
	}
	concerned, err := c.removeFrom(c.room(id), r, revocation)
	if err != nil {
		c.abandon()
		return false, err
	}
	return concerned, c.commit(ctx)
}

// removeFrom proposes the removal where we are the hub, and tells the hub where
// another is.
func (c *change) removeFrom(d *draft, r *identity.Revocation, revocation string) (bool, error) {
	if d.group != nil {
		_, in := leafOf(d.group, r)
		return in, c.proposeRemoval(d, wire.OrganizationID{}, r, []byte(revocation))
	}
	device := r.Device
	if !d.holds(device) {
		return false, nil
	}
	d.leave(&pb.LeafChange{Removed: []*pb.DeviceRef{{Organization: c.n.org.ID[:], Device: device[:]}}}, c.n.org.ID)
	core, err := wire.EncodeCore(&pb.EnvelopeCore{
		Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_REVOCATION,
		Room: d.id[:], Generation: d.row.Generation, Deadline: c.n.clock.Now().Add(wire.NoticeDeadline).Unix(), Body: []byte(revocation),
	})
	if err != nil {
		return true, err
	}
	staged, err := c.stage(mailbox.Delivery{Sender: "revocations", Partners: []wire.OrganizationID{d.row.Hub},
		Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}})
	if err == nil && staged.Accepted() == 0 {
		return true, &wire.StatusError{Status: firstRefusal(staged)} // the hub is to be told
	}
	return true, err
}
