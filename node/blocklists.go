package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Block lists that organizations sign for their partners (docs/protocol.md 2.17, 5.15). Rows:
//
//	nd/list-own                      note: the list that we publish
//	nd/list/<organization ID>        JSON listRow: of another's; stays after unsubscribing, so that nothing older is taken
//	nd/list-note/<organization ID>   note: the last one taken
//	nd/list-other/<organization ID>  note: another one with the same sequence
const (
	listOwnKey      = "nd/list-own"
	listPrefix      = "nd/list/"
	listNotePrefix  = "nd/list-note/"
	listOtherPrefix = "nd/list-other/"
	maxListRows     = 1_000
)

// What an administrator does with another's list.
const (
	listEnforced = "enforce"
	listShown    = "show"
)

type listRow struct {
	Name         string    `json:"name"`
	Mode         string    `json:"mode,omitempty"` // empty: not subscribed any more
	Sequence     uint64    `json:"sequence,omitempty"`
	Hash         [32]byte  `json:"hash"` // of the text
	Problem      string    `json:"problem,omitempty"`
	Equivocation bool      `json:"equivocation,omitempty"`
	Fetched      time.Time `json:"fetched,omitzero"`
}

// list is another organization's list as it is held here.
type list struct {
	row     listRow
	note    string
	until   time.Time
	issued  time.Time
	entries map[memberKey]identity.BlockEntry
}

// holds reports whether the list blocks anybody now.
func (l *list) holds(now time.Time) bool {
	return l.row.Mode == listEnforced && l.note != "" && (&identity.BlockList{Issued: l.issued, Until: l.until}).Holds(now)
}

// blockLists is what the rows say. Lists are replaced, never changed.
type blockLists struct {
	changes sync.Mutex // held over a change and its commit
	mu      sync.RWMutex
	own     string
	ownList *identity.BlockList
	of      map[wire.OrganizationID]*list
	kick    chan struct{}
}

func listKey(prefix string, id wire.OrganizationID) []byte {
	return append([]byte(prefix), id[:]...)
}

func openBlockLists(s *store.Store, org *identity.Organization, issuer func(wire.OrganizationID) (*identity.Organization, error)) (*blockLists, error) {
	b := &blockLists{of: make(map[wire.OrganizationID]*list), kick: make(chan struct{}, 1)}
	own, err := s.Get([]byte(listOwnKey))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		b.own = string(own)
		if b.ownList, err = identity.VerifyBlockList(b.own, org); err != nil {
			b.own, b.ownList = "", nil // signed with a key of before: it is published anew
		}
	}
	rows, err := s.Scan([]byte(listPrefix), nil, maxListRows+1)
	if err != nil {
		return nil, err
	}
	for _, kv := range rows {
		id, err := wire.Bytes32(kv.Key[len(listPrefix):])
		l := &list{}
		if err == nil {
			err = json.Unmarshal(kv.Value, &l.row)
		}
		if err != nil {
			return nil, fmt.Errorf("node: a block list: %w", err)
		}
		note, err := s.Get(listKey(listNotePrefix, id))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			if err := l.hold(string(note), issuer, id); err != nil {
				l.row.Problem = "the list that was kept does not stand: " + err.Error()
			}
		}
		b.of[id] = l
	}
	return b, nil
}

// hold reads a note that was verified when it was taken; once more where its issuer is
// known, which is always but after its agreement has gone.
func (l *list) hold(note string, issuer func(wire.OrganizationID) (*identity.Organization, error), id wire.OrganizationID) error {
	org, err := issuer(id)
	if err != nil {
		return err
	}
	parsed, err := identity.VerifyBlockList(note, org)
	if err != nil {
		return err
	}
	l.put(note, parsed)
	return nil
}

func (l *list) put(note string, parsed *identity.BlockList) {
	l.note, l.issued, l.until = note, parsed.Issued, parsed.Until
	l.entries = make(map[memberKey]identity.BlockEntry, len(parsed.Entries))
	for _, e := range parsed.Entries {
		l.entries[memberKey{e.Organization, e.Member}] = e
	}
}

// find returns the enforced list that names somebody, or their organization.
func (b *blockLists) find(k memberKey, now time.Time) (name string, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, l := range b.of {
		if !l.holds(now) {
			continue
		}
		for _, who := range []memberKey{{org: k.org}, k} {
			if e, named := l.entries[who]; named && (e.Until.IsZero() || now.Before(e.Until)) {
				return l.row.Name, true
			}
		}
	}
	return "", false
}

// list returns what is kept of an organization's list.
func (b *blockLists) list(id wire.OrganizationID) *list {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.of[id]
}

// blockListFor hands a partner the list that we publish, when it has not this one.
func (n *Node) blockListFor(q *pb.BlockListQuery) *pb.BlockListAnswer {
	b := n.lists
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.ownList == nil || b.ownList.Sequence < q.Above {
		return &pb.BlockListAnswer{}
	}
	if b.ownList.Sequence == q.Above {
		text, err := wire.NoteText(b.own)
		if hash := wire.TextHash(text); err != nil || bytes.Equal(hash[:], q.Have) {
			return &pb.BlockListAnswer{}
		}
	}
	return &pb.BlockListAnswer{Note: b.own}
}

// fetchList asks a partner for its list and takes it, when it is newer. lists.changes is held.
func (n *Node) fetchList(ctx context.Context, id wire.OrganizationID) error {
	q := &pb.BlockListQuery{}
	if l := n.lists.list(id); l != nil {
		q.Above, q.Have = l.row.Sequence, l.row.Hash[:]
		if l.note == "" { // it was dropped with the subscription
			q.Have = nil
		}
	}
	a, err := n.ask(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_BlockList{BlockList: q}})
	if err != nil {
		return err
	}
	if note := a.GetBlockList().GetNote(); note != "" {
		return n.takeList(ctx, id, note)
	}
	return nil
}

// takeList keeps a list that stands and is newer than the last. Nothing older is ever taken;
// two lists with one sequence are kept both, and the first goes on. lists.changes is held.
func (n *Node) takeList(ctx context.Context, id wire.OrganizationID, note string) error {
	l := n.lists.list(id)
	if l == nil || l.row.Mode == "" {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "there is no subscription to that list")
	}
	next := *l
	problem := n.judgeList(&next, id, note)
	var b store.Batch
	switch {
	case problem == nil:
		b.Put(listKey(listNotePrefix, id), []byte(next.note))
	case next.row.Equivocation && !l.row.Equivocation:
		b.Put(listKey(listOtherPrefix, id), []byte(note))
	}
	if problem != nil {
		next.row.Problem = wire.StatusOf(problem).Detail
	}
	next.row.Fetched = n.clock.Now().UTC()
	return errors.Join(n.putList(ctx, &b, id, &next), problem)
}

// judgeList puts a note into l, or says why not.
func (n *Node) judgeList(l *list, id wire.OrganizationID, note string) error {
	org, err := n.fed.Organization(id)
	if err != nil {
		return err
	}
	parsed, err := identity.VerifyBlockList(note, org)
	if err != nil {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a block list that does not stand")
	}
	text, err := wire.NoteText(note)
	if err != nil {
		return err
	}
	hash := wire.TextHash(text)
	switch {
	case parsed.Issued.After(n.clock.Now().Add(wire.ClockTolerance)):
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a block list of the future: issued %s", wire.FormatTime(parsed.Issued))
	case parsed.Sequence < l.row.Sequence:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "an older block list: sequence %d after %d", parsed.Sequence, l.row.Sequence)
	case parsed.Sequence == l.row.Sequence && hash != l.row.Hash:
		l.row.Equivocation = true
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "two block lists with the sequence %d: entente blocklist show has both", parsed.Sequence)
	}
	l.row.Sequence, l.row.Hash, l.row.Name, l.row.Problem = parsed.Sequence, hash, org.Manifest.Name, ""
	l.put(note, parsed)
	return nil
}

// putList commits a list's row with what is in the batch, and takes it over.
func (n *Node) putList(ctx context.Context, b *store.Batch, id wire.OrganizationID, l *list) error {
	v, err := json.Marshal(l.row)
	if err != nil {
		return err
	}
	b.Put(listKey(listPrefix, id), v)
	if _, err := n.store.Commit(ctx, b); err != nil {
		return err
	}
	n.lists.mu.Lock()
	defer n.lists.mu.Unlock()
	n.lists.of[id] = l
	return nil
}

// listsEvery is how often partners are asked for their lists; and when a link comes up.
const (
	listsEvery = time.Hour
	listPause  = time.Minute // between two questions to one partner, whatever its link does
)

// followLists asks for the lists that are subscribed to, and publishes our own anew before
// it ends.
func (n *Node) followLists(ctx context.Context) error {
	ticker := time.NewTicker(listsEvery)
	defer ticker.Stop()
	asked := make(map[wire.OrganizationID]time.Time)
	for {
		if err := n.renewList(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("our block list was not published anew", "error", err)
		}
		for _, id := range n.lists.subscribed() {
			if now := time.Now(); now.Sub(asked[id]) < listPause {
				continue
			} else {
				asked[id] = now
			}
			if err := n.follow1(ctx, id); err != nil && ctx.Err() == nil {
				n.log.Warn("a partner's block list is not followed", "partner", id, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-n.lists.kick:
		}
	}
}

func (n *Node) follow1(ctx context.Context, id wire.OrganizationID) error {
	ctx, cancel := context.WithTimeout(ctx, followTime)
	defer cancel()
	n.lists.changes.Lock()
	defer n.lists.changes.Unlock()
	return n.fetchList(ctx, id)
}

func (b *blockLists) subscribed() (out []wire.OrganizationID) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for id, l := range b.of {
		if l.row.Mode != "" {
			out = append(out, id)
		}
	}
	return out
}

// linked is told of every partner's link that comes up.
func (n *Node) linked(id wire.OrganizationID) {
	n.replicas.due(id)
	select {
	case n.lists.kick <- struct{}{}:
	default:
	}
}
