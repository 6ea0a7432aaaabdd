package node

import (
	"context"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
)

// clockLook is how often a held clock is compared with the partners'.
const clockLook = 10 * time.Second

// watchClock ends a hold of the store's clock when partners agree with this machine:
// the median of their clocks is within wire.ClockTolerance of ours. A node without
// partners waits for the store's own limit, or its operator sets trust-clock.
func (n *Node) watchClock(ctx context.Context) error {
	ticker := time.NewTicker(clockLook)
	defer ticker.Stop()
	for {
		if n.store.Status().ClockHeld && clockAgrees(n.fed.ClockOffsets()) {
			n.store.AgreeClock(n.clock.Now())
			n.log.Warn("the clock had jumped; partners agree with it now, so expiry goes on")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// clockAgrees reports whether the median of the partners' offsets is small.
func clockAgrees(offsets []time.Duration) bool {
	if len(offsets) == 0 {
		return false
	}
	slices.Sort(offsets)
	return offsets[len(offsets)/2].Abs() <= wire.ClockTolerance
}

// eraseRevoked empties the mailboxes of revoked devices again: a delivery that was
// staged before a revocation and committed after it may have outlived a crash.
func (n *Node) eraseRevoked(ctx context.Context) error {
	for _, m := range n.dir.Members() {
		for _, d := range m.Revoked {
			if err := n.mail.Erase(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}
