package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/entente-im/entente/store"
)

// What a restore has cost, for the operator: it stands in the log when it is found out, and
// in `node status` and `doctor` for lossShown. Rows: "nd/lost/" ‖ Unix ns uint64; value: the sentence.
const (
	lossPrefix = "nd/lost/"
	lossShown  = 7 * 24 * time.Hour
	maxLosses  = 64 // that are shown; more are in the log
)

// decisionsLost is said once with the first loss of a start: decisions are of this node alone.
const decisionsLost = "what you have decided about partners since the copy: those that you had suspended or put in quarantine, and that tell so, are so again; end anew whom you had ended, resume or release whom you had, and look at the others (entente partner list)"

// noteLoss keeps a sentence about what is lost, and logs it.
func (n *Node) noteLoss(ctx context.Context, format string, args ...any) {
	n.keepLoss(ctx, format, args...)
	if len(n.fed.Partners()) > 0 && !n.adopting.decisions.Swap(true) {
		n.keepLoss(ctx, decisionsLost)
	}
}

func (n *Node) keepLoss(ctx context.Context, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.log.Error("lost by a restore: " + text)
	var b store.Batch
	b.Put(binary.BigEndian.AppendUint64([]byte(lossPrefix), uint64(n.clock.Now().UnixNano())), []byte(text))
	if _, err := n.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		n.log.Error("what was lost is not kept for node status", "error", err)
	}
}

// losses lists what was lost lately, and drops what was shown long enough.
func (n *Node) losses() []string {
	out, old := lossesIn(n.store, n.clock.Now())
	if old.Len() > 0 {
		_, _ = n.store.Commit(context.Background(), old) // else the next look does
	}
	return out
}

// lossesIn reads what was lost lately, and what has been shown long enough.
func lossesIn(s *store.Store, now time.Time) (out []string, old *store.Batch) {
	old = new(store.Batch)
	page, err := s.Scan([]byte(lossPrefix), nil, maxLosses)
	if err != nil {
		return nil, old
	}
	for _, kv := range page {
		if len(kv.Key) != len(lossPrefix)+8 {
			continue
		}
		at := time.Unix(0, int64(binary.BigEndian.Uint64(kv.Key[len(lossPrefix):])))
		if now.Sub(at) > lossShown {
			old.Delete(kv.Key)
			continue
		}
		out = append(out, fmt.Sprintf("lost by a restore (%s): %s", at.UTC().Format("2006-01-02 15:04"), kv.Value))
	}
	return out, old
}
