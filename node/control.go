package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
	"google.golang.org/protobuf/proto"
)

// acceptWelcome lets devices of ours into a room that is ordered by the partner.
func (c *change) acceptWelcome(from wire.OrganizationID, item *pb.Item, core *pb.EnvelopeCore) *pb.Status {
	var body pb.WelcomeBody
	if err := proto.Unmarshal(core.Body, &body); err != nil || len(body.TreeHash) != 32 || !bytes.Equal(body.Hub, from[:]) {
		return wire.Status(pb.Code_CODE_MALFORMED, "a Welcome that does not name its hub and tree")
	}
	d := c.room(wire.RoomID(core.Room))
	if d.known && (d.row.Hub != from || d.row.Generation > core.Generation) {
		return wire.Status(pb.Code_CODE_FORBIDDEN, "the room is ordered by another organization")
	}
	if a, err := c.n.fed.InForce(from, c.n.clock.Now()); err != nil {
		return wire.StatusOf(err)
	} else if item.Members > 2 && !a.Terms.Rooms {
		return wire.StatusOf(against(c.n.nameOf(from), "allows rooms of two people only"))
	}
	if !d.known { // into rooms that ours are in it may bring their further devices, and reset them
		if err := c.n.refuseBlocked(memberKey{org: from}); err != nil {
			return wire.StatusOf(err)
		}
	}
	var devices []wire.DeviceID
	for _, device := range ourDevices(item.Recipients, c.n.org.ID) {
		if c.n.active(device) && c.n.groups.may(c.n.memberOf(device), from) {
			devices = append(devices, device)
		}
	}
	if len(devices) == 0 {
		return wire.Status(pb.Code_CODE_UNKNOWN_DEVICE, "")
	}
	origin, err := originOf(item, from)
	if err != nil {
		return wire.StatusOf(err)
	}
	staged, err := c.stage(mailbox.Delivery{Item: item, From: from, Sender: relayedKey(from, origin), Devices: devices})
	if err != nil {
		return wire.StatusOf(err)
	}
	if staged.Accepted() == 0 {
		c.forget(staged)
		return firstRefusal(staged)
	}
	d.join(c.n, from, core.Generation, devices)
	d.row.Epoch = max(d.row.Epoch, core.Epoch)
	d.told(item.Members)
	room, hash := d.id, [32]byte(body.TreeHash)
	c.then(func() { c.n.background(func(ctx context.Context) { c.n.prefetchTree(ctx, from, room, hash) }) })
	return wire.Status(pb.Code_CODE_ACCEPTED, "")
}

// join notes that devices of ours are in a room.
func (d *draft) join(n *Node, hub wire.OrganizationID, generation uint32, devices []wire.DeviceID) {
	if !d.known || d.row.Generation < generation {
		d.row = roomRow{Version: roomRowVersion, Hub: hub, Generation: generation}
		d.place = place{}
		d.known, d.dirty.place = true, true
	}
	for _, device := range devices {
		if !d.holds(device) {
			d.row.Devices = append(d.row.Devices, device)
		}
	}
	d.dirty.row = true
}

// acceptNotice passes a partner's notice on: to the devices of ours whose return
// handles it lists, or, where we are the hub, to the organization it is for.
func (c *change) acceptNotice(from wire.OrganizationID, item *pb.Item, core *pb.EnvelopeCore) error {
	stating, err := notice.OrganizationOf(string(core.Body))
	if err != nil {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a notice that does not parse")
	}
	key, ok := c.n.nodeKeyOf(stating)
	if !ok {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "a notice of an organization that we do not know")
	}
	said, err := notice.Parse(string(core.Body), stating, key)
	if err != nil {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a notice that does not stand")
	}
	if said.Room != wire.RoomID(core.Room) {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a notice of another room")
	}
	if err := c.checkRelay(from, stating, said); err != nil {
		return err
	}
	delivery := mailbox.Delivery{Item: item, From: from, Sender: relayedKey(from, stating)}
	if said.Origin != c.n.org.ID {
		delivery.Partners = []wire.OrganizationID{said.Origin}
	} else if delivery.Devices = c.n.noticed(said); len(delivery.Devices) == 0 {
		return nil // about messages of devices that are gone
	}
	_, err = c.stage(delivery)
	return err
}

// checkRelay: a notice comes from the organization that states it, or, for us, from
// its room's hub. A hub passes on what organizations of the room say to each other,
// and nothing else: nobody fills a partner's outbox through us.
func (c *change) checkRelay(from, stating wire.OrganizationID, said *notice.Notice) error {
	d := c.room(said.Room)
	if stating == c.n.org.ID {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a notice of our own")
	}
	if said.Origin == c.n.org.ID {
		if from != stating && !(d.known && d.row.Hub == from) {
			return wire.Refuse(pb.Code_CODE_FORBIDDEN, "another organization's notice, and not from its room's hub")
		}
		return nil
	}
	if !d.known || d.group == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
	}
	rules, err := policy.Of(d.group.Extensions())
	if err != nil {
		return err
	}
	if from != stating || !rules.Listed(stating) || !rules.Listed(said.Origin) {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a notice that this room's hub does not pass on")
	}
	if !c.n.known(said.Origin) {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "a notice for an organization that we do not know")
	}
	return nil
}

// noticed lists the devices of ours whose return handles a notice lists.
func (n *Node) noticed(said *notice.Notice) []wire.DeviceID {
	seen := make(map[wire.DeviceID]bool)
	var out []wire.DeviceID
	for _, r := range said.Ranges {
		for _, h := range r.Handles {
			device := n.senderOf(h[:], n.org.ID)
			if !device.IsZero() && !seen[device] && n.active(device) {
				seen[device] = true
				out = append(out, device)
			}
		}
	}
	return out
}

// senderOf resolves a return handle that is ours; zero for all others.
func (n *Node) senderOf(handle []byte, origin wire.OrganizationID) wire.DeviceID {
	if origin != n.org.ID {
		return wire.DeviceID{}
	}
	number, _, ok := n.handles.open(handle)
	if !ok {
		return wire.DeviceID{}
	}
	return n.numbers.device(number)
}

// acceptRevocation takes a partner's word that a device of its own is revoked:
// the hub proposes its removal, with the revocation attached.
func (c *change) acceptRevocation(from wire.OrganizationID, core *pb.EnvelopeCore) error {
	org, ok := c.n.partner(from)
	if !ok {
		return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	d := c.room(wire.RoomID(core.Room))
	if !d.known || d.group == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
	}
	r, err := c.n.verifyRevocation(string(core.Body), org, d)
	var need *chainNeeded
	if errors.As(err, &need) {
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, "the member's certificates have to be fetched first")
	}
	if err != nil {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a revocation that does not stand")
	}
	// Whoever asks about the device from now on asks its organization anew.
	c.n.chains.forget(memberKey{r.Organization, r.Member})
	leaf, ok := leafOf(d.group, r)
	if !ok {
		return nil
	}
	if err := c.proposeLeaf(d, from, removal{leaf, r.Device, core.Body}); err != nil {
		return err
	}
	return c.keepRevocation(r, core.Body)
}

// verifyRevocation checks a partner's revocation: signed by its directory, or by the
// member whose device it is, which has to be in the room. The member's certificates
// may have to be fetched first, or anew, for a key that has changed meanwhile, the member's or
// the directory's: a chainNeeded says so.
func (n *Node) verifyRevocation(note string, org *identity.Organization, d *draft) (*identity.Revocation, error) {
	r, err := identity.VerifyRevocation(note, org, nil)
	if err == nil {
		return r, nil
	}
	said, e := identity.ReadRevocation(note)
	if e != nil {
		return nil, err
	}
	for _, m := range members(d.group) {
		if m.Organization != org.ID || m.Member != said.Member {
			continue
		}
		k := memberKey{m.Organization, m.Member}
		member, err := n.chains.get(k)
		if err != nil {
			return nil, err
		}
		if r, err = identity.VerifyRevocation(note, org, member); err != nil && said.Organization == org.ID {
			err = errors.Join(n.chains.want(k, sha256.Sum256([]byte(note))), err)
		}
		return r, err
	}
	return nil, err
}
