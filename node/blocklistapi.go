package node

import (
	"context"
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

// How long a published list holds, and how long before its end it is published anew.
const (
	listLife  = 30 * 24 * time.Hour
	listRenew = 10 * 24 * time.Hour
)

func (a operatorAPI) PublishBlockList(ctx context.Context, r *connect.Request[pb.PublishBlockListRequest]) (*connect.Response[pb.BlockListDetails], error) {
	life := time.Duration(r.Msg.ValidSeconds) * time.Second
	if life == 0 {
		life = listLife
	}
	if r.Msg.ValidSeconds < 0 || r.Msg.ValidSeconds > int64(identity.MaxBlockListLife/time.Second) || life < time.Hour {
		return answer[pb.BlockListDetails](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a list holds for an hour to 90 days"))
	}
	n := a.n
	n.lists.changes.Lock()
	defer n.lists.changes.Unlock()
	if err := n.publishList(context.WithoutCancel(ctx), n.blocks.published(n.clock.Now(), r.Msg.Withdraw), life); err != nil {
		return answer[pb.BlockListDetails](nil, err)
	}
	return answer(n.showList(n.org.ID))
}

// published is what of the administrator's blocks goes into a list: those with a code.
// Reasons and names that were typed stay here.
func (b *blocks) published(now time.Time, none bool) (out []identity.BlockEntry) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for k, row := range b.own {
		if !none && row.Code != "" && row.in(now) {
			out = append(out, identity.BlockEntry{Organization: k.org, Member: k.member, Reason: row.Code, Until: row.Until.Truncate(time.Second)})
		}
	}
	return out
}

// publishList signs a list and keeps it. Its sequence is above the last and not below the
// time in seconds: a node that was set back does not sign one twice. lists.changes is held.
func (n *Node) publishList(ctx context.Context, entries []identity.BlockEntry, life time.Duration) error {
	if err := n.signs(); err != nil {
		return err
	}
	now := n.clock.Now()
	l := identity.BlockList{Sequence: max(uint64(now.Unix()), n.lists.lastOwn()+1), Issued: now, Until: now.Add(life), Entries: entries}
	note, err := n.dir.SignBlockList(l)
	if err != nil {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "a list has %d entries and %d bytes at most", wire.MaxBlockListEntries, wire.MaxBlockList)
	}
	parsed, err := identity.VerifyBlockList(note, n.org)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put([]byte(listOwnKey), []byte(note))
	if _, err := n.store.Commit(ctx, &b); err != nil {
		return err
	}
	n.lists.mu.Lock()
	defer n.lists.mu.Unlock()
	n.lists.own, n.lists.ownList = note, parsed
	n.log.Info("a block list was published", "sequence", parsed.Sequence, "entries", len(parsed.Entries))
	return nil
}

func (b *blockLists) lastOwn() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.ownList == nil {
		return 0
	}
	return b.ownList.Sequence
}

// renewList publishes the same entries anew, those that have not ended, before the list ends.
func (n *Node) renewList(ctx context.Context) error {
	n.lists.changes.Lock()
	defer n.lists.changes.Unlock()
	n.lists.mu.RLock()
	own := n.lists.ownList
	n.lists.mu.RUnlock()
	now := n.clock.Now()
	if own == nil || len(own.Entries) == 0 || own.Until.Sub(now) > min(listRenew, own.Until.Sub(own.Issued)/3) || n.signs() != nil {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(own.Entries), func(e identity.BlockEntry) bool { return !e.Until.IsZero() && !now.Before(e.Until) })
	return n.publishList(ctx, left, own.Until.Sub(own.Issued))
}

func (a operatorAPI) SubscribeBlockList(ctx context.Context, r *connect.Request[pb.SubscribeBlockListRequest]) (*connect.Response[pb.BlockListDetails], error) {
	return answer(a.n.subscribe(context.WithoutCancel(ctx), r.Msg))
}

// subscribe begins or ends to hold to a partner's list, or changes how. A list that is not
// taken leaves the subscription, with the problem beside it.
func (n *Node) subscribe(ctx context.Context, m *pb.SubscribeBlockListRequest) (*pb.BlockListDetails, error) {
	id, err := n.issuer(m.Organization, m.Note)
	if err != nil {
		return nil, err
	}
	if !m.Remove && m.Mode != listEnforced && m.Mode != listShown {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a list is enforced or shown")
	}
	b := n.lists
	b.changes.Lock()
	defer b.changes.Unlock()
	before := b.list(id)
	next := &list{row: listRow{Name: n.nameOf(id)}}
	if before != nil {
		*next = *before
	}
	var batch store.Batch
	change := blockChange{What: "subscribed", Organization: id.String(), Name: next.row.Name, Reason: m.Mode, At: n.clock.Now().UTC()}
	switch {
	case m.Remove && (before == nil || before.row.Mode == ""):
		return nil, wire.Refuse(pb.Code_CODE_NOT_FOUND, "there is no subscription to a list of %.80q", m.Organization)
	case m.Remove:
		change.What, next.row.Mode, next.note, next.entries = "unsubscribed", "", "", nil
		batch.Delete(listKey(listNotePrefix, id))
		batch.Delete(listKey(listOtherPrefix, id))
		next.row.Equivocation, next.row.Problem = false, ""
	case before == nil && b.full(), (before == nil || before.row.Mode == "") && len(b.subscribed()) >= wire.BlockLists:
		return nil, wire.Refuse(pb.Code_CODE_FULL, "%d lists are subscribed to at most", wire.BlockLists)
	default:
		next.row.Mode = m.Mode
	}
	if err := n.putListLogged(ctx, &batch, id, next, change); err != nil {
		return nil, err
	}
	n.log.Info("a block list was "+change.What, "partner", id, "mode", m.Mode)
	if m.Remove {
		return n.showList(id)
	}
	if m.Note != "" {
		err = n.takeList(ctx, id, m.Note)
	} else {
		ctx, cancel := context.WithTimeout(ctx, followTime)
		err = n.fetchList(ctx, id)
		cancel()
	}
	if err != nil && (m.Note != "" || wire.ClassOf(wire.StatusOf(err).Code) != wire.Temporary) {
		return nil, err
	}
	return n.showList(id)
}

// putListLogged is putList with an entry in the log of blocks.
func (n *Node) putListLogged(ctx context.Context, b *store.Batch, id wire.OrganizationID, l *list, change blockChange) error {
	n.blocks.changes.Lock()
	defer n.blocks.changes.Unlock()
	if err := n.blocks.log(b, change); err != nil {
		return err
	}
	if err := n.putList(ctx, b, id, l); err != nil {
		return err
	}
	n.blocks.mu.Lock()
	defer n.blocks.mu.Unlock()
	n.blocks.logged++
	return nil
}

func (b *blockLists) full() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.of) >= maxListRows
}

// issuer finds whose list is meant: a partner, by name or ID, and of a file nobody else's.
func (n *Node) issuer(who, note string) (id wire.OrganizationID, err error) {
	if note != "" {
		if id, err = identity.BlockListIssuer(note); err != nil {
			return id, wire.Refuse(pb.Code_CODE_MALFORMED, "that is no block list")
		}
	}
	if who != "" || note == "" {
		p, err := n.fed.Partner(who)
		if err != nil {
			return id, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "%.80q is no partner: lists are taken of organizations whose keys an agreement has made known", who)
		}
		if note != "" && p.ID != id {
			return id, wire.Refuse(pb.Code_CODE_FORBIDDEN, "that list is of another organization")
		}
		id = p.ID
	}
	if id == n.org.ID {
		return id, wire.Refuse(pb.Code_CODE_FORBIDDEN, "that list is our own")
	}
	return id, nil
}

func (a operatorAPI) ListBlockLists(context.Context, *connect.Request[pb.ListBlockListsRequest]) (*connect.Response[pb.ListBlockListsResponse], error) {
	n, out := a.n, &pb.ListBlockListsResponse{}
	if n.lists.lastOwn() > 0 {
		d, err := n.showList(n.org.ID)
		if err != nil {
			return answer[pb.ListBlockListsResponse](nil, err)
		}
		out.Lists = append(out.Lists, d.Status)
	}
	for _, id := range n.lists.subscribed() {
		out.Lists = append(out.Lists, n.listStatus(id, n.lists.list(id)))
	}
	slices.SortFunc(out.Lists, func(a, b *pb.BlockListStatus) int { return strings.Compare(a.Organization, b.Organization) })
	return answer(out, nil)
}

func (n *Node) listStatus(id wire.OrganizationID, l *list) *pb.BlockListStatus {
	return &pb.BlockListStatus{Organization: l.row.Name, OrganizationId: id.String(), Mode: l.row.Mode, Sequence: l.row.Sequence,
		IssuedUnix: unix(l.issued), ValidUntilUnix: unix(l.until), Entries: uint64(len(l.entries)), Enforced: l.holds(n.clock.Now()),
		Problem: l.row.Problem, Equivocation: l.row.Equivocation}
}

func (a operatorAPI) ShowBlockList(_ context.Context, r *connect.Request[pb.ShowBlockListRequest]) (*connect.Response[pb.BlockListDetails], error) {
	n := a.n
	if r.Msg.Note != "" {
		return answer(n.verifyList(r.Msg.Note))
	}
	if r.Msg.Organization == "" || r.Msg.Organization == n.org.Manifest.Name || r.Msg.Organization == n.org.ID.String() {
		return answer(n.showList(n.org.ID))
	}
	id, err := n.issuer(r.Msg.Organization, "")
	if err != nil {
		return answer[pb.BlockListDetails](nil, err)
	}
	return answer(n.showList(id))
}

// verifyList checks somebody's list and keeps nothing of it.
func (n *Node) verifyList(note string) (*pb.BlockListDetails, error) {
	id, err := identity.BlockListIssuer(note)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "that is no block list")
	}
	org := n.org
	if id != n.org.ID {
		if org, err = n.fed.Organization(id); err != nil {
			return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "a list of %s, which is no partner: its key is not known here", id)
		}
	}
	parsed, err := identity.VerifyBlockList(note, org)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the list does not stand: %v", err)
	}
	return listDetails(org.Manifest.Name, note, parsed, parsed.Holds(n.clock.Now())), nil
}

// listDetails is a list alone, without what an administrator has decided about it.
func listDetails(name, note string, l *identity.BlockList, holds bool) *pb.BlockListDetails {
	out := &pb.BlockListDetails{Note: note, Status: &pb.BlockListStatus{Organization: name, OrganizationId: l.Organization.String(),
		Sequence: l.Sequence, IssuedUnix: unix(l.Issued), ValidUntilUnix: unix(l.Until), Entries: uint64(len(l.Entries))}}
	for _, e := range l.Entries {
		b := blockOf(memberKey{e.Organization, e.Member}, blockRow{Code: e.Reason, Until: e.Until, Since: l.Issued})
		b.Source, b.Enforced = name, holds
		out.Entries = append(out.Entries, b)
	}
	return out
}

// showList shows what is kept of an organization's list, our own included.
func (n *Node) showList(id wire.OrganizationID) (*pb.BlockListDetails, error) {
	n.lists.mu.RLock()
	own, ownList, l := n.lists.own, n.lists.ownList, n.lists.of[id]
	n.lists.mu.RUnlock()
	if id == n.org.ID {
		if ownList == nil {
			return nil, wire.Refuse(pb.Code_CODE_NOT_FOUND, "no list is published: entente blocklist publish")
		}
		d := listDetails(n.org.Manifest.Name, own, ownList, ownList.Holds(n.clock.Now()))
		d.Status.Mode = "published"
		return d, nil
	}
	if l == nil {
		return nil, wire.Refuse(pb.Code_CODE_NOT_FOUND, "there is no subscription to that list")
	}
	d := &pb.BlockListDetails{Status: n.listStatus(id, l)}
	if l.note != "" {
		v, err := n.verifyList(l.note)
		if err != nil {
			return nil, err
		}
		d.Note, d.Entries = l.note, v.Entries
		for _, e := range d.Entries {
			e.Enforced = d.Status.Enforced && (e.UntilUnix == 0 || n.clock.Now().Unix() < e.UntilUnix) && e.OrganizationId != n.org.ID.String()
		}
	}
	if l.row.Equivocation {
		other, err := n.store.Get(listKey(listOtherPrefix, id))
		if err != nil {
			return nil, fmt.Errorf("node: the other block list: %w", err)
		}
		d.Other = string(other)
	}
	return d, nil
}
