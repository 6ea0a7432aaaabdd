package device

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Whom the person has verified, outside of the network, is pinned by address: a member of
// that address with another ID, or whose keys do not come from the one that was
// compared, is not the one, and nothing is said to it (docs/protocol.md 7.16).

// Errors a caller acts on.
var (
	// ErrNotTheVerified says that somebody in the way of a message has the address of a
	// verified member and is not that member.
	ErrNotTheVerified = errors.New("device: not the member that you have verified")
	// ErrMustVerify says that the own organization wants somebody verified first.
	ErrMustVerify = errors.New("device: not verified yet")
	// ErrNotVerified says that nothing is known to be verified of an address.
	ErrNotVerified = errors.New("device: not verified")
)

// verifiedRow is a member that was verified; meta record "verified/" ‖ address.
type verifiedRow struct {
	Organization wire.OrganizationID `json:"org"`
	Member       wire.MemberID       `json:"member"`
	Key          []byte              `json:"key"` // Ed25519, that was compared
	At           time.Time           `json:"at"`
	How          string              `json:"how"` // digits or qr
}

const (
	verifiedPrefix = "verified/"
	// maxVerified bounds the members that one device has verified, and with them what
	// another device of the member has to take over.
	maxVerified = 150

	howDigits = "digits"
	howQR     = "qr"
)

// holds reports whether a member is the verified one: the same ID, and the key that was
// compared among those that it has had, each signed by the one before.
func (v *verifiedRow) holds(m *identity.Member) bool {
	if v.Organization != m.Organization.ID || v.Member != m.ID {
		return false
	}
	key := ed25519.PublicKey(v.Key)
	return key.Equal(m.Key) || !m.ResetSince(key) && slices.ContainsFunc(m.Rotations, func(r *identity.Rotation) bool { return key.Equal(r.Previous) })
}

// Verified is what the person knows of a member's key.
type Verified struct {
	Address string    `json:"address"`
	State   string    `json:"state"` // verified, changed (somebody else has the address now), unknown (not asked yet)
	At      time.Time `json:"at"`
	How     string    `json:"how"` // digits or qr
	// Renewed: the key has changed since; the one that was compared has signed that.
	Renewed bool `json:"renewed,omitempty"`
}

// loadVerified reads the pins; d.verified is guarded by d.mu from then on.
func (d *Device) loadVerified() error {
	d.verified = make(map[string]*verifiedRow)
	return d.vault.view(func(t *txn) error {
		if own, err := t.agreement(d.account.Organization); err != nil {
			return err
		} else if own != nil {
			d.mustVerify = own.Verify
		}
		return t.eachMeta(verifiedPrefix, func(k, v []byte) error {
			row := &verifiedRow{}
			if err := json.Unmarshal(v, row); err != nil {
				return fmt.Errorf("device: whom you have verified: %w", err)
			}
			d.verified[strings.TrimPrefix(string(k), verifiedPrefix)] = row
			return nil
		})
	})
}

// checkPinned refuses a member that has the address of a verified one and is another, and
// one of another organization who is not verified where the own organization asks for it.
func (d *Device) checkPinned(m *identity.Member) error {
	switch pins := d.pinsOf(m); {
	case len(pins) == 0 && d.mustVerify && m.Organization.ID != d.account.Organization:
		return fmt.Errorf("%w: %w", ErrMustVerify, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s asks you to compare safety numbers with %s before you write", d.account.OrgName, m.Address()))
	case !d.holdPins(m, pins):
		return fmt.Errorf("%w: %w", ErrNotTheVerified, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s has a new key that the old one did not sign; caused by %s", m.Address(), m.Organization.Manifest.Name))
	}
	return nil
}

// pinsOf are the addresses of the pins that a member has to hold: that of its address; and
// because its organization says what it, and its people, are called, those of this very member
// and of its name at that organization, whatever the addresses were then.
func (d *Device) pinsOf(m *identity.Member) (out []string) {
	own := m.Address().String()
	for address, row := range d.verified {
		name, _, _ := strings.Cut(address, "@")
		if address == own || row.Organization == m.Organization.ID && (row.Member == m.ID || name == m.Name) {
			out = append(out, address)
		}
	}
	return out
}

func (d *Device) holdPins(m *identity.Member, pins []string) bool {
	return !slices.ContainsFunc(pins, func(a string) bool { return !d.verified[a].holds(m) })
}

// askPolicy asks what the own organization wants, once before the first room: later it is
// asked for with the agreements.
func (d *Device) askPolicy(ctx context.Context) error {
	var known *agreed
	err := d.vault.view(func(t *txn) (err error) { known, err = t.agreement(d.account.Organization); return err })
	if err != nil || known != nil {
		return err
	}
	return d.checkAgreements(ctx)
}

// noteVerify takes on whether outsiders have to be verified. That it is asked no more is
// told: a node could be made to.
func (d *Device) noteVerify(t *txn, was, now *agreed) error {
	d.mustVerify = now.Verify
	if was == nil || !was.Verify || now.Verify {
		return nil
	}
	var rooms []*room
	for _, r := range d.rooms {
		if r.state != nil && !r.Ended && len(r.others(d.account.Organization)) > 0 {
			rooms = append(rooms, r)
		}
	}
	return d.tellRooms(t, rooms, "terms", "", d.account.OrgName+" does not ask you any more to verify people of other organizations before you write to them")
}

// checkRoomPinned is checkPinned of everybody in a room.
func (d *Device) checkRoomPinned(r *room) error {
	if len(d.verified) == 0 && !d.mustVerify || r.state == nil {
		return nil
	}
	for _, k := range r.people() {
		if k == d.ownKey() {
			continue
		}
		if m, err := d.chains.get(k); err == nil {
			if err := d.checkPinned(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// SafetyNumber is what this device's person and a member compare. It asks the home node who
// the member is, and takes the keys that stand. A changed member has one, too.
func (d *Device) SafetyNumber(ctx context.Context, to wire.Address) (identity.SafetyNumber, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, _, err := d.safetyNumber(ctx, to)
	return n, err
}

func (d *Device) safetyNumber(ctx context.Context, to wire.Address) (n identity.SafetyNumber, m *identity.Member, err error) {
	if m, err = d.resolve(ctx, to); err != nil {
		return n, nil, err
	}
	own, err := d.self(ctx)
	if err != nil {
		return n, nil, err
	}
	n.Own = identity.SafetyFingerprint(own.Organization.ID, own.ID, own.Key)
	n.Theirs = identity.SafetyFingerprint(m.Organization.ID, m.ID, m.Key)
	return n, m, nil
}

// VerifyDigits marks a member as verified when the digits are those that its person sees;
// identity.ErrSafetyForm or identity.ErrSafetyDiffers says why not, and changes nothing.
func (d *Device) VerifyDigits(ctx context.Context, to wire.Address, digits string) error {
	return d.verify(ctx, to, howDigits, func(n identity.SafetyNumber) error { return n.CheckDigits(digits) })
}

// VerifyQR is VerifyDigits by the text of the code that the other screen shows.
func (d *Device) VerifyQR(ctx context.Context, to wire.Address, text string) error {
	return d.verify(ctx, to, howQR, func(n identity.SafetyNumber) error { return n.CheckQR(text) })
}

func (d *Device) verify(ctx context.Context, to wire.Address, how string, check func(identity.SafetyNumber) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, m, err := d.safetyNumber(ctx, to)
	if err != nil {
		return err
	}
	if err := check(n); err != nil {
		return err
	}
	row := &verifiedRow{Organization: m.Organization.ID, Member: m.ID, Key: m.Key, At: d.now().UTC().Truncate(time.Second), How: how}
	return d.putVerified(m.Address().String(), row, d.pinsOf(m))
}

// putVerified pins a member, in the place of other pins.
func (d *Device) putVerified(address string, row *verifiedRow, others []string) error {
	if d.verified[address] == nil && len(d.verified)-len(others) >= maxVerified {
		return wire.Refuse(pb.Code_CODE_FULL, "this device keeps %d verified members: take one out (entente verify ADDRESS --unverify)", maxVerified)
	}
	err := d.vault.update(func(t *txn) error {
		return errors.Join(t.deleteVerified(others), t.putMetaJSON(verifiedPrefix+address, row))
	})
	if err != nil {
		return err
	}
	for _, a := range others {
		delete(d.verified, a)
	}
	d.verified[address] = row
	return nil
}

func (t *txn) deleteVerified(addresses []string) (err error) {
	for _, a := range addresses {
		err = errors.Join(err, t.deleteMeta([]byte(verifiedPrefix+a)))
	}
	return err
}

// Unverify forgets that a member was verified; after it whoever has the address is written
// to, as before any verification. ErrNotVerified says that nothing was known.
func (d *Device) Unverify(to wire.Address) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var pins []string
	if d.verified[to.String()] != nil {
		pins = append(pins, to.String())
	}
	var k memberKey // who has the address now, and was verified under another one
	if d.vault.view(func(t *txn) error { return t.metaJSON(nameKey(to), &k) }) == nil {
		if m, err := d.chains.get(k); err == nil && m.Name == to.Name && m.Organization.Answers(to.Organization, d.now()) {
			pins = append(pins, slices.DeleteFunc(d.pinsOf(m), func(a string) bool { return a == to.String() })...)
		}
	}
	if len(pins) == 0 {
		return fmt.Errorf("%w: %s", ErrNotVerified, to)
	}
	if err := d.vault.update(func(t *txn) error { return t.deleteVerified(pins) }); err != nil {
		return err
	}
	for _, a := range pins {
		delete(d.verified, a)
	}
	return nil
}

// VerifiedMembers lists whom the person has verified, by address.
func (d *Device) VerifiedMembers() ([]Verified, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Verified
	for address, row := range d.verified {
		v, err := d.verifiedState(address, row)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Verified) int { return cmp.Compare(a.Address, b.Address) })
	return out, nil
}

// verifiedState holds a pin against who has the address by what this device knows.
func (d *Device) verifiedState(address string, row *verifiedRow) (Verified, error) {
	v := Verified{Address: address, State: "unknown", At: row.At, How: row.How}
	to, err := wire.ParseAddress(address)
	if err != nil {
		return v, err
	}
	var k memberKey
	switch err := d.vault.view(func(t *txn) error { return t.metaJSON(nameKey(to), &k) }); {
	case errors.Is(err, errNoRecord):
		return v, nil
	case err != nil:
		return v, err
	}
	m, err := d.chains.get(k)
	if err != nil {
		return v, nil
	}
	if v.State = "changed"; row.holds(m) {
		v.State, v.Renewed = "verified", !ed25519.PublicKey(row.Key).Equal(m.Key)
	}
	return v, nil
}

// gradeOf is a member's state in lists: "verified", "changed" or nothing.
func (d *Device) gradeOf(k memberKey) string {
	m, err := d.chains.get(k)
	if err != nil {
		return ""
	}
	switch pins := d.pinsOf(m); {
	case len(pins) == 0 && d.mustVerify && k.Org != d.account.Organization:
		return "to be verified"
	case len(pins) == 0:
		return ""
	case d.holdPins(m, pins):
		return "verified"
	}
	return "changed"
}
