package device

import (
	"context"
	"math/rand/v2"
	"time"
)

// upkeepEvery is how often a device that stays asks its node about itself, however much is
// delivered meanwhile. What uses up a KeyPackage, or changes its own keys, has it ask at
// once.
const upkeepEvery = 10 * time.Second

// upkeep is what a visit that stays does between deliveries: KeyPackages, its own record,
// the people in its rooms, proposals that wait for a Commit, devices of its own that a room
// lacks. One goroutine uses it.
type upkeep struct {
	l      *link
	asked  time.Time // when the node was asked last
	due    bool      // something was delivered since
	commit time.Time // when the proposals that wait are committed; zero: none do
}

// delivered follows each batch of deliveries.
func (u *upkeep) delivered(ctx context.Context) error {
	u.due = true
	if err := u.ask(ctx); err != nil {
		return err
	}
	if err := u.l.d.refresh(ctx); err != nil && !temporary(err) {
		return err
	}
	if u.commit.IsZero() && u.l.d.hasPending() {
		// The devices of a room do not all commit at once (FORMATS, Removal).
		u.commit = time.Now().Add(rand.N(commitSpread))
	}
	return u.l.submitWaiting(ctx)
}

// tick follows each second.
func (u *upkeep) tick(ctx context.Context) error {
	if err := u.ask(ctx); err != nil {
		return err
	}
	submit := u.l.d.undecided()
	if !u.commit.IsZero() && !time.Now().Before(u.commit) {
		// Counters are taken in order: while something has no answer, a second later.
		open, err := u.l.d.unanswered()
		if err != nil {
			return err
		}
		if !open {
			u.commit, submit = time.Time{}, true
			if err := u.l.d.commitWaiting(ctx); err != nil && !temporary(err) {
				return err
			}
		}
	}
	if !submit {
		return nil
	}
	if err := u.l.submitWaiting(ctx); err != nil && !temporary(err) {
		return err
	}
	return nil
}

// ask replenishes KeyPackages and takes up what the directory says of this member, when
// that is due.
func (u *upkeep) ask(ctx context.Context) error {
	if !u.l.d.takeAskSelf() && (!u.due || time.Since(u.asked) < upkeepEvery) {
		return nil
	}
	u.asked, u.due = time.Now(), false
	if err := u.l.d.replenish(ctx); err != nil && !temporary(err) {
		return err
	}
	return u.l.bringLater(ctx)
}

// takeAskSelf reports, once, that the node is to be asked about this member at once.
func (d *Device) takeAskSelf() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	ask := d.askSelf
	d.askSelf = false
	return ask
}
