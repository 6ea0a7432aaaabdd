package device

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// checkProposal refuses a hub's proposal without the revocation that justifies it: of that
// device, signed by the leaf's own organization or member, or of all devices of the leaf's
// organization, signed by the one that orders the room, for this room and epoch (FORMATS,
// Removal; docs/protocol.md 5.6). Nobody else's word takes anybody out. A key that a
// revocation does not fit may have been replaced since we have seen the member: its chain is
// fetched once more.
func (b *batch) checkProposal(r *room, e *mls.Effects) error {
	if e.IsCommit || e.Sender.Type != mls.SenderExternal {
		return nil
	}
	leaf := r.state.Public().Member(e.Proposal.Remove)
	if leaf == nil {
		return errors.New("device: the hub proposes to remove nobody")
	}
	c, err := policy.CredentialOf(leaf)
	if err != nil {
		return err
	}
	note := string(e.AAD)
	if _, err := identity.ReadPartnerRevocation(note); err == nil {
		return b.d.checkPartnerRevocation(b.ctx, r, note, c.Organization)
	}
	k := memberKey{c.Organization, c.Member}
	member, err := b.d.chains.get(k)
	if err != nil {
		return err
	}
	rev, err := identity.VerifyRevocation(note, member.Organization, member)
	if err != nil {
		if need := b.d.chains.ask(askedFor{k, sha256.Sum256(e.AAD)}); need != nil {
			return need
		}
	}
	if err != nil || rev.Member != c.Member || rev.Device != c.Device {
		return errors.New("device: the hub proposes a removal without the revocation for it")
	}
	return nil
}

// checkPartnerRevocation verifies the word of the organization that orders a room about the
// devices of another. Its key may be newer than what this device knows: then it is asked for.
func (d *Device) checkPartnerRevocation(ctx context.Context, r *room, note string, of wire.OrganizationID) error {
	k, hub, err := d.knownOf(r.Hub, r.people())
	if err != nil {
		return err
	}
	rev, err := identity.VerifyPartnerRevocation(note, hub)
	if err != nil {
		m, e := d.fetch(ctx, k)
		if e != nil {
			return err
		}
		if rev, err = identity.VerifyPartnerRevocation(note, m.Organization); err != nil {
			return err
		}
	}
	if !rev.Covers(of, r.ID, r.Generation, r.state.Epoch()) {
		return errors.New("device: the hub proposes a removal with the revocation of another organization, room or epoch")
	}
	return nil
}

// knownOf finds an organization by a member of it whom this device knows, the first of those
// given if it can be.
func (d *Device) knownOf(org wire.OrganizationID, first []memberKey) (memberKey, *identity.Organization, error) {
	keys := append(first, d.ownKey())
	err := d.vault.view(func(t *txn) error {
		return t.eachMeta(string(chainKey(memberKey{Org: org})[:len("chain/")+len(org)]), func(key, _ []byte) error {
			if member, err := wire.Bytes32(key[len("chain/")+len(org):]); err == nil {
				keys = append(keys, memberKey{org, member})
			}
			return nil
		})
	})
	if err != nil {
		return memberKey{}, nil, err
	}
	for _, k := range keys {
		if k.Org != org {
			continue
		}
		if m, err := d.chains.get(k); err == nil {
			return k, m.Organization, nil
		}
	}
	return memberKey{}, nil, errors.New("device: nobody of that organization is known here")
}

// cause says who has a leaf taken out by the Commit that ends an epoch: an organization, or a
// member. Expelled is the revocation of a whole organization.
func (d *Device) cause(before *mls.PublicGroup, committer mls.Sender, leaf mls.LeafIndex) (by string, expelled *identity.PartnerRevocation) {
	for _, p := range before.Pending() {
		if p.Proposal.Type != mls.ProposalRemove || p.Proposal.Remove != leaf {
			continue
		}
		if p.Sender.Type == mls.SenderMember {
			return d.nameAt(before, mls.LeafIndex(p.Sender.Index)), nil
		}
		note := string(p.AAD)
		if rev, err := identity.ReadPartnerRevocation(note); err == nil {
			return d.orgNamed(rev.Organization), rev
		}
		if rev, err := identity.ReadRevocation(note); err == nil && rev.By == "organization" {
			return d.orgNamed(rev.Organization), nil
		} else if err == nil {
			return d.nameOf(memberKey{rev.Organization, rev.Member}), nil
		}
	}
	if committer.Type == mls.SenderMember {
		return d.nameAt(before, mls.LeafIndex(committer.Index)), nil
	}
	return "", nil
}

// nameAt is the address of whose leaf it is.
func (d *Device) nameAt(g *mls.PublicGroup, leaf mls.LeafIndex) string {
	node := g.Member(leaf)
	if node == nil {
		return ""
	}
	c, err := policy.CredentialOf(node)
	if err != nil {
		return ""
	}
	return d.nameOf(memberKey{c.Organization, c.Member})
}

// orgNamed is the name of an organization of which this device knows a member, or its ID.
func (d *Device) orgNamed(id wire.OrganizationID) string {
	if _, org, err := d.knownOf(id, nil); err == nil {
		return org.Manifest.Name
	}
	return id.String()
}

// showRemoved tells who is out of a room by a Commit, and by whose word: an organization that
// was taken out once, not for each of its devices.
func (b *batch) showRemoved(r *room, before *mls.PublicGroup, committer mls.Sender, removed []mls.Member) {
	count := make(map[wire.OrganizationID]int)
	notes := make(map[wire.OrganizationID]Shown)
	for _, m := range removed {
		by, expelled := b.d.cause(before, committer, m.Leaf)
		if expelled == nil {
			b.showMember(r, "device removed", m, by)
			continue
		}
		count[expelled.Partner]++
		notes[expelled.Partner] = Shown{Event: "room", State: "organization removed", Room: r.ID.String(), RoomName: r.Name,
			From: b.d.orgNamed(expelled.Partner), By: by, Reason: expelled.Reason, At: b.d.now()}
	}
	for org, s := range notes {
		s.Count = count[org]
		b.show(s)
	}
}

// ownRemoval says by whose word this device is out of a room, and why its organization is.
func (d *Device) ownRemoval(before *group.State, committer mls.Sender) (by, why string) {
	by, expelled := d.cause(before.Public(), committer, before.OwnLeaf())
	if expelled != nil {
		why = expelled.Reason
	}
	return by, why
}
