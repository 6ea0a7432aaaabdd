package node

import (
	"bytes"
	"slices"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A room whose hub was set back behind Commits that no partner has kept goes on from what its
// devices publish: the GroupInfo of a later epoch, with its tree (docs/protocol.md 3.5). A
// hub cannot check the secrets of it, nor see whether it was set back at all, so it goes by
// people: in a room of more than two more than half of them have to publish the same, unless a
// partner in the room has shown that epoch and somebody of another organization publishes it. A
// room of two takes no third by it.

// published is who has published an epoch of a room that is beyond the hub's.
type published struct {
	context []byte // the GroupContext
	by      map[policy.Person]bool
	at      time.Time
}

// republishSkip is how many places are left out after an adopted epoch: what its Commits, and
// what was said in it, has taken is not known.
const republishSkip = 64

// adoptEpoch takes a later epoch over from a member's GroupInfo.
func (c *change) adoptEpoch(d *draft, from wire.OrganizationID, info []byte) error {
	next, err := mls.NewPublicGroup(info, nil, c.n.rooms.options)
	if err != nil {
		return commitRefused(d, submission{}, err)
	}
	by, err := signerOf(next, info)
	switch {
	case err != nil || by.Organization != from:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a GroupInfo of another organization's device")
	case !bytes.Equal(next.GroupID(), d.group.GroupID()) || next.Suite().ID != d.group.Suite().ID || next.Epoch() <= d.group.Epoch():
		return wire.Refuse(pb.Code_CODE_WRONG_EPOCH, "a GroupInfo that is not of the room's epoch")
	case !policy.BaseOf(d.group).Has(seatOf(by)):
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a later epoch is published by who was in the room as its hub knows it")
	}
	if err := policy.CheckHubSender(next.Extensions(), c.n.org.ID, c.n.org.Manifest.Hub); err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "the room's external sender is not its hub")
	}
	if err := policy.CheckExtensions(d.group.Extensions(), next.Extensions()); err != nil {
		return policyRefused(err)
	}
	if err := c.n.checkSize(len(d.group.Members()), next); err != nil {
		return err
	}
	people, need := countMembers(members(d.group)), 1
	if people > 2 {
		need = people/2 + 1
	} else if countMembers(append(members(d.group), members(next)...)) > max(people, 2) {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a room of two people takes no third")
	}
	if !c.n.placing.publish(d.id, next, seatOf(by).Person, need, c.n.clock.Now()) {
		return wire.Refuse(pb.Code_CODE_RECOVERING, "the room's hub was set back: more than half of its people have to publish the same epoch")
	}
	c.n.log.Error("a room's later epoch was taken over from its members, as after a restore", "room", d.id, "was", d.group.Epoch(), "epoch", next.Epoch(), "by", by.Device)
	if err := c.forgetCommits(d); err != nil {
		return err
	}
	d.group, d.info, d.anew = next, info, true
	d.place.seq, d.place.hash, d.place.quiet = d.place.seq+republishSkip, [32]byte{}, false
	d.dirty.group, d.dirty.place = true, true
	return nil
}

// publish counts who has published an epoch, and reports whether so many are enough.
func (p *placecall) publish(id wire.RoomID, next *mls.PublicGroup, by policy.Person, need int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// An organization that is in the room and its own member are one word, not two.
	shown := p.epochs[id]
	if need <= 1 || shown.epoch == next.Epoch() && slices.ContainsFunc(shown.by, func(o wire.OrganizationID) bool { return o != by.Organization }) {
		delete(p.published, id)
		return true
	}
	said := p.published[id]
	if said == nil || !bytes.Equal(said.context, next.Context()) || now.Sub(said.at) > time.Hour {
		said = &published{context: next.Context(), by: make(map[policy.Person]bool), at: now}
		p.published[id] = said
	}
	said.by[by] = true
	if len(said.by) < need {
		return false
	}
	delete(p.published, id)
	return true
}
