package node

import (
	"context"
	"errors"
	"slices"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// A partner that was suspended, and not resumed, or whose agreement is over, leaves the rooms
// that are ordered here: the hub proposes the removal of its leaves, wire.MaxProposalsByRef in
// an epoch, each with a signed revocation of that room and epoch, and any online device commits
// them (docs/protocol.md 5.6). What has to be done follows from the partners' records and the
// rooms alone, so that a crash, a resumption or a full room leaves nothing to be made up for.

// removePartners proposes, in a room that is ordered here, the removal of leaves of partners
// whose devices are to leave. The rest of more than an epoch takes is proposed in the next.
func (c *change) removePartners(d *draft) error {
	leaving := c.n.leavingPartners()
	if len(leaving) == 0 || d.group == nil || d.group.Epoch() == 0 || d.now().ended {
		return nil
	}
	waiting := removals(d.group)
	notes := make(map[wire.OrganizationID][]byte)
	for _, m := range d.group.Members() {
		who, err := policy.CredentialOf(m.Node)
		i := slices.IndexFunc(leaving, func(r federation.Removal) bool { return r.Partner == who.Organization })
		if err != nil || i < 0 || slices.ContainsFunc(waiting, func(r removal) bool { return r.leaf == m.Leaf }) {
			continue
		}
		if len(waiting) >= wire.MaxProposalsByRef {
			return nil
		}
		note := notes[who.Organization]
		if note == nil {
			if note, err = c.n.partnerRevocation(d, leaving[i]); err != nil {
				return err
			}
			notes[who.Organization] = note
		}
		r := removal{m.Leaf, who.Device, note}
		if err := c.proposeLeaf(d, wire.OrganizationID{}, r); err != nil {
			return err
		}
		waiting = append(waiting, r)
	}
	return nil
}

// partnerRevocation signs why a partner's devices leave a room in its present epoch.
func (n *Node) partnerRevocation(d *draft, r federation.Removal) ([]byte, error) {
	note, err := identity.PartnerRevocation{Organization: n.org.ID, Partner: r.Partner, Agreement: r.Agreement, Room: d.id, Generation: d.row.Generation,
		Epoch: d.group.Epoch(), Reason: r.Reason, Issued: n.clock.Now()}.Sign(n.statementKey)
	return []byte(note), err
}

// leavingPartners lists the partners whose devices are to leave our rooms. A node that has lost
// records signs nothing, and one whose clock nobody agrees with takes no agreement for expired.
func (n *Node) leavingPartners() []federation.Removal {
	leaving := n.fed.Removals(n.clock.Now())
	if len(leaving) == 0 || n.signs() != nil || n.store.Status().ClockHeld {
		return nil
	}
	if offsets := n.fed.ClockOffsets(); len(offsets) > 0 && !clockAgrees(offsets) {
		leaving = slices.DeleteFunc(leaving, func(r federation.Removal) bool { return r.Reason == "expired" })
	}
	return leaving
}

// removePartnersEverywhere proposes in all rooms that are ordered here what removePartners does
// in one. It returns in how many rooms there is somebody of each partner that leaves.
// Repeating it proposes nothing twice.
func (n *Node) removePartnersEverywhere(ctx context.Context) (map[wire.OrganizationID]int, error) {
	leaving := n.leavingPartners()
	if len(leaving) == 0 {
		return nil, nil
	}
	ids, err := n.rooms.all()
	if err != nil {
		return nil, err
	}
	count := make(map[wire.OrganizationID]int)
	var failed []error
	for _, id := range ids { // one room that fails keeps no other from being told
		row, err := n.rooms.row(id)
		if err != nil || row.Hub != n.org.ID {
			continue
		}
		leaves, concerned := n.rooms.committed(id), false
		for _, r := range leaving {
			if slices.ContainsFunc(leaves, func(c wire.Credential) bool { return c.Organization == r.Partner }) {
				count[r.Partner]++
				concerned = true
			}
		}
		if concerned {
			n.awaitPlaces(ctx, []wire.RoomID{id}) // after a start, as for a submission
			failed = append(failed, n.removePartnersIn(ctx, id))
		}
	}
	return count, errors.Join(failed...)
}

func (n *Node) removePartnersIn(ctx context.Context, id wire.RoomID) error {
	c, err := n.begin(id)
	if err != nil {
		return err
	}
	if err := c.removePartners(c.room(id)); err != nil {
		c.abandon()
		return err
	}
	return c.commit(ctx)
}
