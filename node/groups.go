package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Groups of members, and which of them may deal with which partner (docs/protocol.md
// 5.11). Both are the organization's own and leave it nowhere. Rows:
//
//	nd/groups/<group> 0 <member ID>  empty: the member is in the group
//	nd/partner-groups/<organization ID>  JSON: the groups that may deal with it; no row: everybody
const (
	groupMemberPrefix  = "nd/groups/"
	partnerGroupPrefix = "nd/partner-groups/"
	maxGroups          = 256
	maxGroupMembers    = 100_000 // of all groups together
)

// groups is what the rows say, in memory. Sets are replaced, never changed.
type groups struct {
	mu      sync.RWMutex
	changes sync.Mutex // held over a change and its commit
	members map[string]map[wire.MemberID]bool
	allowed map[wire.OrganizationID][]string // sorted; no entry: everybody
}

func groupMemberKey(group string, m wire.MemberID) []byte {
	return append(append([]byte(groupMemberPrefix+group), 0), m[:]...)
}

func partnerGroupKey(id wire.OrganizationID) []byte {
	return append([]byte(partnerGroupPrefix), id[:]...)
}

func openGroups(s *store.Store) (*groups, error) {
	g := &groups{members: make(map[string]map[wire.MemberID]bool), allowed: make(map[wire.OrganizationID][]string)}
	rows, err := s.Scan([]byte(groupMemberPrefix), nil, maxGroupMembers)
	if err != nil {
		return nil, fmt.Errorf("node: groups: %w", err)
	}
	for _, kv := range rows {
		rest := kv.Key[len(groupMemberPrefix):]
		if len(rest) < 34 || rest[len(rest)-33] != 0 {
			return nil, fmt.Errorf("node: the row of a group has a key of %d bytes", len(kv.Key))
		}
		g.put(string(rest[:len(rest)-33]), wire.MemberID(rest[len(rest)-32:]))
	}
	if rows, err = s.Scan([]byte(partnerGroupPrefix), nil, maxGroupMembers); err != nil {
		return nil, fmt.Errorf("node: rules of partners: %w", err)
	}
	for _, kv := range rows {
		id, err := wire.Bytes32(kv.Key[len(partnerGroupPrefix):])
		var list []string
		if err == nil {
			err = json.Unmarshal(kv.Value, &list)
		}
		if err != nil {
			return nil, fmt.Errorf("node: the rule of a partner: %w", err)
		}
		g.allowed[id] = list
	}
	return g, nil
}

// put notes a member; the caller holds mu or is alone.
func (g *groups) put(group string, m wire.MemberID) {
	set := maps.Clone(g.members[group])
	if set == nil {
		set = make(map[wire.MemberID]bool)
	}
	set[m] = true
	g.members[group] = set
}

// may reports whether a member may deal with a partner.
func (g *groups) may(m wire.MemberID, partner wire.OrganizationID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	list, ruled := g.allowed[partner]
	return !ruled || g.inAny(m, list)
}

// found reports whether a partner finds a member under `directory groups`: by the groups
// that may deal with it, so that without a rule it finds nobody.
func (g *groups) found(m wire.MemberID, partner wire.OrganizationID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.inAny(m, g.allowed[partner])
}

func (g *groups) inAny(m wire.MemberID, list []string) bool {
	return slices.ContainsFunc(list, func(group string) bool { return g.members[group][m] })
}

// mayDeal refuses what a member of ours and a partner have to do with each other, where
// the organization's rule does not let them.
func (n *Node) mayDeal(m wire.MemberID, partner wire.OrganizationID) error {
	if partner == n.org.ID || n.groups.may(m, partner) {
		return nil
	}
	return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "a rule of %s: this member is in none of the groups that may deal with %s", n.org.Manifest.Name, n.nameOf(partner))
}

// groupsAllow holds who comes into a room against the rules about groups: members of ours
// against the partners with a leaf in it, and partners against our members.
func (n *Node) groupsAllow(after []wire.Credential, added []wire.Credential) error {
	come := make(map[policy.Person]bool)
	comes := make(map[wire.OrganizationID]bool)
	for _, a := range added {
		come[policy.PersonOf(a)], comes[a.Organization] = true, true
	}
	for _, ours := range after {
		if ours.Organization != n.org.ID {
			continue
		}
		for _, theirs := range after {
			if theirs.Organization == n.org.ID || !come[policy.PersonOf(ours)] && !comes[theirs.Organization] {
				continue
			}
			if err := n.mayDeal(ours.Member, theirs.Organization); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a operatorAPI) ChangeGroup(ctx context.Context, r *connect.Request[pb.ChangeGroupRequest]) (*connect.Response[pb.GroupStatus], error) {
	return answer(a.n.changeGroup(context.WithoutCancel(ctx), r.Msg))
}

// changeGroup adds members to a group or takes them off; all of them or none.
func (n *Node) changeGroup(ctx context.Context, m *pb.ChangeGroupRequest) (*pb.GroupStatus, error) {
	if wire.CheckMemberName(m.Group) != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "groups are named by 1 to 64 of a-z 0-9 . - _, beginning and ending with a letter or digit")
	}
	n.groups.changes.Lock()
	defer n.groups.changes.Unlock()
	if n.groups.full(m) {
		return nil, wire.Refuse(pb.Code_CODE_FULL, "%d groups with %d members together are kept at most", maxGroups, maxGroupMembers)
	}
	var b store.Batch
	set := maps.Clone(n.groups.list(m.Group))
	if set == nil {
		set = make(map[wire.MemberID]bool)
	}
	for _, name := range m.Members {
		who, err := n.named(name)
		if err != nil {
			return nil, err
		}
		if key := groupMemberKey(m.Group, who.ID); m.Remove {
			b.Delete(key)
			delete(set, who.ID)
		} else {
			b.Put(key, []byte{1})
			set[who.ID] = true
		}
	}
	if _, err := n.store.Commit(ctx, &b); err != nil {
		return nil, err
	}
	n.groups.replace(m.Group, set)
	return n.groupStatus(m.Group), nil
}

func (g *groups) list(group string) map[wire.MemberID]bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.members[group]
}

func (g *groups) replace(group string, set map[wire.MemberID]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members[group] = set; len(set) == 0 {
		delete(g.members, group)
	}
}

func (g *groups) full(m *pb.ChangeGroupRequest) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	count := len(m.Members)
	for _, set := range g.members {
		count += len(set)
	}
	return !m.Remove && (count > maxGroupMembers || g.members[m.Group] == nil && len(g.members) >= maxGroups)
}

func (n *Node) groupStatus(group string) *pb.GroupStatus {
	out := &pb.GroupStatus{Group: group}
	for id := range n.groups.list(group) {
		if m, err := n.dir.Get(id); err == nil {
			out.Members = append(out.Members, m.Address().String())
		}
	}
	slices.Sort(out.Members)
	return out
}

func (a operatorAPI) ListGroups(_ context.Context, r *connect.Request[pb.ListGroupsRequest]) (*connect.Response[pb.ListGroupsResponse], error) {
	out := &pb.ListGroupsResponse{}
	for _, name := range a.n.groups.names() {
		if r.Msg.Group == "" || r.Msg.Group == name {
			out.Groups = append(out.Groups, a.n.groupStatus(name))
		}
	}
	if r.Msg.Group != "" && len(out.Groups) == 0 {
		return answer[pb.ListGroupsResponse](nil, wire.Refuse(pb.Code_CODE_NOT_FOUND, "nobody is in a group %.80q", r.Msg.Group))
	}
	return answer(out, nil)
}

func (g *groups) names() []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Sorted(maps.Keys(g.members))
}

// PartnerGroups says which groups may deal with a partner, and changes that.
func (a operatorAPI) PartnerGroups(ctx context.Context, r *connect.Request[pb.PartnerGroupsRequest]) (*connect.Response[pb.PartnerGroupsResponse], error) {
	return answer(a.n.partnerGroups(context.WithoutCancel(ctx), r.Msg))
}

func (n *Node) partnerGroups(ctx context.Context, m *pb.PartnerGroupsRequest) (*pb.PartnerGroupsResponse, error) {
	p, err := n.fed.Partner(m.Name)
	if err != nil {
		return nil, err
	}
	if m.Change {
		if err := n.inhabited(m.Groups); err != nil && !m.AllowEmpty {
			return nil, err
		}
		if err := n.allowGroups(ctx, p.ID, m.Groups); err != nil {
			return nil, err
		}
	}
	return &pb.PartnerGroupsResponse{Partner: p.Name, Groups: n.groups.rule(p.ID)}, nil
}

// inhabited refuses groups that nobody is in: a name mistyped would keep everybody from
// the partner.
func (n *Node) inhabited(list []string) error {
	for _, name := range list {
		if len(n.groups.list(name)) == 0 {
			return wire.Refuse(pb.Code_CODE_NOT_FOUND, "nobody is in a group %.80q", name)
		}
	}
	return nil
}

func (g *groups) rule(partner wire.OrganizationID) []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Clone(g.allowed[partner])
}

// allowGroups writes a rule, which holds for everything that comes from now on. A group
// that has no members may be named: until it has, nobody is in it.
func (n *Node) allowGroups(ctx context.Context, partner wire.OrganizationID, list []string) error {
	if len(list) > maxGroups {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "%d groups: at most %d", len(list), maxGroups)
	}
	for _, name := range list {
		if wire.CheckMemberName(name) != nil {
			return wire.Refuse(pb.Code_CODE_MALFORMED, "%.80q is no group's name", name)
		}
	}
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	n.groups.changes.Lock()
	defer n.groups.changes.Unlock()
	var b store.Batch
	if len(list) == 0 {
		b.Delete(partnerGroupKey(partner))
	} else {
		v, err := json.Marshal(list)
		if err != nil {
			return err
		}
		b.Put(partnerGroupKey(partner), v)
	}
	if _, err := n.store.Commit(ctx, &b); err != nil {
		return err
	}
	n.groups.mu.Lock()
	defer n.groups.mu.Unlock()
	if n.groups.allowed[partner] = list; len(list) == 0 {
		delete(n.groups.allowed, partner)
	}
	return nil
}
