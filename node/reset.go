package node

import (
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A room that cannot go on from a Commit begins anew: a device of a member makes its next
// generation, with the same people and rules and without the device that made the Commit.
// The hub takes the first that stands (docs/protocol.md 7.11). The room's sequence goes on.

// orderReset takes the first Commit of a room's next generation, or refuses all of it.
func (c *change) orderReset(d *draft, s submission) error {
	if s.parsed.Generation == d.row.Generation {
		return wire.Refuse(pb.Code_CODE_EXISTS, "the room was reset by another device: its invitation is on the way")
	}
	if err := checkBundle(s.bundle); err != nil {
		return err
	}
	row, k, err := c.justified(d, s.bundle.Founding)
	if err != nil {
		return err
	}
	_, base, err := c.n.baseOf(d, k.Commit)
	if err != nil {
		return err
	}
	zero, err := c.founded(d, s, base, seatOf(k.Accused))
	if err != nil {
		return err
	}
	next, effects, err := zero.Process(s.bundle.Commit)
	if err != nil {
		return commitRefused(d, s, err)
	}
	if err := c.checkFirst(s, base, seatOf(k.Accused), next, effects); err != nil {
		return err
	}
	welcomed, err := credentials(effects.Added)
	if err != nil {
		return err
	}
	before := *d
	left := seatsMissing(policy.SeatsOf(d.group), policy.SeatsOf(next))
	if err := c.forgetCommits(d); err != nil {
		return err
	}
	said := c.n.describe(k, base, d.row.Generation)
	d.group, d.row.Generation, d.dirty.row, d.anew = zero, d.row.Generation+1, true, true
	said.Made = d.row.Generation
	now := c.n.clock.Now().UnixMilli()
	resets := append(recent(row.Resets, now), now)
	if err := c.acceptCommit(d, s, next, effects, welcomed); err != nil {
		*d = before
		return err
	}
	c.n.log.Info("a room was reset", "room", d.id, "generation", d.row.Generation, "without", k.Accused.Device, "complaints", len(k.Complaints))
	if err := c.putCase(d, &caseRow{Version: caseRowVersion, Generation: d.row.Generation, Resets: resets}); err != nil {
		return err
	}
	return c.tell(d, left, said)
}

// recent keeps the times within the last hour.
func recent(list []int64, now int64) []int64 {
	return slices.DeleteFunc(slices.Clone(list), func(at int64) bool { return now-at >= time.Hour.Milliseconds() })
}

func seatsMissing(before, after []policy.Seat) []policy.Seat {
	return slices.DeleteFunc(before, func(s policy.Seat) bool { return slices.Contains(after, s) })
}

// justified finds the case that a reset's complaints stand for; each of them is one that
// the hub has taken itself.
func (c *change) justified(d *draft, r *pb.Founding) (*caseRow, *roomCase, error) {
	if len(r.Complaints) == 0 || len(r.Complaints) > wire.ResetComplaints || len(r.Tree) > wire.MaxTree || len(r.GroupInfo) > wire.MaxWelcome {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a reset with %d complaints, or parts over their limits", len(r.Complaints))
	}
	row, err := c.n.caseOf(d)
	if err != nil {
		return nil, nil, err
	}
	said, err := identity.VerifyComplaint(r.Complaints[0])
	if err != nil {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a reset with a complaint that does not stand")
	}
	k := row.find(said.Commit)
	if k == nil || said.Generation != d.row.Generation {
		return nil, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a reset for which nobody has complained")
	}
	now := c.n.clock.Now()
	if _, due := k.due(now, c.n.config.ResetAfter); !due {
		return nil, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a reset that no other member has confirmed, and of a room that goes on")
	}
	if len(recent(row.Resets, now.UnixMilli())) >= wire.ResetsPerRoom {
		return nil, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a room is reset %d times an hour at most", wire.ResetsPerRoom)
	}
	if len(r.Complaints) < min(2, len(k.Complaints)) {
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a reset without the complaint that confirms the first")
	}
	for i, note := range r.Complaints {
		if !slices.ContainsFunc(k.Complaints, func(h heldComplaint) bool { return h.Note == note }) || slices.Contains(r.Complaints[:i], note) {
			return nil, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a reset with a complaint that was not made here")
		}
	}
	return row, k, nil
}

// founded checks epoch 0 of the next generation: its maker alone, who was in the room and
// is not the accused.
func (c *change) founded(d *draft, s submission, base policy.Base, accused policy.Seat) (*mls.PublicGroup, error) {
	if s.parsed.Epoch != 0 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a reset that does not begin at epoch 0")
	}
	zero, err := mls.NewPublicGroup(s.bundle.Founding.GroupInfo, s.bundle.Founding.Tree, c.n.rooms.options)
	if err != nil {
		return nil, commitRefused(d, s, err)
	}
	list := zero.Members()
	if zero.Epoch() != 0 || len(list) != 1 || zero.Suite().ID != d.group.Suite().ID || string(zero.GroupID()) != string(wire.GroupID(d.id, d.row.Generation+1)) {
		return nil, wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a reset begins at epoch 0 of the next generation, with its maker alone")
	}
	if err := c.committerSpeaks(s, list[0].Node); err != nil {
		return nil, err
	}
	maker := policy.SeatsOf(zero)[0]
	if maker == accused || !base.Has(maker) {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a reset by a device that is accused, or was not in the room")
	}
	return zero, nil
}

// checkFirst holds the group after the first Commit against the room that it continues.
func (c *change) checkFirst(s submission, base policy.Base, accused policy.Seat, next *mls.PublicGroup, effects *mls.Effects) error {
	b := s.bundle
	for _, p := range effects.Proposals {
		if p.Proposal.Type != mls.ProposalAdd {
			return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a reset that does more than bring people in")
		}
	}
	if !effects.IsCommit || effects.External {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a reset without its first Commit")
	}
	if err := base.CheckReset(accused, next, c.n.gone(base)); err != nil {
		return policyRefused(err)
	}
	if err := next.CheckBundle(b.GroupInfo, b.Tree); err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "GroupInfo or tree do not belong to the Commit")
	}
	if err := c.n.checkSize(0, next); err != nil {
		return err
	}
	return checkWelcome(b.Welcome, next.Suite(), effects)
}

// gone tells who cannot be brought in: none of the person's devices in the room is active,
// as far as we know, or there is no agreement in force.
func (n *Node) gone(base policy.Base) func(policy.Person) bool {
	return func(who policy.Person) bool {
		if who.Organization != n.org.ID {
			if _, err := n.fed.InForce(who.Organization, n.clock.Now()); err != nil {
				return true
			}
			m, err := n.chains.get(memberKey{who.Organization, who.Member})
			if err != nil {
				return false
			}
			return m.Disabled || len(m.Devices) == 0
		}
		m, err := n.dir.Get(who.Member)
		return err != nil || m.Disabled || len(m.Devices) == 0
	}
}

// foundingFor tells the maker's home node of the next generation: it gets no Welcome that
// would. The change names everybody, so that the node lists its devices anew.
func foundingFor(item *pb.Item, s submission, list []wire.Credential) []wire.OrganizationID {
	if s.from.IsZero() {
		return nil
	}
	item.Change = &pb.LeafChange{Added: refs(list)}
	return []wire.OrganizationID{s.from}
}

// founds lists our devices in the next generation of a room that is ordered elsewhere, if the
// item is the Commit of a device of ours that begins it. Nothing changes before all else of
// the item was checked.
func (d *draft) founds(n *Node, item *pb.Item, core *pb.EnvelopeCore) ([]wire.DeviceID, bool) {
	maker := n.senderOf(core.ReturnHandle, n.org.ID)
	if core.Kind != pb.Kind_KIND_COMMIT || core.Epoch != 0 || core.Generation != d.row.Generation+1 || !d.holds(maker) {
		return nil, false
	}
	devices := ourDevices(item.Change.GetAdded(), n.org.ID)
	return devices, slices.Contains(devices, maker)
}
