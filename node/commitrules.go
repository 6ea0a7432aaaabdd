package node

import (
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What the hub asks of Commits and proposals beyond RFC 9420: docs/protocol.md 7.2.

// maxProposalsOfOne bounds the proposals of one leaf that wait in an epoch, within
// wire.MaxProposalsByRef of all members. Those of the hub do not count: nobody
// keeps a revoked device in a room by filling it with proposals.
const maxProposalsOfOne = 8

// checkWelcome: a Welcome is for those whom its Commit adds, for each of them once
// and for nobody else. What it says to them only they can read.
func checkWelcome(welcome []byte, suite *mls.Suite, effects *mls.Effects) error {
	var added []*mls.KeyPackage
	for _, p := range effects.Proposals {
		if p.Proposal.Type == mls.ProposalAdd {
			added = append(added, p.Proposal.Add)
		}
	}
	if len(added) == 0 {
		if len(welcome) > 0 {
			return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a Welcome with a Commit that adds nobody")
		}
		return nil
	}
	if len(welcome) == 0 {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a Commit that adds devices without a Welcome")
	}
	m, err := mls.ParseMessage(welcome)
	if err != nil || m.Welcome == nil || m.Welcome.Suite != suite.ID {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a Welcome that does not stand")
	}
	invited := make(map[string]bool, len(added))
	for _, s := range m.Welcome.Secrets {
		invited[string(s.NewMember)] = true
	}
	if len(m.Welcome.Secrets) != len(added) || len(invited) != len(added) {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a Welcome for %d devices, where %d are added", len(m.Welcome.Secrets), len(added))
	}
	for _, k := range added {
		if !invited[string(k.Ref())] {
			return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a Welcome that leaves out a device that is added")
		}
	}
	return nil
}

// removal is a revoked leaf that the hub has proposed to remove, and why.
type removal struct {
	leaf       mls.LeafIndex
	device     wire.DeviceID
	revocation []byte
}

// removals lists what the hub has proposed in this epoch.
func removals(g *mls.PublicGroup) []removal {
	var out []removal
	for _, p := range g.Pending() {
		if p.Sender.Type != mls.SenderExternal || p.Proposal.Type != mls.ProposalRemove {
			continue
		}
		if who, err := policy.CredentialOf(g.Member(p.Proposal.Remove)); err == nil {
			out = append(out, removal{p.Proposal.Remove, who.Device, p.AAD})
		}
	}
	return out
}

// checkRemovals: no Commit leaves a revoked device in the room that the hub has
// proposed to remove, and none is such a device's own. Who commits without having
// seen the proposal catches up and commits again. An external Commit cannot name
// proposals (RFC 9420 §12.4.3.2): after it the hub proposes them anew.
func checkRemovals(d *draft, effects *mls.Effects) error {
	for _, r := range removals(d.group) {
		removed := slices.ContainsFunc(effects.Removed, func(m mls.Member) bool { return m.Leaf == r.leaf })
		switch {
		case effects.External && removed, !effects.External && effects.Committer == r.leaf:
			return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a Commit of a device that was revoked")
		case !effects.External && !removed:
			return &wire.StatusError{Status: d.wrongEpoch()}
		}
	}
	return nil
}

// checkProposed: members propose by reference removals only, of their own making,
// and few. Adds and Updates come by value, in the Commit that needs them: one that
// stands when it is ordered and no longer when it is committed (its lifetime is
// over, its device is revoked) would void every Commit of an honest member.
func (c *change) checkProposed(d *draft, s submission, effects *mls.Effects) error {
	if effects.IsCommit {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a Commit without its bundle")
	}
	if effects.Sender.Type != mls.SenderMember {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a proposal of who is no member")
	}
	if err := c.committerSpeaks(s, d.group.Member(mls.LeafIndex(effects.Sender.Index))); err != nil {
		return err
	}
	if effects.Proposal.Type != mls.ProposalRemove {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a proposal of type %d by reference", effects.Proposal.Type)
	}
	all, own := 0, 0
	for _, p := range d.group.Pending() {
		if p.Sender.Type != mls.SenderMember {
			continue
		}
		all++
		if p.Sender == effects.Sender {
			own++
		}
	}
	if all >= wire.MaxProposalsByRef || own >= maxProposalsOfOne {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "enough proposals wait for a Commit")
	}
	return nil
}
