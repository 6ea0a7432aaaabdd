package federation

import (
	"context"
	"fmt"
)

// The incarnation of this node's numbers is the manifest's, or the one that it was raised to
// when records were lost: the row fd/incarnation. A raised one is the time in seconds, or
// one more than the last: higher than any that a lost tail may have had.

const incarnationKey = "fd/incarnation"

// incarnationRecord is the row.
type incarnationRecord struct {
	Version     int    `json:"version"`
	Incarnation uint64 `json:"incarnation"`
}

// loadIncarnation reads which incarnation this node is at.
func (f *Federation) loadIncarnation() error {
	var rec incarnationRecord
	if _, err := f.get([]byte(incarnationKey), &rec); err != nil {
		return err
	}
	f.incarnation.Store(max(f.opts.Incarnation, rec.Incarnation))
	return nil
}

// Incarnation is that of the numbers of what is sent now.
func (f *Federation) Incarnation() uint64 { return f.incarnation.Load() }

// incarnationAhead bounds how far beyond the time a partner can have us raise ours, in seconds:
// no partner uses up the numbers that there are.
const incarnationAhead = 30 * 24 * 3_600

// surpass raises the incarnation above one that a partner has met, where this node knows of a
// loss and has raised its own: it was set back twice, and its clock in between. One that
// knows of none stays refused: it may be a copy whose other runs elsewhere.
func (f *Federation) surpass(known uint64) error {
	f.making.Lock()
	defer f.making.Unlock()
	now := uint64(max(f.clock.Now().Unix(), 0))
	own := f.incarnation.Load()
	if own <= f.opts.Incarnation || known < own || known > now+incarnationAhead {
		return nil
	}
	if err := f.put(context.Background(), []byte(incarnationKey), incarnationRecord{recordVersion, known + 1}); err != nil {
		return fmt.Errorf("federation: a higher incarnation: %w", err)
	}
	f.incarnation.Store(known + 1)
	f.log.Warn("a partner has met a later incarnation of this node: it is raised above that", "incarnation", known+1)
	return nil
}

// RaiseIncarnation has partners take this node's numbers as new ones: after a loss they may
// be those of other items. When it returns nil the higher incarnation is on stable storage,
// and links that go by the lower one have ended; they come up again by themselves.
func (f *Federation) RaiseIncarnation(ctx context.Context) error {
	f.making.Lock()
	defer f.making.Unlock()
	next := max(f.incarnation.Load()+1, uint64(max(f.clock.Now().Unix(), 0)))
	if err := f.put(ctx, []byte(incarnationKey), incarnationRecord{recordVersion, next}); err != nil {
		return fmt.Errorf("federation: a higher incarnation: %w", err)
	}
	f.incarnation.Store(next)
	f.log.Warn("records were lost: the incarnation is raised", "incarnation", next)
	for _, p := range f.all() {
		p.stopWorker()
		f.startWorker(p) // after the stopped one has ended
	}
	return nil
}
