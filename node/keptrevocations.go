package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What partners have told this node of revoked devices of theirs is kept for them: a partner
// that is restored from a backup would take the devices for active again (docs/protocol.md
// 2.14). Rows: "nd/kept/" ‖ organization ID ‖ device ID, the note as value.
const keptPrefix = "nd/kept/"

const (
	// maxKeptRevocations bounds what is kept for one partner: 4 MB at most.
	maxKeptRevocations = 4_096
	// revocationPage is the most of one answer.
	revocationPage = 256
)

func keptKey(of wire.OrganizationID) []byte { return append([]byte(keptPrefix), of[:]...) }

// keepRevocation adds a partner's verified revocation to a change. Of too many the rest is
// not kept: it is the partner's own loss.
func (c *change) keepRevocation(r *identity.Revocation, note []byte) error {
	key := append(keptKey(r.Organization), r.Device[:]...)
	if _, err := c.n.store.Get(key); err == nil || !errors.Is(err, store.ErrNotFound) {
		return err
	}
	page, err := c.n.store.Scan(keptKey(r.Organization), nil, maxKeptRevocations)
	if err != nil || len(page) >= maxKeptRevocations {
		return err
	}
	c.batch.Put(key, note)
	return nil
}

// revocationsFor answers a partner with what it has told us itself.
func (n *Node) revocationsFor(from wire.OrganizationID, q *pb.RevocationsQuery) (*pb.RevocationsAnswer, error) {
	prefix := keptKey(from)
	var after []byte
	if len(q.After) > 0 {
		device, err := wire.Bytes32(q.After)
		if err != nil {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a device ID of %d bytes", len(q.After))
		}
		after = append(bytes.Clone(prefix), device[:]...)
	}
	page, err := n.store.Scan(prefix, after, revocationPage)
	if err != nil {
		return nil, err
	}
	a := &pb.RevocationsAnswer{}
	for _, kv := range page {
		a.Notes = append(a.Notes, string(kv.Value))
		if len(page) == revocationPage {
			a.Last = bytes.Clone(kv.Key[len(prefix):])
		}
	}
	return a, nil
}

// forgetKept deletes what is kept for a former partner.
func (n *Node) forgetKept(ctx context.Context, of wire.OrganizationID) error {
	page, err := n.store.Scan(keptKey(of), nil, maxKeptRevocations)
	if err != nil || len(page) == 0 {
		return err
	}
	var b store.Batch
	for _, kv := range page {
		b.Delete(kv.Key)
	}
	_, err = n.store.Commit(context.WithoutCancel(ctx), &b)
	return err
}

// againKey says that revocations may have been lost here and partners are to be asked for
// them, until all in force have answered. Its value is empty.
var againKey = []byte("nd/again")

// againPause is the time between two questions to partners that have not told which
// revocations they know.
const againPause = 30 * time.Second

// askAgain notes durably that partners have to be asked for revocations.
func (n *Node) askAgain(ctx context.Context) error {
	var b store.Batch
	b.Put(againKey, nil)
	if _, err := n.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return err
	}
	n.adopting.told, n.adopting.askAt = make(map[wire.OrganizationID]bool), time.Time{}
	n.adopting.again.Store(true)
	return nil
}

// loadAgain continues after a start what askAgain has noted.
func (n *Node) loadAgain() error {
	_, err := n.store.Get(againKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	n.adopting.told = make(map[wire.OrganizationID]bool)
	n.adopting.again.Store(true)
	return err
}

// revokeAgain revokes the devices whose revocations were lost here and are known to partners:
// each note is checked anew, so that nobody has a device revoked that we did not revoke.
// Partners that do not answer are asked again later. Its caller holds adopting.mu.
func (n *Node) revokeAgain(ctx context.Context) error {
	if time.Now().Before(n.adopting.askAt) {
		return nil
	}
	n.adopting.askAt = time.Now().Add(againPause)
	var failed []error
	for _, id := range n.voters() {
		if n.adopting.told[id] {
			continue
		}
		count, err := n.revokeAgainFrom(ctx, id)
		if count > 0 {
			n.log.Error("records lost: devices are revoked again, as this partner was told", "partner", id, "devices", count)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("node: partner %s: %w", id, err))
			continue
		}
		n.adopting.told[id] = true
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	var b store.Batch
	b.Delete(againKey)
	if _, err := n.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return err
	}
	n.adopting.again.Store(false)
	return nil
}

func (n *Node) revokeAgainFrom(ctx context.Context, id wire.OrganizationID) (count int, err error) {
	var after []byte
	for range maxKeptRevocations/revocationPage + 1 {
		a, err := n.recall(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_Revocations{Revocations: &pb.RevocationsQuery{After: after}}})
		if err != nil {
			return count, err
		}
		notes := a.GetRevocations().GetNotes()
		for _, note := range notes[:min(len(notes), revocationPage)] {
			did, err := n.revokeOneAgain(ctx, note)
			if err != nil {
				return count, err
			}
			if did {
				count++
			}
		}
		if after = a.GetRevocations().GetLast(); len(after) == 0 {
			break
		}
	}
	return count, nil
}

// revokeOneAgain follows one note up when it stands and its device is active here.
func (n *Node) revokeOneAgain(ctx context.Context, note string) (bool, error) {
	if len(note) > wire.MaxNote {
		return false, nil
	}
	r, err := identity.ReadRevocation(note)
	if err != nil || r.Organization != n.org.ID || !n.active(r.Device) {
		return false, nil
	}
	member, err := n.dir.Get(r.Member)
	if err != nil {
		return false, nil
	}
	if _, err := identity.VerifyRevocation(note, n.org, member); err != nil {
		return false, nil
	}
	_, err = n.revoke(ctx, note, r)
	return err == nil, err
}
