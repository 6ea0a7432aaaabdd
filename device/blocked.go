package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Whom this member, or its organization, has blocked (docs/protocol.md 7.7, 5.14). The home
// node keeps the list, so that it holds on all devices of the member; a device holds to it
// by the leaf that a message was signed by, which nodes do not see. Records:
//
//	meta  "blocked"                  JSON blockList: the node's last answer
//	state "blk/" ‖ room ‖ ID ‖ ID    JSON blockedCount: what was not shown, of a member in a room
//	meta  "blkroom/" ‖ room          a room whose invitation came from somebody who is blocked
//	meta  "blktold/" ‖ room ‖ ID ‖ ID  this member's being blocked was told in the room
const (
	blockedName   = "blocked"
	blockedPrefix = "blk/"
	blockedEvery  = time.Minute // while the session stays; else with each visit
	blockedAsking = 5 * time.Second
	maxBlocked    = 50_000 // more are not taken: an own node that answers so is not honest
)

// blockList is the node's answer: by whom each is blocked; empty: by this member. A member
// ID of zeros stands for the whole organization.
type blockList struct{ List []blockEntry }

type blockEntry struct {
	Org    wire.OrganizationID
	Member wire.MemberID
	By     string
}

// blocked is the list in memory; d.mu guards it.
type blocked struct {
	by    map[memberKey]string
	asked time.Time // zero: with the next delivery
}

// blockedCount is how much of somebody was not shown. Event is the row that says so, as
// long as nobody has seen it.
type blockedCount struct {
	Event uint64
	Count int
	All   int
}

func pairKey(prefix string, room wire.RoomID, k memberKey) []byte {
	return append(append(append([]byte(prefix), room[:]...), k.Org[:]...), k.Member[:]...)
}

// loadBlocked reads the list as it was last.
func (d *Device) loadBlocked() error {
	var list blockList
	err := d.vault.view(func(t *txn) error { return t.metaJSON(blockedName, &list) })
	if err != nil && !errors.Is(err, errNoRecord) {
		return fmt.Errorf("device: whom you have blocked: %w", err)
	}
	d.blocked.take(list)
	return nil
}

func (b *blocked) take(list blockList) {
	b.by = make(map[memberKey]string, len(list.List))
	for _, e := range list.List {
		k := memberKey{e.Org, e.Member}
		if by, known := b.by[k]; !known || by != "" { // one's own decision goes first: it is the stricter
			b.by[k] = e.By
		}
	}
}

// askBlocked has the list from the node when it is due: before what was delivered is looked
// at. What cannot be had now holds as it was. d.mu is held.
func (d *Device) askBlocked(ctx context.Context) error {
	if !d.blocked.asked.IsZero() && d.now().Sub(d.blocked.asked) < blockedEvery && !d.blocked.asked.After(d.now()) {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, blockedAsking)
	defer cancel()
	a, err := call(ask, d.home.Device.ListContacts, &pb.ListContactsRequest{})
	if err != nil {
		return ctx.Err()
	}
	d.blocked.asked = d.now()
	return d.takeBlocked(a.Contacts)
}

// takeBlocked stores the list that the node answers with, and tells of members in common
// rooms that the organization has blocked.
func (d *Device) takeBlocked(contacts []*pb.Contact) error {
	var list blockList
	for _, c := range contacts {
		if c.State != "blocked" {
			continue
		}
		org, err := wire.Bytes32(c.Organization)
		if err != nil || len(list.List) >= maxBlocked || len(c.By) > 253 {
			return wire.Refuse(pb.Code_CODE_MALFORMED, "the node's list of who is blocked does not stand")
		}
		e := blockEntry{Org: org, By: c.By}
		if len(c.Member) > 0 {
			if e.Member, err = wire.Bytes32(c.Member); err != nil {
				return wire.Refuse(pb.Code_CODE_MALFORMED, "the node's list of who is blocked does not stand")
			}
		}
		if e.Org != d.account.Organization || e.Member != d.account.Member && e.Member != (wire.MemberID{}) {
			list.List = append(list.List, e)
		}
	}
	fresh := blocked{asked: d.blocked.asked}
	fresh.take(list)
	err := d.vault.update(func(t *txn) error {
		if err := t.putMetaJSON(blockedName, list); err != nil {
			return err
		}
		for _, r := range d.rooms {
			if err := d.tellBlocked(t, r, &fresh); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		d.blocked = fresh
	}
	return err
}

// tellBlocked shows, once, who in a room of several is blocked by the organization: it goes
// on, and whoever administers it may remove them.
func (d *Device) tellBlocked(t *txn, r *room, list *blocked) error {
	if r.state == nil || r.Ended || len(list.by) == 0 {
		return nil
	}
	rules, err := policy.Of(r.state.Extensions())
	if err != nil || rules.Roles == nil {
		return err
	}
	for _, k := range r.people() {
		by, yes := list.of(k)
		if !yes || by == "" {
			continue
		}
		key := pairKey("blktold/", r.ID, k)
		if _, err := t.meta(key); err == nil {
			continue
		}
		s := Shown{Event: "room", State: "blocked", Room: r.ID.String(), RoomName: r.Name, From: d.nameOf(k), To: by, At: d.now()}
		if rules.Role(policy.Person{Organization: d.account.Organization, Member: d.account.Member}) == wire.RoleAdmin {
			s.Reason = "you may remove them: entente room remove"
		}
		if err := errors.Join(t.show(s), t.putMeta(key, []byte{1})); err != nil {
			return err
		}
	}
	return nil
}

// of says whether somebody is blocked, and by whom; empty: by this member.
func (b *blocked) of(k memberKey) (by string, yes bool) {
	if by, yes = b.by[k]; yes && by == "" {
		return by, yes
	}
	if whole, ok := b.by[memberKey{Org: k.Org}]; ok {
		return whole, true
	}
	return by, yes
}

// hides reports whether what somebody says in a room is not shown: never, when this member
// has blocked them; in rooms of two, when the organization has.
func (d *Device) hides(r *room, from memberKey) bool {
	by, yes := d.blocked.of(from)
	if !yes || from == d.ownKey() {
		return false
	}
	return by == "" || len(r.people()) <= 2
}

// hide counts a message that is not shown: one row for all of somebody's that came until it
// was looked at. Of the text nothing is kept.
func (b *batch) hide(r *room, from memberKey) {
	name, now := b.d.nameOf(from), b.d.now()
	id, title := r.ID, r.Name
	b.writes = append(b.writes, func(t *txn) error {
		key := pairKey(blockedPrefix, id, from)
		var c blockedCount
		if raw, err := t.state(key); err == nil {
			if err := json.Unmarshal(raw, &c); err != nil {
				return fmt.Errorf("device: what was not shown: %w", err)
			}
		} else if !errors.Is(err, errNoRecord) {
			return err
		}
		c.All++
		waits := false
		if c.Event > 0 {
			_, err := t.history(newKey(c.Event))
			waits = err == nil
		}
		if c.Count++; !waits {
			c.Count = 1
		}
		s := Shown{Event: "blocked", State: "messages", From: name, Room: id.String(), RoomName: title, Count: c.Count, At: now}
		if err := t.showIn(&c.Event, waits, s); err != nil {
			return err
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return err
		}
		return t.putState(key, raw)
	})
}

// showIn shows s in a row that nobody has seen, or in a new one, whose number it notes.
func (t *txn) showIn(event *uint64, waits bool, s Shown) error {
	if !waits {
		err := t.show(s)
		if err == nil {
			*event, err = t.number("events")
		}
		return err
	}
	v, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return t.putHistory(newKey(*event), t.v.now().Add(HistoryLife), v)
}

// refuseInvitation leaves a room alone that somebody who is blocked has brought this
// device into: its node cannot see who that was.
func (b *batch) refuseInvitation(r *room, by memberKey) {
	id, name, now := r.ID, b.d.nameOf(by), b.d.now()
	b.left[id] = true
	b.writes = append(b.writes, func(t *txn) error {
		key := append([]byte("blkroom/"), id[:]...)
		if _, err := t.meta(key); err == nil {
			return nil // the room was refused before: once is enough
		}
		return errors.Join(t.putMeta(key, []byte{1}), t.show(Shown{Event: "blocked", State: "invitation", From: name, Room: id.String(), At: now}))
	})
}

// refused reports whether a room's invitation was refused so.
func (b *batch) refused(id wire.RoomID) bool {
	return b.left[id] || b.d.vault.view(func(t *txn) error { _, err := t.meta(append([]byte("blkroom/"), id[:]...)); return err }) == nil
}

// hiddenOf counts what was not shown of somebody, or of an organization, in all rooms.
func (t *txn) hiddenOf(k memberKey) (n int, err error) {
	err = t.eachState(blockedPrefix, func(key, v []byte) error {
		var c blockedCount
		if err := json.Unmarshal(v, &c); err != nil || len(key) != len(blockedPrefix)+96 {
			return errors.Join(errors.New("device: what was not shown does not parse"), err)
		}
		who := key[len(blockedPrefix)+32:]
		if wire.OrganizationID(who[:32]) == k.Org && (k.Member == wire.MemberID{} || wire.MemberID(who[32:]) == k.Member) {
			n += c.All
		}
		return nil
	})
	return n, err
}
