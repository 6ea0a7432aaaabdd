package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Partners' directory logs, followed head by head (docs/protocol.md 2.11): asked for when a
// link comes up, when a newer head is heard of, and every followEvery.

const (
	followEvery = time.Minute
	// followCeiling is the longest wait after failures, which double it.
	followCeiling = 30 * time.Minute
	// hintPause is the least time between two looks that a partner's hints cause.
	hintPause = time.Second
	// followTime bounds one look at a partner's log, all its pages included.
	followTime = 5 * time.Minute
	// silentPause is the wait after a question that a linked partner left unanswered. It does
	// not double: nothing else may tell when such a partner is back, and the question costs
	// little.
	silentPause = 10 * time.Second
	// followers bounds of how many logs leaves are fetched at once. A question for a head takes
	// no place, so that partners who are silent keep none from the others.
	followers = 4
	// cosignAgain is the age from which a cosignature is made anew, so that a log without
	// changes stays fresh.
	cosignAgain = time.Hour
)

// followed are the states of partners whose logs are followed.
var followed = []string{"connected", "quarantined", "quarantinedThere"}

// replicas are the copies of partners' logs and when each is looked at next.
type replicas struct {
	store *store.Store

	mu    sync.Mutex
	open  map[wire.OrganizationID]*replica.Replica
	plans map[wire.OrganizationID]*plan
	long  map[wire.OrganizationID][]*identity.Checkpoint // heads beyond the copy that others were shown, maxHeard at most
	kick  chan struct{}                                  // one place: something is due earlier than planned

	places chan struct{} // as many as followers: who fetches leaves has one
}

// plan is when a log is looked at.
type plan struct {
	next     time.Time
	last     time.Time // when it was looked at last
	failures int
	busy     bool
	again    bool // it became due while it was looked at
}

func newReplicas(s *store.Store) *replicas {
	return &replicas{store: s, open: make(map[wire.OrganizationID]*replica.Replica),
		plans: make(map[wire.OrganizationID]*plan), long: make(map[wire.OrganizationID][]*identity.Checkpoint), kick: make(chan struct{}, 1),
		places: make(chan struct{}, followers)}
}

// of returns the copy of a log.
func (r *replicas) of(id wire.OrganizationID) (*replica.Replica, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.open[id]; c != nil {
		return c, nil
	}
	c, err := replica.Open(r.store, id)
	if err == nil {
		r.open[id] = c
	}
	return c, err
}

// due has a log looked at now, whatever failed before.
func (r *replicas) due(id wire.OrganizationID) {
	r.mu.Lock()
	p := r.planLocked(id)
	p.next, p.again, p.failures = time.Time{}, p.busy, 0
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// hinted has a log looked at soon that may be longer than its copy; hints that are no news
// cost nothing, and others no more than a question a second.
func (r *replicas) hinted(id wire.OrganizationID, size uint64) {
	c, err := r.of(id)
	if err != nil {
		return
	}
	if s := c.State(); size < s.Size || size == s.Size && s.Problem == "" { // with a problem: it may be over
		return
	}
	r.mu.Lock()
	p := r.planLocked(id)
	soon := p.last.Add(hintPause)
	if soon.Before(p.next) {
		p.next = soon
	}
	p.again = p.busy
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// longer has a log looked at soon of which others were shown a head beyond our copy.
func (r *replicas) longer(id wire.OrganizationID, head *identity.Checkpoint) {
	r.mu.Lock()
	known := slices.ContainsFunc(r.long[id], func(h *identity.Checkpoint) bool { return h.Size == head.Size && h.Root == head.Root })
	if !known { // two of one size are what a fork looks like: each is compared
		list := append(r.long[id], head)
		r.long[id] = list[max(0, len(list)-maxHeard):]
	}
	r.mu.Unlock()
	r.hinted(id, head.Size)
}

// shown returns, once, the heads beyond our copy that others were shown.
func (r *replicas) shown(id wire.OrganizationID) []*identity.Checkpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	heads := r.long[id]
	delete(r.long, id)
	return heads
}

func (r *replicas) planLocked(id wire.OrganizationID) *plan {
	p := r.plans[id]
	if p == nil {
		p = &plan{}
		r.plans[id] = p
	}
	return p
}

// claim says whether a log is to be looked at now, and by the caller.
func (r *replicas) claim(id wire.OrganizationID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.planLocked(id)
	if p.busy || now.Before(p.next) {
		return false
	}
	p.busy, p.last = true, now
	return true
}

// done plans the next look after one that ended so.
func (r *replicas) done(id wire.OrganizationID, now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.planLocked(id)
	p.busy = false
	if p.failures++; err == nil {
		p.failures = 0
	}
	p.next = now.Add(min(followEvery<<min(p.failures, 10), followCeiling))
	if errors.Is(err, errSilent) {
		p.failures, p.next = 0, now.Add(silentPause)
	}
	if p.again {
		p.next = now.Add(min(hintPause<<min(p.failures, 10), followCeiling))
	}
	p.again = false
}

// followPartners looks at every partner's log when it is due, until ctx ends.
func (n *Node) followPartners(ctx context.Context) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	asked, told, at := uint64(0), uint64(0), time.Time{}
	n.tellCopies()
	for {
		if time.Since(at) > followEvery {
			at = time.Now()
			n.tellOwn()
		}
		size, _, err := n.dir.Head()
		if err == nil && size != told && n.tellOwn() {
			told = size
		}
		if err == nil && size != asked {
			asked = size // follow says it to every partner
			for _, p := range n.fed.Partners() {
				n.replicas.due(p.ID)
			}
		}
		for _, p := range n.fed.Partners() {
			if p.State == "ended" {
				n.dropReplica(ctx, p.ID)
				continue
			}
			if !slices.Contains(followed, p.State) || !n.replicas.claim(p.ID, time.Now()) {
				continue
			}
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, followTime)
				defer cancel()
				err := n.follow(ctx, p.ID)
				if err != nil && ctx.Err() == nil {
					n.log.Warn("a partner's directory log is not followed", "partner", p.ID, "error", err)
				}
				n.replicas.done(p.ID, time.Now(), err)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.replicas.kick:
		case <-ticker.C:
		}
	}
}

// dropReplica deletes the copy of a log whose organization is no partner any more.
func (n *Node) dropReplica(ctx context.Context, id wire.OrganizationID) {
	r, err := n.replicas.of(id)
	if err == nil {
		err = errors.Join(r.Drop(ctx), n.forgetKept(ctx, id))
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("the copy of a former partner's log stays for now", "partner", id, "error", err)
	}
}

// errSilent says that a partner did not answer what follow asks first.
var errSilent = errors.New("node: a linked partner does not answer")

// silent marks an error that says that nobody answered.
func silent(err error) error {
	if err != nil && wire.StatusOf(err).Code == pb.Code_CODE_UNREACHABLE {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return err
}

// follow asks a partner what it holds of our log, and for its own head, and takes it.
func (n *Node) follow(ctx context.Context, id wire.OrganizationID) error {
	if err := n.checkOwn(ctx, id); err != nil {
		return silent(err)
	}
	if err := n.turn(ctx, id); err != nil {
		return err
	}
	size, _, err := n.dir.Head()
	if err != nil {
		return err
	}
	a, err := n.ask(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_Head{Head: &pb.HeadQuery{Size: size}}})
	if err != nil {
		return silent(err)
	}
	if a.GetHead().GetCheckpoint() != "" { // else it has no member yet
		if err := n.takeHead(ctx, id, a.GetHead().GetCheckpoint()); err != nil {
			return err
		}
	}
	r, err := n.replicas.of(id)
	if err != nil {
		return err
	}
	for _, head := range n.replicas.shown(id) {
		if head.Size <= r.State().Size {
			err = errors.Join(err, n.heed(ctx, id, head))
		} else {
			err = errors.Join(err, n.takeHead(ctx, id, head.Note))
		}
	}
	return err
}

// turn follows the log that a partner's manifest is about: an incident statement may have
// begun another one. Its proof of two pasts is settled with that; the quarantine stays until
// the operator has read the statement and ends it.
func (n *Node) turn(ctx context.Context, id wire.OrganizationID) error {
	org, ok := n.partner(id)
	if !ok {
		return nil
	}
	r, err := n.replicas.of(id)
	if err != nil || r.State().Log == org.Manifest.Log() {
		return err
	}
	settled, err := r.Turn(ctx, org.Manifest.Log())
	if err == nil {
		n.log.Warn("a partner has begun a new log of its directory: look with entente directory partners, entente partner release ends a quarantine",
			"partner", id, "had two pasts", settled, "incidents", len(org.Manifest.Incidents))
	}
	return err
}

// takeHead verifies a partner's head and all that leads to it, stores that, and cosigns
// it. What does not fit is recorded and changes nothing; a fork is recorded with its proof.
func (n *Node) takeHead(ctx context.Context, id wire.OrganizationID, signed string) error {
	org, ok := n.partner(id)
	if !ok {
		return fmt.Errorf("node: no partner %s", id)
	}
	r, err := n.replicas.of(id)
	if err != nil {
		return err
	}
	if r.Forked() != nil {
		return nil // nothing that it says of itself counts until its incident is settled
	}
	head, err := n.fetchTo(ctx, r, org, signed)
	if err == nil {
		return errors.Join(r.Accept(ctx), n.cosign(ctx, r, id, head, signed), n.fed.TellHead(head))
	}
	var fork *replica.ForkError
	if errors.As(err, &fork) {
		return errors.Join(err, n.foundFork(ctx, id, r, fork))
	}
	if errors.Is(err, replica.ErrMisfit) || errors.Is(err, identity.ErrNotStanding) {
		return errors.Join(err, r.Refuse(ctx, err, n.clock.Now()))
	}
	return err
}

// errBehind says that a partner shows a head below one that it has shown before.
var errBehind = fmt.Errorf("%w: the log's head is below one that was shown before; it may be recovering", replica.ErrMisfit)

// fetchTo brings the copy to a head.
func (n *Node) fetchTo(ctx context.Context, r *replica.Replica, org *identity.Organization, signed string) (*identity.Checkpoint, error) {
	head, err := identity.VerifyCheckpoint(signed, org)
	if err != nil {
		return nil, err
	}
	if head.Note, err = identity.MergeCosignatures(head, head.Note, nil); err != nil {
		return nil, err
	}
	from, behind, err := r.Judge(org, head)
	switch {
	case err != nil:
		return nil, err
	case behind:
		return nil, errBehind
	case from == head.Size:
		return head, nil
	}
	select {
	case n.replicas.places <- struct{}{}:
		defer func() { <-n.replicas.places }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	leaves, err := n.fetchLeaves(ctx, org.ID, nil, from, head.Size)
	if err != nil {
		return nil, err
	}
	err = r.Take(ctx, org, head, from, leaves, n.clock.Now())
	if errors.Is(err, replica.ErrMisfit) && from > 0 {
		if fork := n.contradict(ctx, r, org, head); fork != nil {
			return nil, fork
		}
	}
	return head, err
}

// contradict asks for the whole log of a head that does not continue what is held of it:
// whoever shows it to others as it is shows a past that proves the fork.
func (n *Node) contradict(ctx context.Context, r *replica.Replica, org *identity.Organization, head *identity.Checkpoint) error {
	leaves, err := n.fetchLeaves(ctx, org.ID, nil, 0, head.Size)
	if err != nil {
		return err
	}
	return r.Contradict(org, head, leaves)
}

// fetchLeaves gets leaves of a log, ours or the partner's own, page by page. How many they
// are at most was checked by Judge.
func (n *Node) fetchLeaves(ctx context.Context, at wire.OrganizationID, of []byte, from, to uint64) ([]byte, error) {
	var out []byte
	for from < to {
		want, ask := min(to-from, maxLeafPage), n.ask
		if of != nil {
			ask = n.recall
		}
		a, err := ask(ctx, at, &pb.QueryRequest{Query: &pb.QueryRequest_Leaves{Leaves: &pb.LeavesQuery{Organization: of, From: from, To: from + want}}})
		if err != nil {
			return nil, err
		}
		page := a.GetLeaves().GetLeaves()
		got := uint64(len(page) / replica.LeafLen)
		if got == 0 || got > want || len(page)%replica.LeafLen != 0 {
			return nil, fmt.Errorf("%w: %d bytes for %d leaves", replica.ErrMisfit, len(page), want)
		}
		out = append(slices.Grow(out, len(page)), page...)
		from += got
	}
	return out, nil
}
