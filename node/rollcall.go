package node

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// The roll call: before a node goes on with its directory's log it hears from every partner
// what that partner holds of it (docs/protocol.md 2.14). A folder that was set back
// whole does not know that it was; the one partner that does may be the slow one.

const (
	// startWait is how long a node that knows of no loss waits for its partners after a
	// start, before it adds to its log. Changes wait along; nothing is refused.
	startWait = 10 * time.Second
	// lossWait is how long a node that knows of a loss waits for the partners that do not
	// answer. Its operator may end that with --accept-loss.
	lossWait = 10 * time.Minute
	// rollPause is the time between two questions to partners that have not answered.
	rollPause = time.Second
)

// rollcall is who has said what it holds of our log, since a start or since a loss was
// noticed.
type rollcall struct {
	mu    sync.Mutex
	until time.Time                                    // who has not answered by then is not waited for
	held  map[wire.OrganizationID]*identity.Checkpoint // the answers; nil: it holds nothing of ours
	over  chan struct{}                                // closed when it is complete, or its time is over
	ended bool
}

// begin begins anew: nobody has answered.
func (r *rollcall) begin(wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.over == nil {
		r.over = make(chan struct{})
	}
	r.until, r.held, r.ended = time.Now().Add(wait), make(map[wire.OrganizationID]*identity.Checkpoint), false
}

// answered notes what a partner holds.
func (r *rollcall) answered(id wire.OrganizationID, head *identity.Checkpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != nil {
		r.held[id] = head
	}
}

// missing lists those of some partners who have not answered.
func (r *rollcall) missing(of []wire.OrganizationID) (out []wire.OrganizationID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range of {
		if _, ok := r.held[id]; !ok {
			out = append(out, id)
		}
	}
	return out
}

// best is the highest head above a size that any of some partners has answered with, and all
// who have: of several each may be the one that has the leaves.
func (r *rollcall) best(above uint64, of []wire.OrganizationID) (holders []wire.OrganizationID, head *identity.Checkpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range of {
		switch h := r.held[id]; {
		case h == nil:
		case h.Size > above:
			holders, head, above = []wire.OrganizationID{id}, h, h.Size
		case head != nil && h.Size == head.Size && h.Root == head.Root:
			holders = append(holders, id)
		}
	}
	return holders, head
}

// judge ends the call when nobody is missing or its time is over, and reports whether it
// has ended.
func (r *rollcall) judge(missing int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended && (missing == 0 || !time.Now().Before(r.until)) {
		r.ended = true
		close(r.over)
	}
	return r.ended
}

// end ends the call, by the operator's word.
func (r *rollcall) end() {
	r.mu.Lock()
	r.until = time.Time{}
	r.mu.Unlock()
	r.judge(0)
}

// wait returns what is closed when the call has ended.
func (r *rollcall) wait() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

// voters are the partners that may hold something of our log: all but former ones. Whether
// an agreement is in force today is not asked: a clock that was set says nothing about what
// a partner has seen.
func (n *Node) voters() []wire.OrganizationID {
	var out []wire.OrganizationID
	for _, p := range n.fed.Partners() {
		if p.State != "ended" {
			out = append(out, p.ID)
		}
	}
	return out
}

// called reports whether the roll call has ended.
func (n *Node) called() bool { return n.adopting.roll.judge(len(n.adopting.roll.missing(n.voters()))) }

// records waits for the roll call and returns nil when the node may add to its directory's
// log. Callers add at once.
func (n *Node) records(ctx context.Context) error {
	if !n.recovering() && !n.directoryBehind() && !n.called() {
		late := time.NewTimer(startWait)
		defer late.Stop()
		select {
		case <-late.C:
			n.called()
		case <-n.adopting.roll.wait():
		case <-n.stopping.Done():
			return wire.Refuse(pb.Code_CODE_SHUTTING_DOWN, "")
		case <-ctx.Done():
			return wire.Refuse(pb.Code_CODE_RECOVERING, "partners are asked what they hold of the directory")
		}
	}
	return n.signs()
}

// callPartners asks the partners that have not answered, until ctx ends; while the node is
// behind it takes over what they hold.
func (n *Node) callPartners(ctx context.Context) error {
	ticker := time.NewTicker(rollPause)
	defer ticker.Stop()
	owed := n.dir.Behind() || n.dir.Owes() // also when nobody has answered in time: members are put back
	for {
		behind := n.directoryBehind()
		owed = owed || behind
		if behind || !n.called() || !n.placesCalled() {
			n.askMissing(ctx)
		}
		n.settlePlaces(ctx)
		if owed || n.adopting.again.Load() {
			err := n.adoptOwn(ctx)
			if err != nil && ctx.Err() == nil {
				n.log.Warn("our directory's log is not taken back yet", "error", err)
			}
			owed = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// askMissing asks every partner that has not answered what it holds of our log, all at
// once: a slow one holds up no other.
func (n *Node) askMissing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askOwnTime)
	defer cancel()
	var wg sync.WaitGroup
	missing := append(n.adopting.roll.missing(n.voters()), n.missingPlaces()...)
	slices.SortFunc(missing, func(a, b wire.OrganizationID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(missing) {
		wg.Go(func() {
			if err := n.checkOwn(ctx, id); err != nil && ctx.Err() == nil {
				n.log.Debug("a partner has not said what it holds of our directory", "partner", id, "error", err)
			}
		})
	}
	wg.Wait()
	n.called()
}
