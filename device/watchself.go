package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Each visit this device looks up its own member as others do. What it did not do itself
// is told to the person, once; what does not stand is an alarm.

// selfRow is how the directory had this member at the last visit.
type selfRow struct {
	Version uint64          `json:"version"`
	Log     uint64          `json:"log,omitempty"` // of the organization: identity.Manifest.Log
	Devices []wire.DeviceID `json:"devices"`
	Key     []byte          `json:"key,omitempty"`
}

// Alarm is something about one's own identity that a person should know.
type Alarm struct {
	At    time.Time `json:"at"`
	Text  string    `json:"text"`
	Shown bool      `json:"shown"`
}

const (
	selfKey   = "self"
	alarmsKey = "alarms"
	maxAlarms = 50
)

// watch does what a visit does beside messages: whose cosignatures count, and how the
// directory has this member. An alarm keeps nothing else from being done.
func (d *Device) watch(ctx context.Context, own *pb.MemberChain) error {
	if err := d.learnWitnesses(ctx); err != nil {
		return err
	}
	return d.watchSelf(own)
}

// watchSelf verifies what the home node says of this member, with its proof, and notes
// what has changed.
func (d *Device) watchSelf(chain *pb.MemberChain) error {
	if chain.GetCurrency() == nil {
		return nil // a recovering node proves nothing; what it says is not learned from either
	}
	m, err := d.learn(d.account.Organization, chain)
	if err == nil && m.ID != d.account.Member {
		err = errors.New("device: the home node answered with another member")
	}
	if err != nil {
		if errors.Is(err, identity.ErrNotStanding) || errors.Is(err, ErrForked) || errors.Is(err, ErrIdentityChanged) {
			return d.alarm("the directory says of you what does not stand: " + err.Error())
		}
		return err
	}
	if err := d.noteOwnName(m); err != nil {
		return err
	}
	return d.noteSelf(m)
}

// noteOwnName keeps what one's own organization is called: shown from the next start on.
func (d *Device) noteOwnName(m *identity.Member) error {
	return d.vault.update(func(t *txn) error {
		var a account
		if err := t.metaJSON(accountKey, &a); err != nil || a.OrgName == m.Organization.Manifest.Name {
			return err
		}
		a.OrgName = m.Organization.Manifest.Name
		return t.putMetaJSON(accountKey, a)
	})
}

// noteSelf compares one's own record with the last visit's.
func (d *Device) noteSelf(m *identity.Member) error {
	o := &m.Organization.Manifest
	now := selfRow{Version: m.Version, Log: o.Log(), Key: bytes.Clone(m.Key)}
	for id := range m.Devices {
		now.Devices = append(now.Devices, id)
	}
	slices.SortFunc(now.Devices, func(a, b wire.DeviceID) int { return slices.Compare(a[:], b[:]) })
	var before selfRow
	err := d.vault.view(func(t *txn) error { return t.metaJSON(selfKey, &before) })
	first := errors.Is(err, errNoRecord)
	if err != nil && !first {
		return err
	}
	if !first && before.Version == now.Version {
		return nil
	}
	var own ownActs
	if err := d.vault.view(func(t *txn) error { return t.metaJSON(ownActsKey, &own) }); err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	if !first && (now.Log != before.Log || !own.explains(before, now)) {
		text := selfChange(before, now)
		if now.Log > before.Log { // everybody's record has a new version by it
			text = "your organization has begun its directory anew, by its own word after an incident: " + o.Incidents[len(o.Incidents)-1].Reason + "; " + text
		}
		if err := d.alarm(text); err != nil {
			return err
		}
	}
	return d.vault.update(func(t *txn) error { return t.putMetaJSON(selfKey, now) })
}

// selfChange says what a new version of one's record has changed.
func selfChange(before, now selfRow) string {
	text := fmt.Sprintf("the directory has version %d of your record, after %d", now.Version, before.Version)
	for _, id := range now.Devices {
		if !slices.Contains(before.Devices, id) {
			text += fmt.Sprintf("; new device %s", id)
		}
	}
	for _, id := range before.Devices {
		if !slices.Contains(now.Devices, id) {
			text += fmt.Sprintf("; device %s has ended", id)
		}
	}
	if len(before.Key) > 0 && !bytes.Equal(before.Key, now.Key) {
		text += "; your key is another one"
	} else if slices.Equal(before.Devices, now.Devices) {
		text += "; devices and key are the same"
	}
	return text + ". If that was neither you nor your administrator, tell your contacts"
}

// alarm stores a line for the person; the last one is not repeated.
func (d *Device) alarm(text string) error {
	return d.vault.update(func(t *txn) error {
		var list []Alarm
		if err := t.metaJSON(alarmsKey, &list); err != nil && !errors.Is(err, errNoRecord) {
			return err
		}
		if n := len(list); n > 0 && list[n-1].Text == text {
			return nil
		}
		list = append(list, Alarm{At: d.now(), Text: text})
		return t.putMetaJSON(alarmsKey, list[max(0, len(list)-maxAlarms):])
	})
}

// Alarms returns what the person was told about their own identity, the oldest first.
func (d *Device) Alarms() ([]Alarm, error) {
	var list []Alarm
	err := d.vault.view(func(t *txn) error { return t.metaJSON(alarmsKey, &list) })
	if errors.Is(err, errNoRecord) {
		err = nil
	}
	return list, err
}

// NewAlarms returns those that were not shown yet, and notes that they are.
func (d *Device) NewAlarms() ([]Alarm, error) {
	list, err := d.Alarms()
	if err != nil {
		return nil, err
	}
	var fresh []Alarm
	for i := range list {
		if !list[i].Shown {
			fresh = append(fresh, list[i])
			list[i].Shown = true
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	return fresh, d.vault.update(func(t *txn) error { return t.putMetaJSON(alarmsKey, list) })
}
