package node

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// submission is an envelope on its way to its place in a room that is ordered
// here: of a device of ours, or of a partner's.
type submission struct {
	from   wire.OrganizationID // zero: our own
	sender wire.DeviceID       // a device of ours; zero for partners
	core   []byte
	parsed *pb.EnvelopeCore
	bundle *pb.Bundle // of a Commit
	tag    []byte     // of a message, to be franked; nil: it has none
}

// order checks a submission against its room and gives it its place: the next
// number, the hash of the entry before, and the time (docs/protocol.md 3.4). What
// is refused leaves no trace in the change.
func (c *change) order(s submission) *pb.Status {
	d := c.room(wire.RoomID(s.parsed.Room))
	reset := s.bundle.GetFounding() != nil
	switch {
	case !d.known || d.group == nil || s.parsed.Generation > d.row.Generation && !(reset && s.parsed.Generation == d.row.Generation+1):
		return wire.Status(pb.Code_CODE_UNKNOWN_ROOM, "")
	case s.parsed.Generation < d.row.Generation:
		return d.wrongEpoch() // of before a reset: it is encrypted again
	}
	if !d.speaks(c.n, s) {
		return wire.Status(pb.Code_CODE_FORBIDDEN, "the sender is not in this room")
	}
	if st := c.n.placeable(d.id); st != nil {
		return st
	}
	c.overtaken(d, s)
	var err error
	switch s.parsed.Kind {
	case pb.Kind_KIND_APPLICATION:
		return c.orderMessage(d, s)
	case pb.Kind_KIND_COMMIT:
		if reset {
			err = c.orderReset(d, s)
			break
		}
		waiting := removals(d.group)
		if err = c.orderCommit(d, s); err == nil {
			st := d.sequenced()
			c.proposeAgain(d, waiting)
			if err := c.removePartners(d); err != nil {
				c.n.log.Error("a partner's devices stay in a room for now", "room", d.id, "error", err)
			}
			return st
		}
	case pb.Kind_KIND_PROPOSAL:
		err = c.orderProposal(d, s)
	default:
		return wire.Status(pb.Code_CODE_UNSUPPORTED, "kind %d has no place in a room", s.parsed.Kind)
	}
	if err != nil {
		return wire.StatusOf(err)
	}
	return d.sequenced()
}

// speaks reports whether the sender may speak in the room: our device by its
// leaf, a partner's device by a leaf of its organization. Which device of the
// partner it was, its home node has checked, and MLS proves to the members.
func (d *draft) speaks(n *Node, s submission) bool {
	if s.parsed.Kind == pb.Kind_KIND_COMMIT && s.bundle != nil && isExternalCommit(s.bundle.Commit) {
		return true // the validator decides about the joiner's leaf
	}
	for _, m := range d.people() {
		if s.from.IsZero() && m.Organization == n.org.ID && m.Device == s.sender {
			return true
		}
		if !s.from.IsZero() && m.Organization == s.from {
			return true
		}
	}
	return false
}

// sequenced is the status of the entry that was ordered last.
func (d *draft) sequenced() *pb.Status {
	st := wire.Status(pb.Code_CODE_SEQUENCED, "")
	st.Seq, st.AcceptedMs, st.Epoch = d.place.seq, d.place.accepted, d.group.Epoch()
	return st
}

// wrongEpoch answers what was made for another epoch.
func (d *draft) wrongEpoch() *pb.Status {
	st := wire.Status(pb.Code_CODE_WRONG_EPOCH, "")
	st.Epoch = d.group.Epoch()
	return st
}

// takes reports whether a message of an epoch can be read by everybody who is in
// the room now, and by nobody else: the current epoch, or the one before when the
// Commit between them neither added nor removed anybody. Epoch 0 carries nothing.
func (d *draft) takes(epoch uint64) bool {
	now := d.group.Epoch()
	return epoch > 0 && (epoch == now || d.place.quiet && epoch+1 == now)
}

func (c *change) orderMessage(d *draft, s submission) *pb.Status {
	if !d.takes(s.parsed.Epoch) {
		return d.wrongEpoch()
	}
	terms := d.now()
	if terms.ended {
		return wire.Status(pb.Code_CODE_FORBIDDEN, "the room has ended")
	}
	tag, err := checkPrivateMessage(s.parsed)
	if err != nil {
		return wire.StatusOf(err)
	}
	s.tag = tag
	if err := c.pairBlocked(d, s); err != nil {
		return wire.StatusOf(err)
	}
	local, partners := c.recipients(d, s)
	if s.from.IsZero() {
		for _, p := range partners {
			if err := c.n.mayDeal(c.n.memberOf(s.sender), p); err != nil {
				return wire.StatusOf(err)
			}
		}
	}
	before := d.place
	item := c.entry(d, s, s.core)
	partners, refused := c.takers(partners, eventOf(d, s, item))
	if len(local)+len(partners) == 0 && len(refused) > 0 {
		d.place = before
		return refused[0].Status
	}
	deadline := c.n.clock.Now().Add(terms.keep)
	if !s.from.IsZero() {
		deadline = earliest(c.n.retentionWith(s.from), deadline)
	}
	staged, err := c.stage(mailbox.Delivery{Item: item, From: s.from, Sender: s.quotaKey(), Devices: local, Partners: partners,
		Deadline: earliest(c.n.retentionWith(partners...), deadline)})
	if err != nil {
		d.place = before
		return wire.StatusOf(err)
	}
	if staged.Accepted() == 0 && len(local)+len(partners) > 0 {
		// Every recipient refused: the sender learns it at once and the place stays free.
		d.place = before
		c.forget(staged)
		return firstRefusal(staged)
	}
	c.events = append(c.events, refused...)
	d.dirty.place = true
	return d.sequenced()
}

// eventOf is what is told of an entry that a partner will not get.
func eventOf(d *draft, s submission, item *pb.Item) mailbox.Event {
	return mailbox.Event{
		Class: s.parsed.Class, Kind: s.parsed.Kind, Item: item.Kind, Room: d.id, Generation: s.parsed.Generation, Epoch: s.parsed.Epoch,
		Seq: item.Envelope.Seq, Envelope: wire.IDOf(s.core), Return: s.parsed.ReturnHandle, Origin: s.from, From: s.from,
	}
}

// checkPrivateMessage: application messages are PrivateMessages of the group and
// epoch that their envelope names. It returns the tag that the sender wants franked.
func checkPrivateMessage(core *pb.EnvelopeCore) (tag []byte, err error) {
	m, err := mls.ParseMessage(core.Body)
	if err != nil || m.PrivateMessage == nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a message that is no MLS PrivateMessage")
	}
	group := wire.GroupID(wire.RoomID(core.Room), core.Generation)
	if !bytes.Equal(m.PrivateMessage.GroupID, group) || m.PrivateMessage.Epoch != core.Epoch || m.PrivateMessage.Type != mls.ContentApplication {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a message whose group, epoch or content is another than its envelope says")
	}
	return wire.FrankTag(m.PrivateMessage.AAD), nil
}

// entry gives the next place to a core and returns the item that fans it out.
func (c *change) entry(d *draft, s submission, core []byte) *pb.Item {
	now := max(c.n.clock.Now().UnixMilli(), d.place.accepted)
	env := &pb.Envelope{Core: core, Seq: d.place.seq + 1, Previous: bytes.Clone(d.place.hash[:]), AcceptedMs: now}
	d.place.hash = wire.SequenceHash(d.id, env.Seq, d.place.hash, wire.IDOf(core), now)
	d.place.seq, d.place.accepted = env.Seq, now
	origin := s.from
	if origin.IsZero() {
		origin = c.n.org.ID
	}
	if s.tag != nil {
		env.Frank = c.n.frank(wire.Franked{Room: d.id, Generation: s.parsed.Generation, Epoch: s.parsed.Epoch, Seq: env.Seq, AcceptedMs: now,
			From: origin, Device: s.sender, Tag: s.tag})
	}
	return &pb.Item{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: env, Origin: bytes.Clone(origin[:])}
}

// recipients lists who gets an entry of the room: our devices but the sender's,
// and partners with a leaf; the sender's organization gets a message only when it has
// another device in the room, and every handshake, in its place: before what follows it.
func (c *change) recipients(d *draft, s submission) (local []wire.DeviceID, partners []wire.OrganizationID) {
	count := make(map[wire.OrganizationID]int)
	for _, m := range d.people() {
		if m.Organization != c.n.org.ID {
			count[m.Organization]++
		} else if m.Device != s.sender && c.n.active(m.Device) {
			local = append(local, m.Device)
		}
	}
	for org, n := range count {
		if org != s.from || n > 1 || s.parsed.Class == pb.Class_CLASS_HANDSHAKE {
			partners = append(partners, org)
		}
	}
	slices.SortFunc(partners, func(a, b wire.OrganizationID) int { return bytes.Compare(a[:], b[:]) })
	return local, partners
}

// quotaKey is what undelivered messages of one sender are counted by. A partner's
// devices are told apart by nobody but their home node.
func (s submission) quotaKey() string {
	if s.from.IsZero() {
		return "device/" + s.sender.String()
	}
	return "organization/" + s.from.String()
}

func firstRefusal(s *mailbox.Staged) *pb.Status {
	for _, list := range [][]*pb.Status{s.Devices, s.Partners} {
		for _, st := range list {
			if wire.ClassOf(st.Code) != wire.Success {
				return st
			}
		}
	}
	return wire.Status(pb.Code_CODE_INTERNAL, "")
}

// forget takes a delivery that nobody took out of the change.
func (c *change) forget(s *mailbox.Staged) {
	s.Done(false)
	c.staged = slices.DeleteFunc(c.staged, func(x *mailbox.Staged) bool { return x == s })
	c.events = c.events[:len(c.events)-len(s.Events)]
}

// members reads the credentials of a group's leaves. The validator has let in
// only such as parse.
func members(g *mls.PublicGroup) []wire.Credential {
	var out []wire.Credential
	for _, m := range g.Members() {
		if c, err := wire.ParseCredential(m.Node.Credential.Identity); err == nil {
			out = append(out, c)
		}
	}
	return out
}

func isExternalCommit(commit []byte) bool {
	m, err := mls.ParseMessage(commit)
	return err == nil && m.PublicMessage != nil && m.PublicMessage.Content.Sender.Type == mls.SenderNewMemberCommit
}

func treeHash(tree []byte) [32]byte { return sha256.Sum256(tree) }
