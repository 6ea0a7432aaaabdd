package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// blockChange is an entry of the log of changes.
type blockChange struct {
	What         string    `json:"what"`
	Name         string    `json:"name,omitempty"`
	Organization string    `json:"organization"`
	Member       string    `json:"member,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	At           time.Time `json:"at"`
}

func blockLogKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(blockLogPrefix), n)
}

func lastBlockChange(s *store.Store) (uint64, error) {
	rows, err := s.Scan([]byte(blockLogPrefix), nil, maxBlockLog+1)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	k := rows[len(rows)-1].Key[len(blockLogPrefix):]
	if len(k) != 8 {
		return 0, errors.New("node: an entry of the log of blocks that does not parse")
	}
	return binary.BigEndian.Uint64(k), nil
}

// log adds a change to the batch that makes it, and drops what is too old; b.changes is
// held, and the number counts from its commit.
func (b *blocks) log(batch *store.Batch, c blockChange) error {
	v, err := json.Marshal(c)
	if err != nil {
		return err
	}
	batch.Put(blockLogKey(b.logged+1), v)
	if b.logged >= maxBlockLog {
		batch.Delete(blockLogKey(b.logged + 1 - maxBlockLog))
	}
	return nil
}

func (a operatorAPI) ChangeBlock(ctx context.Context, r *connect.Request[pb.ChangeBlockRequest]) (*connect.Response[pb.Block], error) {
	return answer(a.n.changeBlock(context.WithoutCancel(ctx), r.Msg))
}

// changeBlock adds a block or removes one. When it returns nil it is on stable storage and
// holds for everything that comes.
func (n *Node) changeBlock(ctx context.Context, m *pb.ChangeBlockRequest) (*pb.Block, error) {
	now := n.clock.Now()
	row := blockRow{Reason: strings.TrimSpace(m.Reason), Name: m.Who, Since: now.UTC()}
	if len(row.Reason) > maxBlockReason || len(m.Who) > 512 {
		return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a reason has %d bytes at most", maxBlockReason)
	}
	if row.Code = m.Code; row.Code != "" && !slices.Contains(identity.BlockReasons, row.Code) {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a code is one of %s", strings.Join(identity.BlockReasons, ", "))
	}
	if m.UntilUnix != 0 {
		if row.Until = time.Unix(m.UntilUnix, 0).UTC(); !now.Before(row.Until) {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a block that has ended already")
		}
	}
	k, err := n.whoIs(ctx, m.Who, m.Remove)
	if err != nil {
		return nil, err
	}
	if k.org == n.org.ID {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "blocks are for outsiders: entente device disable ends a device of ours")
	}
	b := n.blocks
	b.changes.Lock()
	defer b.changes.Unlock()
	var batch store.Batch
	what := "added"
	if m.Remove {
		old, known := b.get(k)
		if !known {
			return nil, wire.Refuse(pb.Code_CODE_NOT_FOUND, "%.80q is not blocked by you", m.Who)
		}
		batch.Delete(blockKey(k))
		what, row = "removed", blockRow{Reason: row.Reason, Name: old.Name, Since: old.Since}
	} else {
		if b.full(k) {
			return nil, wire.Refuse(pb.Code_CODE_FULL, "%d blocks are kept at most", maxBlocks)
		}
		v, err := json.Marshal(row)
		if err != nil {
			return nil, err
		}
		batch.Put(blockKey(k), v)
	}
	change := blockChange{What: what, Name: row.Name, Organization: k.org.String(), Reason: row.Reason, At: now.UTC()}
	if k.member != (wire.MemberID{}) {
		change.Member = k.member.String()
	}
	if err := b.log(&batch, change); err != nil {
		return nil, err
	}
	if _, err := n.store.Commit(ctx, &batch); err != nil {
		return nil, err
	}
	b.put(k, row, m.Remove)
	n.log.Info("a block was "+what, "organization", k.org, "member", change.Member)
	return blockOf(k, row), nil
}

func (b *blocks) get(k memberKey) (blockRow, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	row, ok := b.own[k]
	return row, ok
}

func (b *blocks) full(k memberKey) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	_, known := b.own[k]
	return !known && len(b.own) >= maxBlocks
}

// put takes a committed change over.
func (b *blocks) put(k memberKey, row blockRow, remove bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logged++
	if remove {
		delete(b.own, k)
	} else {
		b.own[k] = row
	}
}

// whoIs finds whom an operator means: by IDs, by the name of an organization that we deal
// or have dealt with, or by an address there, which its node is asked for.
func (n *Node) whoIs(ctx context.Context, who string, known bool) (k memberKey, err error) {
	org, member, both := strings.Cut(who, "/")
	if k.org, err = wire.ParseOrganizationID(org); err == nil {
		if both {
			k.member, err = wire.ParseMemberID(member)
		}
		if err != nil || both && k.member == (wire.MemberID{}) {
			return k, wire.Refuse(pb.Code_CODE_MALFORMED, "%.80q is no organization ID/member ID", who)
		}
		return k, nil
	}
	if known {
		if k, ok := n.blocks.named(who); ok {
			return k, nil
		}
	}
	if wire.CheckOrganizationName(who) == nil {
		k.org, err = n.organizationNamed(who)
		return k, err
	}
	address, err := wire.ParseAddress(who)
	if err != nil {
		return k, wire.Refuse(pb.Code_CODE_MALFORMED, "name an address, an organization, an organization ID, or organization ID/member ID")
	}
	if k.org, err = n.organizationNamed(address.Organization); err != nil || k.org == n.org.ID {
		return k, err
	}
	a, err := n.ask(ctx, k.org, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: address.Name}}})
	if err != nil {
		return k, err
	}
	m, err := identity.VerifyChain(a.GetResolve().GetChain(), k.org, n.clock.Now())
	if err != nil {
		return k, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the partner's certificates for that member do not stand")
	}
	k.member = m.ID
	return k, nil
}

// named finds a block by what was typed for it.
func (b *blocks) named(who string) (memberKey, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for k, row := range b.own {
		if row.Name == who {
			return k, true
		}
	}
	return memberKey{}, false
}

func (n *Node) organizationNamed(name string) (wire.OrganizationID, error) {
	if name == n.org.Manifest.Name {
		return n.org.ID, nil
	}
	if p, err := n.fed.Partner(name); err == nil {
		return p.ID, nil
	}
	if r, err := n.fed.Request(name); err == nil {
		return r.Organization, nil
	}
	return wire.OrganizationID{}, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "%.80q has no agreement here and has not asked for one: name it by its ID", name)
}

func (a operatorAPI) ListBlocks(_ context.Context, r *connect.Request[pb.ListBlocksRequest]) (*connect.Response[pb.ListBlocksResponse], error) {
	out := &pb.ListBlocksResponse{}
	if !r.Msg.Log {
		out.Blocks = a.n.blocks.list(a.n.clock.Now())
		return answer(out, nil)
	}
	rows, err := a.n.store.Scan([]byte(blockLogPrefix), nil, maxBlockLog+1)
	for _, kv := range rows {
		var c blockChange
		if err := json.Unmarshal(kv.Value, &c); err != nil {
			return answer[pb.ListBlocksResponse](nil, fmt.Errorf("node: the log of blocks: %w", err))
		}
		out.Log = append(out.Log, &pb.BlockChange{What: c.What, Name: c.Name, OrganizationId: c.Organization, MemberId: c.Member, Reason: c.Reason, AtUnix: unix(c.At)})
	}
	return answer(out, err)
}

// list is what the administrator has blocked; blocks that have ended are not enforced.
func (b *blocks) list(now time.Time) (out []*pb.Block) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for k, row := range b.own {
		x := blockOf(k, row)
		x.Enforced = row.in(now)
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b *pb.Block) int {
		return strings.Compare(a.OrganizationId+a.MemberId, b.OrganizationId+b.MemberId)
	})
	return out
}

func blockOf(k memberKey, row blockRow) *pb.Block {
	x := &pb.Block{Name: row.Name, OrganizationId: k.org.String(), Reason: row.Reason, Code: row.Code, SinceUnix: unix(row.Since), UntilUnix: unix(row.Until), Enforced: true}
	if k.member != (wire.MemberID{}) {
		x.MemberId = k.member.String()
	}
	return x
}

// blockedFor lists, for devices, whom the organization has blocked for its members: by the
// administrator, and of enforced lists those whose organizations are partners.
func (n *Node) blockedFor() (out []*pb.Contact) {
	now := n.clock.Now()
	n.blocks.mu.RLock()
	defer n.blocks.mu.RUnlock()
	for k, row := range n.blocks.own {
		if row.in(now) {
			out = append(out, blockedContact(k, row.Since, n.org.Manifest.Name))
		}
	}
	n.lists.mu.RLock()
	defer n.lists.mu.RUnlock()
	partners := make(map[wire.OrganizationID]bool)
	for _, p := range n.fed.Partners() {
		partners[p.ID] = true
	}
	for _, l := range n.lists.of {
		if !l.holds(now) {
			continue
		}
		for k, e := range l.entries {
			if partners[k.org] && len(out) < maxBlocks && (e.Until.IsZero() || now.Before(e.Until)) {
				out = append(out, blockedContact(k, l.issued, l.row.Name))
			}
		}
	}
	return out
}

func blockedContact(k memberKey, since time.Time, by string) *pb.Contact {
	c := &pb.Contact{Organization: bytes.Clone(k.org[:]), State: contactBlocked, SinceUnix: since.Unix(), By: by}
	if k.member != (wire.MemberID{}) {
		c.Member = bytes.Clone(k.member[:])
	}
	return c
}
