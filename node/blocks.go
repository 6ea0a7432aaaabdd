package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Whom the administrator has blocked for everybody (docs/protocol.md 5.14). Rows:
//
//	nd/block/<organization ID> <member ID>  JSON blockRow; a member ID of zeros: the whole organization
//	nd/block-log/<8 bytes>                  JSON blockChange: the last maxBlockLog changes, from 1
const (
	blockPrefix    = "nd/block/"
	blockLogPrefix = "nd/block-log/"
	maxBlocks      = 10_000
	maxBlockLog    = 1_000
	maxBlockReason = 256 // bytes
)

type blockRow struct {
	Reason string    `json:"reason,omitempty"`
	Code   string    `json:"code,omitempty"` // as in a published list; empty: it is in none
	Name   string    `json:"name,omitempty"` // as it was typed, for people
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
}

// in reports whether the row holds now.
func (r blockRow) in(now time.Time) bool { return r.Until.IsZero() || now.Before(r.Until) }

// blocks is what the rows say, in memory.
type blocks struct {
	changes sync.Mutex // held over a change and its commit
	mu      sync.RWMutex
	own     map[memberKey]blockRow
	logged  uint64 // number of the last change
}

func blockKey(k memberKey) []byte {
	return append(append([]byte(blockPrefix), k.org[:]...), k.member[:]...)
}

func openBlocks(s *store.Store) (*blocks, error) {
	b := &blocks{own: make(map[memberKey]blockRow)}
	rows, err := s.Scan([]byte(blockPrefix), nil, maxBlocks+1)
	if err != nil {
		return nil, fmt.Errorf("node: blocks: %w", err)
	}
	for _, kv := range rows {
		rest := kv.Key[len(blockPrefix):]
		var row blockRow
		if err := json.Unmarshal(kv.Value, &row); err != nil || len(rest) != 64 {
			return nil, errors.Join(errors.New("node: a block that does not parse"), err)
		}
		b.own[memberKey{wire.OrganizationID(rest[:32]), wire.MemberID(rest[32:])}] = row
	}
	b.logged, err = lastBlockChange(s)
	return b, err
}

// find returns the administrator's block of a member, or of its organization.
func (b *blocks) find(k memberKey, now time.Time) (row blockRow, whole, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if row, ok = b.own[memberKey{org: k.org}]; ok && row.in(now) {
		return row, true, true
	}
	row, ok = b.own[k]
	return row, false, ok && row.in(now)
}

// blocked reports whether a member of another organization, or with a member ID of zeros
// the organization, is blocked here for everybody.
func (n *Node) blocked(k memberKey) bool {
	if k.org == n.org.ID {
		return false
	}
	now := n.clock.Now()
	if _, _, ok := n.blocks.find(k, now); ok {
		return true
	}
	_, ok := n.lists.find(k, now)
	return ok
}

// refuseBlocked is what outsiders are told: no more than that they are not wanted.
func (n *Node) refuseBlocked(k memberKey) error {
	if !n.blocked(k) {
		return nil
	}
	return wire.Refuse(pb.Code_CODE_NO_CONSENT, "")
}

// reachesBlocked refuses what our own members have to do with whom their administrator has
// blocked.
func (n *Node) reachesBlocked(k memberKey) error {
	if !n.blocked(k) {
		return nil
	}
	return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "%s has blocked them", n.org.Manifest.Name)
}

// screen refuses agreements with an organization that is blocked here.
func (n *Node) screen(org *identity.Organization) error {
	return n.refuseBlocked(memberKey{org: org.ID})
}

// checkBlocked refuses a Commit that brings somebody who is blocked into a room with
// members of ours, or is made by one who is blocked and brings in anybody. Rooms of
// several that they are in go on, and so do Commits that only remove.
func (c *change) checkBlocked(next *mls.PublicGroup, effects *mls.Effects) error {
	added, err := credentials(effects.Added)
	if err != nil {
		return err
	}
	ours := false
	for _, m := range members(next) {
		ours = ours || m.Organization == c.n.org.ID
	}
	if !ours || len(added) == 0 {
		return nil
	}
	for _, a := range added {
		if err := c.n.reachesBlocked(memberKey{a.Organization, a.Member}); err != nil {
			return err
		}
	}
	who, err := policy.CredentialOf(next.Member(effects.Committer))
	if err != nil {
		return err
	}
	return c.n.refuseBlocked(memberKey{who.Organization, who.Member})
}

// pairBlocked refuses messages of a room of two people that is ordered here, when one of
// them is blocked: to the blocked one as to any outsider, to ours with the reason.
func (c *change) pairBlocked(d *draft, s submission) error {
	people := make(map[policy.Person]bool)
	for _, m := range d.people() {
		if people[policy.PersonOf(m)] = true; len(people) > 2 {
			return nil
		}
	}
	for p := range people {
		k := memberKey{p.Organization, p.Member}
		if !c.n.blocked(k) {
			continue
		}
		if s.from.IsZero() {
			return c.n.reachesBlocked(k)
		}
		return c.n.refuseBlocked(k)
	}
	return nil
}
