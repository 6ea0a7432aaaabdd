package device

import (
	"context"
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

// orgNamed is the name of an organization of which this device knows a member, or its ID.
func (d *Device) orgNamed(id wire.OrganizationID) string {
	if _, org, err := d.knownOf(id, nil); err == nil {
		return org.Manifest.Name
	}
	return id.String()
}
