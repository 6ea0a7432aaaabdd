package device

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"

	"github.com/entente-im/entente/wire"
)

// ownActs is what this device has itself asked the directory to change about its member, and
// the directory need not be watched for; meta record "selfacts".
type ownActs struct {
	Devices []wire.DeviceID `json:"devices,omitempty"` // linked or revoked by this one
	Keys    [][]byte        `json:"keys,omitempty"`    // that this one has put in the place of others
}

const (
	ownActsKey = "selfacts"
	maxOwnActs = 64
)

// acts notes what this device is about to ask for.
func (d *Device) acts(change func(*ownActs)) error {
	return d.vault.update(func(t *txn) error {
		var a ownActs
		if err := t.metaJSON(ownActsKey, &a); err != nil && !errors.Is(err, errNoRecord) {
			return err
		}
		change(&a)
		a.Devices, a.Keys = a.Devices[max(0, len(a.Devices)-maxOwnActs):], a.Keys[max(0, len(a.Keys)-maxOwnActs):]
		return t.putMetaJSON(ownActsKey, a)
	})
}

// explains reports whether all that two versions of one's record differ in was asked for by
// this device, and that is something: a version without a reason is told.
func (a ownActs) explains(before, now selfRow) bool {
	some := false
	for _, list := range [][2][]wire.DeviceID{{before.Devices, now.Devices}, {now.Devices, before.Devices}} {
		for _, id := range list[1] {
			if slices.Contains(list[0], id) {
				continue
			}
			if some = true; !slices.Contains(a.Devices, id) {
				return false
			}
		}
	}
	if len(before.Key) == 0 || bytes.Equal(before.Key, now.Key) {
		return some
	}
	return slices.ContainsFunc(a.Keys, func(k []byte) bool { return bytes.Equal(k, now.Key) })
}

// publicOf is the key of a seed.
func publicOf(seed []byte) []byte {
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}
