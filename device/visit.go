package device

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/entente-im/entente/device/home"
	"github.com/entente-im/entente/wire"
	"github.com/entente-im/entente/wire/session"
)

// Receiving: what a visit of the home node does, a short one and one that stays.

// final tells the ends of a session after which trying again is no use.
func final(err error) bool {
	if errors.Is(err, home.ErrPin) {
		return true
	}
	var c *session.CloseError
	if errors.As(err, &c) {
		return c.Code == session.CodeRevoked || c.Code == session.CodeReplaced
	}
	var st *wire.StatusError
	return errors.As(err, &st) && wire.ClassOf(st.Status.Code) == wire.Permanent
}

// Receive fetches what waits and hands everything that was not shown yet to show,
// in order, each once. With follow it stays until ctx ends. Whatever show has taken
// without an error counts as shown.
func (d *Device) Receive(ctx context.Context, follow bool, show func(Shown) error) error {
	l, err := d.connectSession(ctx, follow)
	if err != nil {
		return err
	}
	defer l.close()
	if err := d.askAgain(ctx); err != nil {
		return err
	}
	if err := l.submitWaiting(ctx); err != nil {
		return err
	}
	renew := time.NewTicker(time.Minute)
	defer renew.Stop()
	ends := time.NewTicker(time.Second)
	defer ends.Stop()
	up := upkeep{l: l}
	for done := false; ; {
		if err := d.showNew(show); err != nil {
			return err
		}
		if done {
			if err := d.afterReceive(ctx); err != nil {
				return err
			}
			if err := d.showNew(show); err != nil { // what asking has brought
				return err
			}
			return l.bringLater(ctx)
		}
		select {
		case <-ctx.Done():
			if follow {
				return nil
			}
			return ctx.Err()
		case <-d.events:
			if follow {
				if err := up.delivered(ctx); err != nil {
					return err
				}
			}
		case <-renew.C:
			if err := d.renewKeys(); err != nil {
				return err
			}
			if err := l.askAgain(ctx); err != nil {
				return err
			}
			if err := d.refresh(ctx); err != nil && !temporary(err) {
				return err
			}
		case <-ends.C:
			if err := d.Sweep(); err != nil {
				return err
			}
			if follow {
				if err := up.tick(ctx); err != nil {
					return err
				}
			}
		case <-l.drained:
			done = !follow
		case why := <-l.trouble:
			if !follow || final(why) {
				return why
			}
		case err := <-l.ended:
			l.ended <- err
			if ctx.Err() != nil && follow {
				return nil
			}
			return err
		}
	}
}

// renewKeys replaces a state key that is old and drops what has had its time, for a device
// that stays open.
func (d *Device) renewKeys() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.vault.isOld() {
		return nil
	}
	if _, err := d.expireMLS(); err != nil {
		return err
	}
	return d.vault.rotateIfOld()
}

// afterReceive does what a short visit leaves to do.
func (d *Device) afterReceive(ctx context.Context) error {
	if err := d.replenish(ctx); err != nil {
		return err
	}
	if err := d.refresh(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	err := d.mend(ctx)
	if err == nil {
		err = d.checkAgreements(ctx)
	}
	if err == nil {
		err = d.tellChanges()
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.commitPending(ctx)
}

// showNew hands over what is new and then marks it as shown.
func (d *Device) showNew(show func(Shown) error) error {
	return d.showNewOf(func(Shown) bool { return true }, show)
}

// ShowIdentities hands over what is new of the keys that people stand on, of those whom the
// caller asks about, and marks it as shown: for who writes and does not read first. No Receive
// shows it again; it stands in the history, in its place.
func (d *Device) ShowIdentities(about func(Shown) bool, show func(Shown) error) error {
	d.mu.Lock()
	err := d.tellChanges()
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.showNewOf(func(s Shown) bool { return s.Event == "identity" && about(s) }, show)
}

// showNewOf is showNew of those that are wanted; the others stay new.
func (d *Device) showNewOf(wanted func(Shown) bool, show func(Shown) error) error {
	for {
		type row struct {
			key []byte
			s   Shown
		}
		var rows []row
		d.mu.Lock()
		err := d.vault.view(func(t *txn) error {
			return t.eachHistory("n/", func(k, v []byte) error {
				var s Shown
				if err := json.Unmarshal(v, &s); err != nil {
					return err
				}
				if !wanted(s) {
					return nil
				}
				if err := t.withText(&s); err != nil {
					return err
				}
				if s.Gone && s.Event == "message" {
					s.Event = "expired" // here, before anybody looked
				}
				d.asViewed(&s.Room, &s.Seq)
				rows = append(rows, row{append([]byte(nil), k...), s})
				return nil
			})
		})
		d.mu.Unlock()
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			if r.s.stale() {
				continue
			}
			if err := show(r.s); err != nil {
				return err
			}
		}
		d.mu.Lock()
		err = d.vault.update(func(t *txn) error {
			for _, r := range rows {
				v, err := t.shownRow(r.s)
				if err != nil {
					return err
				}
				if err := t.putHistory(append([]byte("m/"), r.key[2:]...), d.now().Add(HistoryLife), v); err != nil {
					return err
				}
				if err := t.tx.Bucket(historyBucket).Delete(r.key); err != nil {
					return err
				}
			}
			return nil
		})
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// shownRow starts the clock of a message that ends and returns its row without the
// text, which lies apart.
func (t *txn) shownRow(s Shown) ([]byte, error) {
	s.Quote = ""
	if s.Expiring {
		id, err := ParseMessageID(s.ID)
		if err == nil {
			err = t.read(id)
		}
		if err != nil {
			return nil, err
		}
		s.File = nil
		s.Text, s.Burns, s.Ends, s.Gone, s.Mentions, s.MentionsYou = "", "", time.Time{}, false, nil, false
	}
	if s.Event == "edited" {
		s.Text, s.Mentions, s.MentionsYou, s.Deleted = "", nil, false, false
	}
	return json.Marshal(s)
}
