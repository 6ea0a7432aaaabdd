package device

import (
	"crypto/sha256"
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
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
		return b.d.checkPartnerRevocation(r, note, c.Organization)
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
// devices of another. Its key may be newer than what this device knows: then it is asked for,
// once for each word.
func (d *Device) checkPartnerRevocation(r *room, note string, of wire.OrganizationID) error {
	hub, err := d.organizationOf(r, r.Hub)
	if err != nil {
		return err
	}
	rev, err := identity.VerifyPartnerRevocation(note, hub)
	if err != nil {
		if need := d.askOrganization(r, r.Hub, sha256.Sum256([]byte(note))); need != nil {
			return need
		}
		return err
	}
	if !rev.Covers(of, r.ID, r.Generation, r.state.Epoch()) {
		return errors.New("device: the hub proposes a removal with the revocation of another organization, room or epoch")
	}
	return nil
}
