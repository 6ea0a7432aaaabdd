package device

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// What changes in the keys that a member or an organization stands on is said in every
// room concerned, with who caused it (docs/protocol.md 7.16). It is noted in the
// transaction that takes the new chain, which may be in the middle of a delivery, and
// shown when that is done.

// keyChange is a change that the rooms are still to be told of; meta record "keychange/" ‖
// number.
type keyChange struct {
	memberKey        // who; of an organization's, no member
	Was       []byte `json:",omitempty"` // the member that had the address before
	State     string // device, key, reset, replaced, root, incident or name
	From      string // the address, or the organization
	Reason    string
}

const (
	keyChangePrefix = "keychange/"
	keyChangeName   = "keychanges"
	// maxChangedDevices is how many of a member's new devices are named at once.
	maxChangedDevices = 4
)

func rootKey(org wire.OrganizationID) string      { return "root/" + org.String() }
func incidentName(org wire.OrganizationID) string { return "incident/" + org.String() }

// noteChanges compares what a chain says with what was known before it.
func (t *txn) noteChanges(l *learned) error {
	if err := errors.Join(t.noteRoot(l), t.noteIncident(l), t.noteName(l)); err != nil {
		return err
	}
	if err := t.noteReplaced(l); err != nil {
		return err
	}
	if l.known == nil {
		return nil
	}
	return errors.Join(t.noteDevices(l), t.noteKey(l))
}

func (t *txn) noteChange(c keyChange) error {
	n, err := t.number(keyChangeName)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%s%020d", keyChangePrefix, n+1)
	return errors.Join(t.putMetaJSON(key, c), t.putNumber(keyChangeName, n+1))
}

// noteDevices tells of devices that the known record did not have: the member's key has
// certified them, the organization has listed them.
func (t *txn) noteDevices(l *learned) error {
	var ids []string
	for id := range l.member.Devices {
		if l.known.Devices[id] == nil && len(ids) < maxChangedDevices {
			ids = append(ids, id.String())
			if err := t.putMeta(toldKey(id[:]), []byte{1}); err != nil {
				return err
			}
		}
	}
	if len(ids) == 0 || l.member.ResetSince(l.known.Key) { // noteKey tells of that
		return nil
	}
	return t.noteChange(keyChange{memberKey: l.memberKey, State: "device", From: l.member.Address().String(),
		Reason: fmt.Sprintf("new device %s, certified by the member's own key and listed by %s", strings.Join(ids, ", "), l.member.Organization.Manifest.Name)})
}

// noteKey tells of a new member key, which the old one has signed: VerifyChain takes no
// other.
func (t *txn) noteKey(l *learned) error {
	if l.known.Key.Equal(l.member.Key) {
		return nil
	}
	if l.member.ResetSince(l.known.Key) {
		return t.noteChange(keyChange{memberKey: l.memberKey, State: "reset", From: l.member.Address().String(),
			Reason: fmt.Sprintf("new key that the old one did not sign: %s has reset the member, whose devices were lost, or so it says", l.member.Organization.Manifest.Name)})
	}
	why := "signed by the old one"
	if n := len(l.member.Rotations); n > 0 {
		why += fmt.Sprintf("; %d of the member's devices are out by it", len(l.member.Rotations[n-1].Without))
	}
	return t.noteChange(keyChange{memberKey: l.memberKey, State: "key", From: l.member.Address().String(), Reason: "new key, " + why})
}

// noteReplaced tells that an address stands for another member than it did.
func (t *txn) noteReplaced(l *learned) error {
	var was memberKey
	err := t.metaJSON(nameKey(l.member.Address()), &was)
	if errors.Is(err, errNoRecord) || err == nil && was == l.memberKey {
		return nil
	}
	if err != nil {
		return err
	}
	// Once for each member that takes the address: two who share it would be told for ever.
	told := append([]byte("replaced/"+l.member.Address().String()+"/"), l.Member[:]...)
	if _, err := t.meta(told); err == nil {
		return nil
	}
	if err := t.putMeta(told, []byte{1}); err != nil {
		return err
	}
	return t.noteChange(keyChange{memberKey: l.memberKey, Was: was.Member[:], State: "replaced", From: l.member.Address().String(),
		Reason: fmt.Sprintf("new key that the old one did not sign; caused by %s", l.member.Organization.Manifest.Name)})
}

// noteRoot tells of an organization's new root, once for all its members.
func (t *txn) noteRoot(l *learned) error {
	o := l.member.Organization
	var known ed25519.PublicKey
	err := t.metaJSON(rootKey(l.Org), &known)
	if err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	if err == nil && known.Equal(o.Manifest.Root) {
		return nil
	}
	for _, m := range o.Manifests() { // a chain from before it, of another member
		if err == nil && m.Sequence < o.Manifest.Sequence && known.Equal(m.Root) {
			reason := "new root key, " + rootCauses[o.RootCause()]
			err := t.noteChange(keyChange{memberKey: memberKey{Org: l.Org}, State: "root", From: o.Manifest.Name, Reason: reason})
			return errors.Join(err, t.putMetaJSON(rootKey(l.Org), o.Manifest.Root))
		}
	}
	if err == nil {
		return nil // older than what is known: nothing new
	}
	return t.putMetaJSON(rootKey(l.Org), o.Manifest.Root)
}

// noteIncident tells that an organization has begun a new log of its directory, with its own
// words, once for all its members.
func (t *txn) noteIncident(l *learned) error {
	m := &l.member.Organization.Manifest
	known, err := t.number(incidentName(l.Org))
	if err != nil || m.Log() <= known {
		return err
	}
	if err := t.putNumber(incidentName(l.Org), m.Log()); err != nil {
		return err
	}
	_, err = t.meta([]byte(headKey(l.Org)))
	if errors.Is(err, errNoRecord) {
		return nil // the first that we see of it: there is nothing that it could have ended
	}
	reason := "has begun its directory anew, by its own word after an incident: " + m.Incidents[len(m.Incidents)-1].Reason
	return errors.Join(err, t.noteChange(keyChange{memberKey: memberKey{Org: l.Org}, State: "incident", From: m.Name, Reason: reason}))
}

// orgNameRow is what an organization is called, as of which of its manifests.
type orgNameRow struct {
	Name     string    `json:"name"`
	Sequence uint64    `json:"sequence"`
	Issued   time.Time `json:"issued"` // by the organization's clock
}

func orgNameKey(org wire.OrganizationID) string { return "orgname/" + org.String() }

// noteName tells that an organization has given itself another name, once for all its members.
func (t *txn) noteName(l *learned) error {
	m := &l.member.Organization.Manifest
	var known orgNameRow
	err := t.metaJSON(orgNameKey(l.Org), &known)
	if err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	first := err != nil
	if !first && (m.Sequence < known.Sequence || m.Name == known.Name) {
		return nil
	}
	if err := t.putMetaJSON(orgNameKey(l.Org), orgNameRow{m.Name, m.Sequence, m.Issued}); err != nil || first {
		return err
	}
	return t.noteChange(keyChange{memberKey: memberKey{Org: l.Org}, State: "name", From: m.Name,
		Reason: fmt.Sprintf("%s is called %s now, by its own root key: the same organization, the same people", known.Name, m.Name)})
}

// rootCauses say by what a root stands, for a person.
var rootCauses = map[identity.Cause]string{
	identity.ByNextRoot:   "to which the organization had committed before",
	identity.ByCustodians: "brought in by the organization's custodians: both roots before it were lost or taken",
}

// concerns reports whether a change is to be told in a room.
func (c *keyChange) concerns(r *room) bool {
	if r.state == nil || r.Ended {
		return false
	}
	for _, k := range r.people() {
		if k.Org == c.Org && (c.Member == (wire.MemberID{}) || k.Member == c.Member || string(k.Member[:]) == string(c.Was)) {
			return true
		}
	}
	return false
}

// tellChanges shows in each room concerned what was noted; d.mu is held.
func (d *Device) tellChanges() error {
	var keys [][]byte
	var list []keyChange
	err := d.vault.view(func(t *txn) error {
		return t.eachMeta(keyChangePrefix, func(k, _ []byte) error {
			var c keyChange
			if err := t.metaJSON(string(k), &c); err != nil {
				return err
			}
			keys, list = append(keys, append([]byte(nil), k...)), append(list, c)
			return nil
		})
	})
	if err != nil || len(list) == 0 {
		return err
	}
	err = d.vault.update(func(t *txn) error {
		for i, c := range list {
			if err := errors.Join(d.tellChange(t, c), t.deleteMeta(keys[i])); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		select {
		case d.events <- struct{}{}:
		default:
		}
	}
	return err
}

func (d *Device) tellChange(t *txn, c keyChange) error {
	if c.memberKey == d.ownKey() {
		return nil // one's own are alarms (watchself.go)
	}
	for _, r := range d.rooms {
		if !c.concerns(r) || d.merged(r) != nil {
			continue
		}
		if err := t.show(Shown{Event: "identity", State: c.State, Room: r.ID.String(), RoomName: r.Name, From: c.From, Reason: c.Reason, At: d.now()}); err != nil {
			return err
		}
	}
	return nil
}
