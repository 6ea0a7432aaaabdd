package device

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// replaceName is set while the node still holds KeyPackages whose secrets are gone.
const replaceName = "replace-keypackages"

// welcomed compares the counter that this device was opened with with the node's, in
// its first session and before anything is submitted. A node that has seen a higher one has seen this device in a
// later state: its files were set back to an older copy (docs/protocol.md 6.5).
func (d *Device) welcomed(mark uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.reviveLeaving(mark); err != nil {
		return err
	}
	if d.compared || mark <= d.opened {
		d.compared = true
		return nil
	}
	err := d.restored(mark)
	d.compared = err == nil
	return err
}

// restored gives up every key that the lost time may have used: KeyPackages are made
// anew and replace those at the node, ratchets encrypt nothing any more, and each
// room is entered anew by an external Commit, within the hour of the last one too. Messages without an end are encrypted
// again under their own IDs.
func (d *Device) restored(mark uint64) error {
	rooms := make(map[string]*room)
	err := d.vault.update(func(t *txn) error {
		own, err := t.number(counterName)
		if err != nil {
			return err
		}
		if err := t.putNumber(counterName, max(own, mark)); err != nil {
			return err
		}
		if err := t.putNumber(replaceName, 1); err != nil {
			return err
		}
		for _, prefix := range []string{kpPrefix, "stage/"} {
			if err := t.deleteStates(prefix); err != nil {
				return err
			}
		}
		for id, r := range d.rooms {
			c := *r
			c.Committing, c.Handed, c.Resyncing, c.Resetting, c.Lost = 0, false, false, false, !c.Ended
			c.Resynced = time.Time{} // whenever it came back: now it has to once more
			if err := c.save(t); err != nil {
				return err
			}
			rooms[string(id[:])] = &c
		}
		if err := t.withdraw(func(*outgoing) bool { return true }); err != nil {
			return err
		}
		return t.show(Shown{Event: "device", State: "restored", At: d.now(),
			Reason: "this device's data is older than what its node has had from it: it makes new keys and comes back into its rooms"})
	})
	if err != nil {
		return fmt.Errorf("device: after a restore: %w", err)
	}
	for id := range d.rooms {
		d.rooms[id] = rooms[string(id[:])]
	}
	return d.vault.rotate()
}

// deleteStates deletes every state record whose key begins with prefix.
func (t *txn) deleteStates(prefix string) error {
	var keys [][]byte
	err := t.eachState(prefix, func(k, _ []byte) error { keys = append(keys, bytes.Clone(k)); return nil })
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := t.deleteState(k); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes counter and ciphertext from the messages without an end of which which says
// so: they are encrypted again.
func (t *txn) withdraw(which func(*outgoing) bool) error {
	var list []*outgoing
	err := t.eachState(outPrefix, func(_, v []byte) error {
		o := &outgoing{}
		if err := o.unmarshal(v); err != nil {
			return err
		}
		if which(o) {
			list = append(list, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range list {
		o.Counter, o.Core, o.Accepted = 0, nil, false
		if err := o.save(t); err != nil {
			return err
		}
	}
	return nil
}

// replaceKeyPackages tells whether the node's pool is to be replaced by ours.
func (d *Device) replaceKeyPackages() (bool, error) {
	var n uint64
	err := d.vault.view(func(t *txn) (err error) { n, err = t.number(replaceName); return err })
	return n > 0, err
}

// ready waits until the home node has welcomed this device: nothing is encrypted
// before it is known that the ratchets were not set back.
func (l *link) ready(ctx context.Context) error {
	var patience <-chan time.Time
	if !l.stays {
		timer := time.NewTimer(homePatience)
		defer timer.Stop()
		patience = timer.C
	}
	last := error(wire.Refuse(pb.Code_CODE_UNREACHABLE, "the home node does not answer"))
	for {
		select {
		case <-l.welcomed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case why := <-l.trouble:
			if final(why) {
				return why
			}
			last = why
		case <-patience:
			return last
		case err := <-l.ended:
			l.ended <- err
			return err
		}
	}
}
