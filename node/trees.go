package node

import (
	"context"
	"time"

	"github.com/entente-im/entente/wire"
)

// treeSweep is how often stored trees are looked through.
const treeSweep = time.Hour

// sweepTrees deletes trees whose Welcomes are past their deadline.
func (n *Node) sweepTrees(ctx context.Context) error {
	ticker := time.NewTicker(treeSweep)
	defer ticker.Stop()
	for {
		if err := n.dropOldTrees(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (n *Node) dropOldTrees(ctx context.Context) error {
	var after []byte
	for ctx.Err() == nil {
		page, err := n.store.Scan([]byte(treePrefix), after, 16)
		if err != nil || len(page) == 0 {
			return err
		}
		c, err := n.begin()
		if err != nil {
			return err
		}
		for _, kv := range page {
			after = kv.Key
			stored, _, ok := parseTreeRow(kv.Value)
			if !ok || n.clock.Now().Sub(stored) > wire.WelcomeDeadline {
				c.batch.Delete(kv.Key)
			}
		}
		if err := c.commit(ctx); err != nil {
			return err
		}
	}
	return nil
}
