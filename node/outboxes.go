package node

import (
	"context"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// outboxes are the mailbox's partner queues as federation wants them.
type outboxes struct{ mail *mailbox.Mailbox }

// List implements federation.Outbox.
func (o outboxes) List(org wire.OrganizationID, after uint64, n int) ([]federation.Listed, error) {
	list, err := o.mail.Outbox(org).List(context.Background(), after, n)
	out := make([]federation.Listed, len(list))
	for i, l := range list {
		out[i] = federation.Listed(l)
	}
	return out, err
}

// Open implements federation.Outbox.
func (o outboxes) Open(org wire.OrganizationID, numbers []uint64) ([]*pb.Item, error) {
	entries, err := o.mail.Outbox(org).Open(context.Background(), numbers)
	if err != nil {
		return nil, err
	}
	items := make([]*pb.Item, 0, len(entries))
	for _, e := range entries {
		if e.Err != nil {
			// A damaged copy cannot be sent: empty, it is refused as malformed, and settled.
			e.Item = &pb.Item{Number: e.Number}
		}
		items = append(items, e.Item)
	}
	return items, nil
}

// Settle implements federation.Outbox.
func (o outboxes) Settle(ctx context.Context, org wire.OrganizationID, settled []federation.Settlement) error {
	list := make([]mailbox.Settlement, len(settled))
	for i, s := range settled {
		list[i] = mailbox.Settlement{Number: s.Number, Status: s.Status}
	}
	return o.mail.Outbox(org).Settle(ctx, list)
}

// Refuse implements federation.Outbox.
func (o outboxes) Refuse(ctx context.Context, org wire.OrganizationID, status *pb.Status) error {
	_, err := o.mail.Outbox(org).Drop(ctx, status, false)
	return err
}

// Wait implements federation.Outbox.
func (o outboxes) Wait(ctx context.Context, org wire.OrganizationID, after uint64) error {
	return o.mail.Outbox(org).Wait(ctx, after)
}
