package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protojson"
)

// A partner whose root has signed two successors of one manifest has two pasts as one has
// whose directory did: the proof is kept, and the partner is in quarantine until a root that
// takes precedence has decided (docs/protocol.md 2.15).

// rootForkPrefix leads to proofs: ‖ organization ID: JSON RootFork.
const rootForkPrefix = "nd/root-fork/"

func rootForkKey(id wire.OrganizationID) []byte { return append([]byte(rootForkPrefix), id[:]...) }

// twoRoots returns the proof that is held against a partner; nil: none, or it is settled.
func (n *Node) twoRoots(id wire.OrganizationID) (*pb.RootFork, error) {
	org, known := n.partner(id)
	tip := ""
	if known {
		tip = string(org.Tip())
	}
	if was, ok := n.settled.Load(id); ok && was.(judged).tip == tip {
		return was.(judged).proof, nil
	}
	b, err := n.store.Get(rootForkKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node: a proof: %w", err)
	}
	f := &pb.RootFork{}
	if err := protojson.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("node: a proof: %w", err)
	}
	proved, err := identity.VerifyRootFork(f)
	if err != nil {
		return nil, err
	}
	if known && proved.SettledBy(org) {
		f = nil
	}
	n.settled.Store(id, judged{tip, f})
	return f, nil
}

// judged is what a proof that is held against a partner comes to under its last manifest: each
// look-up of its members asks, and two chains are long to verify. No proof: it is settled.
type judged struct {
	tip   string
	proof *pb.RootFork
}

// foundTwoRoots keeps the proof and puts the partner in quarantine.
func (n *Node) foundTwoRoots(ctx context.Context, id wire.OrganizationID, f *pb.RootFork) error {
	if had, err := n.twoRoots(id); err != nil || had != nil {
		return err // one is enough
	}
	v, err := protojson.Marshal(f)
	if err != nil {
		return fmt.Errorf("node: a proof: %w", err)
	}
	var b store.Batch
	b.Put(rootForkKey(id), v)
	if _, err := n.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return err
	}
	n.settled.Delete(id)
	n.log.Error("a partner's root has signed two manifests in one place: this is proved and kept, the partner is in quarantine", "partner", id)
	return n.fed.Quarantine(ctx, id, "its root has signed two manifests in one place: entente directory fork")
}

// HeardRoots is told of manifests that fork.
func (h *hearing) HeardRoots(about wire.OrganizationID, known, shown []string) {
	f, err := identity.ProveRootFork(about, known, shown)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.roots[about] = f
	h.mu.Unlock()
	h.wake()
}

func (a operatorAPI) ShowRootFork(_ context.Context, r *connect.Request[pb.ShowForkRequest]) (*connect.Response[pb.RootFork], error) {
	p, err := a.n.fed.Partner(r.Msg.Partner)
	if err != nil {
		return answer[pb.RootFork](nil, err)
	}
	f, err := a.n.twoRoots(p.ID)
	if err == nil && f == nil {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "the directory of %s has one past, and so has its root, as far as this node was shown them", p.Name)
	}
	return answer(f, err)
}

// newerManifests takes manifests of ours back that a partner knows and this node, restored
// from a backup, has lost. They hold from the next start on.
func (n *Node) newerManifests(o *identity.Organization) {
	n.manifests.Lock()
	defer n.manifests.Unlock()
	known, err := OpenOrganization(n.folder)
	if err == nil && slices.Equal(known.Notes, o.Notes) {
		return
	}
	if err == nil {
		if o, err = identity.Prevailing(known, o); err == nil && o == known {
			return // the operator has signed a newer one meanwhile
		}
	}
	if err == nil {
		err = replaceFile(filepath.Join(n.folder, ManifestFile), []byte(joinNotes(o.Notes)))
	}
	if err != nil {
		n.log.Error("partners know newer manifests of ours, which are not taken back", "error", err)
		return
	}
	n.stale.Store(true)
	n.log.Error("partners know newer manifests of ours: they are taken back; start the node again", "manifests", len(o.Notes))
}
