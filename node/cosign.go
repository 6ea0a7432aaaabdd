package node

import (
	"context"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// cosign says that this node has recomputed a partner's log up to a head, and hands that to
// the partner. The mark is on stable storage before the signature exists; a recovering node
// signs nothing. What the partner shows already is not signed again before it is old.
func (n *Node) cosign(ctx context.Context, r *replica.Replica, id wire.OrganizationID, head *identity.Checkpoint, shown string) error {
	if n.signs() != nil {
		return nil
	}
	us := identity.CosignerOf(n.org)
	now := n.clock.Now()
	if have, err := identity.Cosignatures(shown, []identity.Cosigner{us}); err == nil && len(have) == 1 {
		if age := now.Sub(have[0].At); age >= 0 && age < cosignAgain {
			return nil
		}
	}
	if err := r.Mark(ctx, head); err != nil {
		return err
	}
	signed, err := identity.Cosign(head, us.Owner, n.cosignerKey, now)
	if err != nil {
		return err
	}
	_, err = n.ask(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_Cosigned{Cosigned: &pb.CosignedQuery{Checkpoint: signed}}})
	return err
}
