package device

import (
	"context"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// prefetchers is how many chains are asked for at the same time.
const prefetchers = 8

// prefetch fetches the chains that the validation of leaves will miss: withChains alone
// asks for one, begins the whole validation again, and misses the next. Nothing is
// decided here. What does not parse or cannot be fetched is left to the validation,
// which says so.
func (d *Device) prefetch(ctx context.Context, leaves []*mls.LeafNode) {
	var missing []memberKey
	seen := make(map[memberKey]bool)
	for _, l := range leaves {
		cred, err := policy.CredentialOf(l)
		k := memberKey{cred.Organization, cred.Member}
		if err != nil || seen[k] {
			continue
		}
		seen[k] = true
		if _, err := d.chains.get(k); err != nil {
			missing = append(missing, k)
		}
	}
	if len(missing) < 2 || len(missing) > wire.MaxRoomDevices {
		return
	}
	d.learnAll(missing, d.fetchAll(ctx, missing))
}

// suiteOf is the suite of a Welcome; 0 where it does not parse.
func suiteOf(welcome []byte) mls.SuiteID {
	m, err := mls.ParseMessage(welcome)
	if err != nil || m.Welcome == nil {
		return 0
	}
	return m.Welcome.Suite
}

// prefetchTree prefetches for a tree that is about to be validated.
func (d *Device) prefetchTree(ctx context.Context, suite mls.SuiteID, tree []byte) {
	s, err := mls.LookupSuite(suite)
	if err != nil {
		return
	}
	t, err := mls.ParseTree(s, tree)
	if err != nil {
		return
	}
	var leaves []*mls.LeafNode
	_ = t.Leaves(func(_ mls.LeafIndex, l *mls.LeafNode) error { leaves = append(leaves, l); return nil })
	d.prefetch(ctx, leaves)
}

// prefetchCommit prefetches for those whom a Commit adds.
func (d *Device) prefetchCommit(ctx context.Context, body []byte) {
	m, err := mls.ParseMessage(body)
	if err != nil || m.PublicMessage == nil || m.PublicMessage.Content.Commit == nil {
		return
	}
	var leaves []*mls.LeafNode
	for _, p := range m.PublicMessage.Content.Commit.Proposals {
		if p.Proposal != nil && p.Proposal.Add != nil {
			leaves = append(leaves, p.Proposal.Add.Leaf)
		}
	}
	d.prefetch(ctx, leaves)
}
