package mailbox

import (
	"context"
	"fmt"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// wait returns nil when Fetch after the same number would hand out something; it
// subscribes before it looks, so that nothing slips between. The queue need not
// exist yet.
func (m *Mailbox) wait(ctx context.Context, key boxKey, after uint64) error {
	b := m.obtain(key)
	grown, cancel := m.store.Subscribe(b.id)
	defer cancel()
	for {
		b.mu.Lock()
		closed, from := b.closed, min(store.LSN(after), b.high)
		b.mu.Unlock()
		if closed {
			return wire.Refuse(pb.Code_CODE_REVOKED, "")
		}
		page, err := m.store.Fetch(b.id, from, 1, 1)
		if err != nil {
			return fmt.Errorf("mailbox: looking into queue %d: %w", b.id, err)
		}
		if len(page) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
		}
	}
}
