package device

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What has changed in the keys of people in our rooms is asked for, not waited for: a new
// member key or root changes no leaf, so no Commit tells of it (docs/protocol.md 7.16).

const (
	lookedPrefix = "looked/"
	// lookEvery is how old the answer about a member in our rooms may get.
	lookEvery = time.Hour
	// lookSoon is how long after the last answer a member is asked about again whose key is
	// still to be replaced after a revocation.
	lookSoon = 10 * time.Second
	// lookAtOnce bounds the members that one visit asks about; the others wait for the next.
	lookAtOnce = 32
	// lookPatience bounds how long a visit waits for the answers.
	lookPatience = 3 * time.Second
	// lookFailed is when a member is asked about again who could not be asked.
	lookFailed = 5 * time.Minute
)

// looks is when the members in our rooms were asked about last; d.mu guards it.
type looks struct {
	at    map[memberKey]time.Time // nil: not read yet
	again map[memberKey]bool      // to be asked about now
	next  time.Time               // nothing is due before, while the rooms are as they were
	rooms uint64                  // the sum of the rooms' epochs
}

func lookedKey(k memberKey) []byte {
	return append(append([]byte(lookedPrefix), k.Org[:]...), k.Member[:]...)
}

// loadLooks reads the rows; time in Unix seconds, uint64.
func (d *Device) loadLooks() error {
	at := make(map[memberKey]time.Time)
	err := d.vault.view(func(t *txn) error {
		return t.eachMeta(lookedPrefix, func(k, v []byte) error {
			if k = k[len(lookedPrefix):]; len(k) != 64 || len(v) != 8 {
				return nil // of no use: the member is asked about once more
			}
			at[memberKey{wire.OrganizationID(k[:32]), wire.MemberID(k[32:])}] = time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
			return nil
		})
	})
	if err == nil {
		d.looks.at = at
	}
	return err
}

// lookAgain has a member asked about with the next visit or delivery: one of its devices
// was revoked, so its key is to change.
func (d *Device) lookAgain(k memberKey) {
	if d.looks.again == nil {
		d.looks.again = make(map[memberKey]bool)
	}
	d.looks.again[k] = true
	d.askSelf = d.askSelf || k == d.ownKey()
	d.looks.next = time.Time{}
}

// lookAfter has those asked about whose devices a Commit takes out, or a hub's proposal is
// to: their keys are to change. Who leaves with a whole organization keeps them.
func (d *Device) lookAfter(g *mls.PublicGroup, e *mls.Effects) {
	leaves := make([]*mls.LeafNode, 0, len(e.Removed)+1)
	for _, m := range e.Removed {
		leaves = append(leaves, m.Node)
	}
	if _, err := identity.ReadPartnerRevocation(string(e.AAD)); !e.IsCommit && e.Sender.Type == mls.SenderExternal && err != nil {
		leaves = append(leaves, g.Member(e.Proposal.Remove))
	}
	for _, l := range leaves {
		if c, err := policy.CredentialOf(l); err == nil {
			d.lookAgain(memberKey{c.Organization, c.Member})
		}
	}
}

// dueLooks lists whom to ask about, the longest unasked first; d.mu is held.
func (d *Device) dueLooks() ([]memberKey, error) {
	sum, now := d.epochs(), d.now()
	if sum == d.looks.rooms && now.Before(d.looks.next) && d.looks.next.Sub(now) <= lookEvery {
		return nil, nil
	}
	if d.looks.at == nil {
		if err := d.loadLooks(); err != nil {
			return nil, err
		}
	}
	var due []memberKey
	next := now.Add(lookEvery)
	people := d.peopleInRooms()
	maps.DeleteFunc(d.looks.again, func(k memberKey, _ bool) bool { return !people[k] })
	for k := range people {
		switch when := d.nextLook(k); {
		case !when.After(now):
			due = append(due, k)
		case when.Before(next):
			next = when
		}
	}
	slices.SortFunc(due, func(a, b memberKey) int {
		return cmp.Or(d.looks.at[a].Compare(d.looks.at[b]), slices.Compare(a.Member[:], b.Member[:]))
	})
	if len(due) > lookAtOnce {
		due, next = due[:lookAtOnce], now
	}
	d.looks.rooms, d.looks.next = sum, next
	return due, nil
}

// nextLook is when a member is to be asked about; a clock that was set back makes it now.
func (d *Device) nextLook(k memberKey) time.Time {
	at := d.looks.at[k]
	if at.After(d.now()) || d.looks.again[k] {
		return time.Time{}
	}
	if m, err := d.chains.get(k); err == nil && len(m.Uncovered()) > 0 {
		return at.Add(lookSoon)
	}
	return at.Add(lookEvery)
}

// epochs changes when a room does.
func (d *Device) epochs() uint64 {
	sum := uint64(len(d.rooms))
	for _, r := range d.rooms {
		if r.state != nil {
			sum += r.state.Epoch()
		}
	}
	return sum
}

// peopleInRooms are all others in the rooms that go on.
func (d *Device) peopleInRooms() map[memberKey]bool {
	out := make(map[memberKey]bool)
	for _, r := range d.rooms {
		if r.state == nil || r.Ended {
			continue
		}
		for _, m := range r.state.Members() {
			if c, err := policy.CredentialOf(m.Node); err == nil {
				out[memberKey{c.Organization, c.Member}] = true
			}
		}
	}
	delete(out, d.ownKey()) // watchself.go
	return out
}

// refresh asks about the members who are due, and notes what has changed. Who cannot be
// asked is asked again when he is due next: nothing waits for it.
func (d *Device) refresh(ctx context.Context) error {
	d.mu.Lock()
	due, err := d.dueLooks()
	d.mu.Unlock()
	if err != nil || len(due) == 0 {
		return err
	}
	fetched := d.fetchAll(ctx, due)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.learnAll(due, fetched)
	err = d.vault.update(func(t *txn) error {
		for i, k := range due {
			at := d.now()
			if fetched[i] == nil {
				at = at.Add(lookFailed - lookEvery)
			}
			if err := t.putMeta(lookedKey(k), binary.BigEndian.AppendUint64(nil, uint64(at.Unix()))); err != nil {
				return err
			}
			d.looks.at[k] = at
			delete(d.looks.again, k)
			if next := d.nextLook(k); next.Before(d.looks.next) {
				d.looks.next = next
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.tellChanges()
}

// fetchAll asks for chains, some at a time; what is not answered in time stays nil.
func (d *Device) fetchAll(ctx context.Context, list []memberKey) []*pb.MemberChain {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	out := make([]*pb.MemberChain, len(list))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(prefetchers, len(list)) {
		wg.Go(func() {
			for i := range next {
				if a, err := call(ctx, d.home.Device.Chain, &pb.ChainRequest{Organization: list[i].Org[:], Member: list[i].Member[:]}); err == nil {
					out[i] = a.Chain
				}
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}
