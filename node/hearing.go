package node

import (
	"context"
	"errors"
	"sync"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What the network of heads says of partners' logs and of ours (docs/protocol.md 5.12). All
// of it was verified as signed; it is compared with the copies that this node has.

// maxHeard bounds the heads of one log that wait to be looked at: more than a burst of
// several who tell of it.
const maxHeard = 64

// hearing is a federation.Hearing: it keeps what was heard until hearHeads looks at it.
type hearing struct {
	mu    sync.Mutex
	heads map[wire.OrganizationID][]*identity.Checkpoint
	forks map[wire.OrganizationID]*pb.Fork
	roots map[wire.OrganizationID]*pb.RootFork
	kick  chan struct{} // one place
}

func newHearing() *hearing {
	return &hearing{heads: make(map[wire.OrganizationID][]*identity.Checkpoint), forks: make(map[wire.OrganizationID]*pb.Fork), roots: make(map[wire.OrganizationID]*pb.RootFork), kick: make(chan struct{}, 1)}
}

// HeardHead implements federation.Hearing. Who lies about its log cannot push out what
// another has told of it: one that finds no room is heard when it is told again.
func (h *hearing) HeardHead(about wire.OrganizationID, head *identity.Checkpoint) bool {
	h.mu.Lock()
	room := len(h.heads[about]) < maxHeard
	if room {
		h.heads[about] = append(h.heads[about], head)
	}
	h.mu.Unlock()
	h.wake()
	return room
}

// HeardFork implements federation.Hearing.
func (h *hearing) HeardFork(about wire.OrganizationID, fork *pb.Fork) {
	h.mu.Lock()
	h.forks[about] = fork
	h.mu.Unlock()
	h.wake()
}

func (h *hearing) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// take returns all that waits.
func (h *hearing) take() (map[wire.OrganizationID][]*identity.Checkpoint, map[wire.OrganizationID]*pb.Fork, map[wire.OrganizationID]*pb.RootFork) {
	h.mu.Lock()
	defer h.mu.Unlock()
	heads, forks, roots := h.heads, h.forks, h.roots
	h.heads, h.forks, h.roots = make(map[wire.OrganizationID][]*identity.Checkpoint), make(map[wire.OrganizationID]*pb.Fork), make(map[wire.OrganizationID]*pb.RootFork)
	return heads, forks, roots
}

// hearHeads looks at what was heard, until ctx ends.
func (n *Node) hearHeads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.heard.kick:
		}
		heads, forks, roots := n.heard.take()
		for id, f := range roots {
			if err := n.foundTwoRoots(ctx, id, f); err != nil && ctx.Err() == nil {
				n.log.Error("a proof of two manifests in one place is not kept", "partner", id, "error", err)
			}
		}
		for id, fork := range forks {
			n.heedFork(ctx, id, fork)
		}
		for id, list := range heads {
			for _, head := range list {
				if err := n.heed(ctx, id, head); err != nil && ctx.Err() == nil {
					n.log.Warn("a head that was heard of is not compared", "partner", id, "error", err)
				}
			}
		}
	}
}

// heed compares a head that somebody else was shown with our copy. One that goes further
// has the log's owner asked.
func (n *Node) heed(ctx context.Context, id wire.OrganizationID, head *identity.Checkpoint) error {
	if id == n.org.ID {
		return n.heedOwn(head)
	}
	org, ok := n.partner(id)
	r, err := n.replicas.of(id)
	if !ok || err != nil || r.Forked() != nil {
		return err
	}
	if head.Log != r.State().Log {
		return nil // of a log that has ended; or of one that follow turns to
	}
	from, behind, err := r.Judge(org, head)
	var fork *replica.ForkError
	switch {
	case errors.As(err, &fork):
		return n.foundFork(ctx, id, r, fork)
	case err != nil || behind || from == head.Size:
		return err
	}
	n.replicas.longer(id, head)
	return nil
}

// heedOwn compares what others have of our own log with what we have: a head beyond ours
// was signed with our key, by a past of this node that it has lost, or by somebody else.
func (n *Node) heedOwn(head *identity.Checkpoint) error {
	size, root, err := n.dir.Head()
	if err != nil || head.Log != n.org.Manifest.Log() || head.Size < size || head.Size == size && head.Root == root {
		return err
	}
	for _, p := range n.fed.Partners() { // somebody holds it: follow asks who
		n.replicas.due(p.ID)
	}
	return nil
}

// heedFork takes a proof that somebody else has made.
func (n *Node) heedFork(ctx context.Context, id wire.OrganizationID, fork *pb.Fork) {
	org := n.org
	if id != n.org.ID {
		var ok bool
		if org, ok = n.partner(id); !ok {
			return
		}
	}
	// The proof has the manifests of when it was made: an incident may have ended its log since.
	if proved, err := identity.VerifyFork(fork); err != nil || proved.Older.Log != org.Manifest.Log() {
		return
	}
	if id == n.org.ID {
		n.log.Error("others hold a proof that our directory has two pasts: see docs/directory.md, and entente organization incident")
		return
	}
	r, err := n.replicas.of(id)
	if err == nil && r.Forked() == nil {
		err = n.foundFork(ctx, id, r, &replica.ForkError{Proof: fork})
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("a proof of a fork is not kept", "partner", id, "error", err)
	}
}

// foundFork keeps the proof that a partner's log has two pasts, and tells others.
func (n *Node) foundFork(ctx context.Context, id wire.OrganizationID, r *replica.Replica, fork *replica.ForkError) error {
	n.log.Error("a partner's directory has two pasts: this is proved and kept, the partner is in quarantine", "partner", id)
	return errors.Join(r.Refuse(ctx, fork, n.clock.Now()), n.fed.TellFork(id, fork.Proof),
		n.fed.Quarantine(ctx, id, "its directory has shown two pasts: entente directory fork"))
}

// believes refuses what a partner says of its members from the proof on that its directory
// has two pasts.
func (n *Node) believes(id wire.OrganizationID, q *pb.QueryRequest) error {
	switch q.Query.(type) {
	case *pb.QueryRequest_Resolve, *pb.QueryRequest_Claim, *pb.QueryRequest_Chain:
	default:
		return nil
	}
	r, err := n.replicas.of(id)
	if err == nil && r.Forked() != nil {
		err = wire.Refuse(pb.Code_CODE_QUARANTINED, "its directory has shown two pasts, which is proved")
	}
	if err == nil {
		var f *pb.RootFork
		if f, err = n.twoRoots(id); f != nil {
			err = wire.Refuse(pb.Code_CODE_QUARANTINED, "its root has signed two manifests in one place, which is proved")
		}
	}
	return err
}

// tellOwn tells the network of our own head, and reports whether it did: once a partner has
// cosigned it, for then somebody has its leaves. A head that many have heard of and whose
// leaves are lost with this node's disk could never be continued.
func (n *Node) tellOwn() bool {
	head, err := n.ownHead()
	if err == nil && head == nil {
		return false
	}
	if err == nil {
		got, _ := identity.Cosignatures(head.Note, n.cosigners())
		if len(got) == 0 {
			return false
		}
		err = n.fed.TellHead(head)
	}
	if err != nil && wire.StatusOf(err).Code != pb.Code_CODE_RECOVERING {
		n.log.Warn("our directory's head is not told", "error", err)
	}
	return err == nil
}

// tellCopies tells the network, after a start, of the heads that this node holds of partners'
// logs: their owners may be away, or have shown others something else.
func (n *Node) tellCopies() {
	for _, p := range n.fed.Partners() {
		org, ok := n.partner(p.ID)
		r, err := n.replicas.of(p.ID)
		if !ok || err != nil || r.State().Head == "" {
			continue
		}
		if fork := r.Forked(); fork != nil {
			if err := n.fed.TellFork(p.ID, fork); err != nil {
				n.log.Warn("a proof of two pasts is not told", "partner", p.ID, "error", err)
			}
		}
		head, err := identity.VerifyHead(r.State().Head, org)
		if err == nil {
			err = n.fed.TellHead(head)
		}
		if err != nil {
			n.log.Warn("a partner's head is not told", "partner", p.ID, "error", err)
		}
	}
}
