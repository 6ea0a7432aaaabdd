package node

import (
	"context"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A node that has lost records which it had promised is recovering: what it signed last is
// not known any more, so it signs nothing, or it could be proved a liar. It serves what is
// read and destroys what is acknowledged; what is to be told waits in the store
// (told.go). Its operator ends that with --accept-loss.

// recovering reports whether records of ours are lost and nobody has dealt with that yet.
func (n *Node) recovering() bool { return n.store.Status().Recovering }

// signs returns nil when the node may make statements: agreements, records of the
// directory, revocations, places in rooms.
func (n *Node) signs() error {
	if n.recovering() {
		return wire.Refuse(pb.Code_CODE_RECOVERING, "the node has lost records and signs nothing: its operator sees more in entente node status")
	}
	if n.directoryBehind() {
		return wire.Refuse(pb.Code_CODE_RECOVERING, "the directory is behind what was signed of it: partners are asked for the rest")
	}
	return nil
}

// revokeLinks revokes every enrolment link that looks unused.
func (n *Node) revokeLinks(ctx context.Context) error {
	links, err := n.dir.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.State == "open" {
			if err := n.dir.RevokeLink(ctx, l.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
