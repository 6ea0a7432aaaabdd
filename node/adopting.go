package node

import (
	"context"
	"errors"
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
	mu     sync.Mutex  // one adoption at a time
	ahead  atomic.Bool // a partner holds more of our log than we do
	forked atomic.Bool // what a partner holds is no past of ours
}

// directoryBehind reports whether heads and records have to wait until partners have given
// back what they hold of our log. A node without partners goes on by its operator's word.
func (n *Node) directoryBehind() bool {
	if n.adopting.ahead.Load() {
		return true
	}
	return n.dir != nil && n.fed != nil && n.dir.Behind() && len(n.cosigners()) > 0
}

// checkOwn compares what a partner holds of our log with it, and takes it over when it is
// more.
func (n *Node) checkOwn(ctx context.Context, id wire.OrganizationID) error {
	head, err := n.ownAt(ctx, id)
	if err != nil || head == nil {
		return err
	}
	if err := n.dir.Fits(head); err != nil {
		if errors.Is(err, directory.ErrTwoPasts) && !n.adopting.forked.Swap(true) {
			n.log.Error("a partner holds a head of our directory that is no past of it: it can be proved to have two pasts", "partner", id)
		}
		return err
	}
	size, _, err := n.dir.Head()
	if err != nil || head.Size <= size && !n.dir.Behind() {
		return err
	}
	return n.adoptOwn(ctx)
}

// ownAt asks a partner which head of our log it holds; nil: none.
func (n *Node) ownAt(ctx context.Context, id wire.OrganizationID) (*identity.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, askOwnTime)
	defer cancel()
	a, err := n.ask(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_Head{Head: &pb.HeadQuery{Organization: n.org.ID[:]}}})
	if err != nil || a.GetHead().GetCheckpoint() == "" {
		return nil, err
	}
	return identity.VerifyHead(a.GetHead().GetCheckpoint(), n.org)
}

// adoptOwn takes over the highest log of ours that any partner holds, and puts back the
// members whose newer records are lost. Until it has, the node signs nothing.
func (n *Node) adoptOwn(ctx context.Context) error {
	n.adopting.mu.Lock()
	defer n.adopting.mu.Unlock()
	size, _, err := n.dir.Head()
	if err != nil {
		return err
	}
	holder, head := n.highestOwn(ctx, size)
	if head != nil {
		n.adopting.ahead.Store(true)
		n.log.Error("partners hold more of our directory than we do: records are lost; nothing is signed until it is taken over",
			"ours", size, "theirs", head.Size, "partner", holder)
		leaves, err := n.fetchLeaves(ctx, holder, n.org.ID[:], 0, head.Size)
		if err != nil {
			return err
		}
		if err := n.dir.Adopt(ctx, head, leaves); err != nil {
			return err
		}
		if err := n.forgetHandedOut(ctx); err != nil {
			return err
		}
	}
	n.adopting.ahead.Store(false)
	if n.recovering() {
		return nil // putting members back is signing: it waits for the operator's word
	}
	back, err := n.dir.Restore(ctx)
	if len(back) > 0 {
		n.log.Error("records of members were lost: they are as they were before, devices that came or went since have to be added or revoked again", "members", back)
	}
	return err
}

// highestOwn asks all partners that can be reached which head of our log they hold, and
// returns the highest above a size.
func (n *Node) highestOwn(ctx context.Context, above uint64) (holder wire.OrganizationID, head *identity.Checkpoint) {
	for _, p := range n.fed.Partners() {
		if p.State != "connected" && p.State != "quarantinedThere" {
			continue
		}
		h, err := n.ownAt(ctx, p.ID)
		if err != nil {
			n.log.Warn("a partner does not say what it holds of our directory", "partner", p.ID, "error", err)
			continue
		}
		if h != nil && h.Size > above {
			holder, head, above = p.ID, h, h.Size
		}
	}
	return holder, head
}

// forgetHandedOut voids what may have been handed out or used before the loss: never twice.
func (n *Node) forgetHandedOut(ctx context.Context) error {
	return errors.Join(n.dir.DeleteKeyPackages(ctx), n.revokeLinks(ctx), n.fed.ForgetTokens(ctx))
}
