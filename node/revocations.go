package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Revocations of devices of ours that are under way: "nd/gone/" ‖ device ID, the note
// as value. The row is written before the directory changes and goes when every room
// has been told, so that a crash between the two leaves nobody in a room.
const gonePrefix = "nd/gone/"

func goneKey(d wire.DeviceID) []byte { return append([]byte(gonePrefix), d[:]...) }

// revoke records a revocation in the directory and follows it up. When it returns
// nil the device is gone from the directory, and every hub of a room with its leaf is
// told; what failed is done again every minute, and at the next start. It returns how many rooms those
// are.
func (n *Node) revoke(ctx context.Context, note string, r *identity.Revocation) (int, error) {
	n.underway.Store(r.Device, true) // the caller follows it up, and counts
	defer n.underway.Delete(r.Device)
	var b store.Batch
	b.Put(goneKey(r.Device), []byte(note))
	if _, err := n.store.Commit(ctx, &b); err != nil {
		return 0, fmt.Errorf("node: revoking: %w", err)
	}
	n.leaving.Store(r.Device, true)
	n.gate.End(r.Device)
	if err := n.records(ctx); err != nil { // it is followed up once the node has recovered
		return 0, err
	}
	return n.followUp(ctx, note, r)
}

func (n *Node) followUp(ctx context.Context, note string, r *identity.Revocation) (count int, err error) {
	n.revoking.Lock()
	defer n.revoking.Unlock()
	err = n.dir.RevokeDevice(ctx, note)
	if err == nil {
		if count, err = n.removeEverywhere(ctx, r, note); err != nil {
			return count, err
		}
	} else if wire.ClassOf(wire.StatusOf(err).Code) == wire.Temporary {
		return 0, err
	}
	n.leaving.Delete(r.Device)
	// Done, or not a revocation that stands.
	var b store.Batch
	b.Delete(goneKey(r.Device))
	if err == nil {
		b.Delete(seenKey(r.Device))
	}
	_, e := n.store.Commit(ctx, &b)
	return count, errors.Join(err, e)
}

// revocationRetry is how often revocations that were not told everywhere are followed up.
const revocationRetry = time.Minute

// retryRevocations follows up revocations that a partner or a room has refused for now: a
// revoked device must not stay in a room because of a moment in which it was not told.
func (n *Node) retryRevocations(ctx context.Context) error {
	ticker := time.NewTicker(revocationRetry)
	defer ticker.Stop()
	if n.records(ctx) == nil { // those that a crash has left, once partners were heard
		if err := n.finishRevocations(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("revocations wait", "error", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := n.finishRevocations(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("revocations wait", "error", err)
		}
	}
}

// finishRevocations follows up what a crash or a full outbox has left. A node that is
// recovering orders nothing: it does so at its next start.
func (n *Node) finishRevocations(ctx context.Context) error {
	if n.signs() != nil {
		return nil
	}
	var after []byte
	for {
		page, err := n.store.Scan([]byte(gonePrefix), after, 100)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, kv := range page {
			after = kv.Key
			note := string(kv.Value)
			r, err := identity.ReadRevocation(note)
			if err != nil {
				return fmt.Errorf("node: a stored revocation: %w", err)
			}
			if _, busy := n.underway.Load(r.Device); busy {
				continue
			}
			n.leaving.Store(r.Device, true)
			if m, err := n.dir.Get(r.Member); err == nil && m.Devices[r.Device] != nil && !n.called() {
				continue // it adds to the log: retryRevocations does so once partners were heard
			}
			if _, err := n.followUp(ctx, note, r); err != nil {
				n.log.Error("a revocation was not told everywhere", "device", r.Device, "error", err)
			}
		}
	}
}
