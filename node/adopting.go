package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A node that was set back finds its directory's log behind what its partners hold of it
// (docs/protocol.md 2.14). It signs nothing until it has taken over the highest of what
// they hold, and never accuses itself.

// askOwnTime bounds the question to one partner.
const askOwnTime = 10 * time.Second

// adopting is what a node knows of its own log from others.
type adopting struct {
	mu        sync.Mutex // one adoption at a time
	roll      rollcall
	again     atomic.Bool                  // revocations that partners were told of are still to be asked for; durable
	told      map[wire.OrganizationID]bool // those that have answered that; of mu
	askAt     time.Time                    // when the others are asked again; of mu
	word      bool                         // the operator's --accept-loss: nobody is waited for
	ahead     atomic.Bool                  // a partner holds more of our log than we do
	forgot    atomic.Bool                  // what was handed out is void, since this start
	decisions atomic.Bool                  // it was said that decisions about partners may be lost
	forked    atomic.Bool                  // what a partner holds is no past of ours
}

// errNotCalled says that partners are waited for.
var errNotCalled = errors.New("node: partners are asked what they hold of the directory")

// directoryBehind reports whether heads and records have to wait until partners have given
// back what they hold of our log. A node without partners goes on by its operator's word.
func (n *Node) directoryBehind() bool {
	if n.adopting.ahead.Load() || n.adopting.forked.Load() {
		return true
	}
	return n.dir != nil && n.fed != nil && n.dir.Behind() && len(n.voters()) > 0 && !n.called()
}

// startRoll begins the roll call of a start.
func (n *Node) startRoll(acceptLoss bool) error {
	wait := startWait
	if n.dir.Behind() || n.recovering() {
		wait = lossWait
	}
	n.startPlaces(map[bool]time.Duration{true: startWait, false: wait}[acceptLoss], acceptLoss)
	n.adopting.word = acceptLoss
	n.adopting.roll.begin(wait)
	if acceptLoss {
		n.adopting.roll.end()
	}
	return n.loadAgain()
}

// noticeLoss begins the roll call anew, once: a partner holds more of our log than we do.
func (n *Node) noticeLoss(holder wire.OrganizationID, ours, theirs uint64) {
	if n.adopting.ahead.Swap(true) {
		return
	}
	n.log.Error("partners hold more of our directory than we do: records are lost; nothing is signed until it is taken over",
		"ours", ours, "theirs", theirs, "partner", holder)
	n.adopting.roll.begin(lossWait)
	n.placing.reopen(lossWait)
	if n.adopting.word {
		n.adopting.roll.end()
	}
}

// checkOwn compares what a partner holds of our log with it, and takes it over when it is
// more and all partners have said what they hold.
func (n *Node) checkOwn(ctx context.Context, id wire.OrganizationID) error {
	head, err := n.ownAt(ctx, id)
	if err == nil {
		err = n.askPlaces(ctx, id)
	}
	if err == nil {
		err = n.confirmAgreement(ctx, id)
	}
	if err != nil {
		return err
	}
	if head == nil {
		n.adopting.roll.answered(id, nil)
		return nil
	}
	if err := n.dir.Fits(head); err != nil {
		if errors.Is(err, directory.ErrTwoPasts) && !n.adopting.forked.Swap(true) {
			n.log.Error("a partner holds a head of our directory that is no past of it: it can be proved to have two pasts", "partner", id)
		}
		return err
	}
	size, _, err := n.dir.Head()
	if err == nil && head.Size > size {
		n.noticeLoss(id, size, head.Size)
	}
	n.adopting.roll.answered(id, head)
	if err != nil || head.Size <= size && !n.dir.Behind() {
		return err
	}
	if err := n.adoptOwn(ctx); !errors.Is(err, errNotCalled) {
		return err
	}
	return nil // callPartners goes on with it
}

// confirmAgreement has a partner say which agreement is in force there. What the two do not
// agree about is no reason to wait: nothing is signed with that partner until it is settled.
func (n *Node) confirmAgreement(ctx context.Context, id wire.OrganizationID) error {
	err := n.fed.Confirm(ctx, id)
	if err == nil || wire.ClassOf(wire.StatusOf(err).Code) == wire.Temporary || ctx.Err() != nil {
		return err
	}
	n.log.Warn("which agreement is in force at a partner is not settled", "partner", id, "error", err)
	return nil
}

// ownAt asks a partner which head of our log it holds; nil: none.
func (n *Node) ownAt(ctx context.Context, id wire.OrganizationID) (*identity.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, askOwnTime)
	defer cancel()
	a, err := n.recall(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_Head{Head: &pb.HeadQuery{Organization: n.org.ID[:]}}})
	if err != nil || a.GetHead().GetCheckpoint() == "" {
		return nil, err
	}
	head, err := identity.VerifyHead(a.GetHead().GetCheckpoint(), n.org)
	if err != nil || head.Log != n.org.Manifest.Log() { // it does not follow the log that an incident has begun yet
		return nil, err
	}
	return head, nil
}

// adoptOwn takes over the highest log of ours that any partner holds, once all have said
// what they do or were waited for long enough, and puts back the members whose newer
// records are lost. Until it has, the node signs nothing.
func (n *Node) adoptOwn(ctx context.Context) error {
	if !n.adopting.mu.TryLock() { // it is held over questions to partners
		return fmt.Errorf("%w: it is being taken back", errNotCalled)
	}
	defer n.adopting.mu.Unlock()
	if n.adopting.forked.Load() {
		return directory.ErrTwoPasts
	}
	partners := n.voters()
	missing := n.adopting.roll.missing(partners)
	if !n.adopting.roll.judge(len(missing)) {
		return fmt.Errorf("%w: %d of %d have answered", errNotCalled, len(partners)-len(missing), len(partners))
	}
	size, _, err := n.dir.Head()
	if err != nil {
		return err
	}
	if holders, head := n.adopting.roll.best(size, partners); head != nil {
		strangers := n.dir.Strangers()
		if err := n.takeBack(ctx, holders, head); err != nil {
			return err
		}
		n.noteLoss(ctx, "%d entries of the directory's log, which were taken back without their records", head.Size-size)
		if came := n.dir.Strangers() - strangers; came > 0 {
			n.noteLoss(ctx, "%d members who had come since the copy: they enrol anew (entente member add)", came)
		}
		n.log.Error("records lost: the directory's log was taken back from partners", "from", size, "to", head.Size,
			"heard", len(partners)-len(missing), "partners", len(partners))
	}
	n.adopting.ahead.Store(false)
	if n.recovering() {
		return nil // putting members back is signing: it waits for the operator's word
	}
	back, err := n.dir.Restore(ctx)
	if len(back) > 0 {
		n.log.Error("records of members were lost: they are as they were before, devices that came or went since have to be added or revoked again", "members", back)
		n.noteLoss(ctx, "what changed of %s since the copy: devices that came or went have to be added or revoked again", strings.Join(back, ", "))
	}
	if err != nil || !n.adopting.again.Load() {
		return err
	}
	return n.revokeAgain(ctx)
}

// ownLeaves gets the leaves of a head of ours from one of the partners that hold it: one that
// is slow, or hands out others, keeps nobody from asking the next.
func (n *Node) ownLeaves(ctx context.Context, holders []wire.OrganizationID, head *identity.Checkpoint) ([]byte, error) {
	var failed []error
	for _, id := range holders {
		ctx, cancel := context.WithTimeout(ctx, followTime)
		leaves, err := n.fetchLeaves(ctx, id, n.org.ID[:], 0, head.Size)
		cancel()
		if err == nil {
			err = directory.Hashes(leaves, head)
		}
		if err == nil {
			return leaves, nil
		}
		failed = append(failed, fmt.Errorf("node: what partner %s holds: %w", id, err))
	}
	return nil, errors.Join(failed...)
}

// takeBack takes over what partners hold of our log, and voids what may have been handed
// out after the copy that this node was restored from.
func (n *Node) takeBack(ctx context.Context, holders []wire.OrganizationID, head *identity.Checkpoint) error {
	leaves, err := n.ownLeaves(ctx, holders, head)
	if err != nil {
		return err
	}
	// Before the log is taken over: a crash after that finds it whole, and has still to ask
	// for revocations.
	if err := n.askAgain(ctx); err != nil {
		return err
	}
	// A crash between the two finds the log behind again.
	if err := n.forgetHandedOut(ctx); err != nil {
		return err
	}
	err = n.dir.Adopt(ctx, head, leaves)
	if errors.Is(err, directory.ErrTwoPasts) {
		n.adopting.forked.Store(true)
	}
	return err
}

// forgetHandedOut voids what may have been handed out or used before the loss: never twice.
func (n *Node) forgetHandedOut(ctx context.Context) error {
	return errors.Join(n.dir.DeleteKeyPackages(ctx), n.revokeLinks(ctx), n.fed.ForgetTokens(ctx), n.fed.RaiseIncarnation(ctx))
}
