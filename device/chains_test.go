package device

import (
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
)

// leafOf is a device's own leaf in its only room.
func leafOf(t *testing.T, d *Device) mls.LeafNode {
	t.Helper()
	_, r := onlyRoom(t, d)
	return *r.state.Public().Member(r.state.OwnLeaf())
}

func named(l mls.LeafNode, change func(*wire.Credential)) mls.LeafNode {
	c, err := wire.ParseCredential(l.Credential.Identity)
	if err != nil {
		panic(err)
	}
	change(&c)
	l.Credential.Identity = c.Encode()
	return l
}

// Every way by which a leaf comes into a room goes through one validator; each must
// refuse each lie about who it is.
func TestNoLeafComesInWithoutItsWholeChain(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	alice, bob := leafOf(t, p.alice), leafOf(t, p.bob)
	aliceName, err := wire.ParseCredential(alice.Credential.Identity)
	must(t, err)
	v := p.alice.chains
	entries := map[string]mls.LeafEntry{"KeyPackage": mls.EntryKeyPackage, "Add": mls.EntryAdd, "Update": mls.EntryUpdate, "path": mls.EntryPath,
		"external Commit": mls.EntryExternalCommit, "tree": mls.EntryTree, "create": mls.EntryCreate}
	replaces := map[mls.LeafEntry]bool{mls.EntryUpdate: true, mls.EntryPath: true, mls.EntryExternalCommit: true}
	lies := map[string]mls.LeafNode{
		"another credential type": func() mls.LeafNode { l := bob; l.Credential.Type = mls.CredentialBasic; return l }(),
		"no credential":           func() mls.LeafNode { l := bob; l.Credential.Identity = nil; return l }(),
		"a byte more": func() mls.LeafNode {
			l := bob
			l.Credential.Identity = append(append([]byte{}, l.Credential.Identity...), 0)
			return l
		}(),
		"another signature key": func() mls.LeafNode { l := bob; l.SignatureKey = alice.SignatureKey; return l }(),
		"no signature key":      func() mls.LeafNode { l := bob; l.SignatureKey = nil; return l }(),
		"another certificate":   named(bob, func(c *wire.Credential) { c.Certificate[0] ^= 1 }),
		"another device":        named(bob, func(c *wire.Credential) { c.Device[0] ^= 1 }),
		"another member":        named(bob, func(c *wire.Credential) { c.Member = aliceName.Member }),
		"another organization":  named(bob, func(c *wire.Credential) { c.Organization = aliceName.Organization }),
		"a device key of no certificate": func() mls.LeafNode {
			pub, _, _ := ed25519.GenerateKey(nil)
			l := named(bob, func(c *wire.Credential) { c.Device = wire.DeviceID(pub) })
			l.SignatureKey = pub
			return l
		}(),
	}
	for entryName, entry := range entries {
		check := mls.LeafCheck{Entry: entry, New: &bob}
		if replaces[entry] {
			check.Old = &bob
		}
		if err := v.ValidateLeaf(check); err != nil {
			t.Errorf("%s: the honest leaf: %v", entryName, err)
		}
		for name, lie := range lies {
			check.New = &lie
			if err := v.ValidateLeaf(check); err == nil {
				t.Errorf("%s with %s is let in", entryName, name)
			}
		}
		if replaces[entry] {
			if err := v.ValidateLeaf(mls.LeafCheck{Entry: entry, Old: &alice, New: &bob}); err == nil {
				t.Errorf("%s: bob takes alice's leaf", entryName)
			}
		}
	}
	if err := v.ValidateLeaf(mls.LeafCheck{Entry: mls.EntryExternalCommit, New: &bob}); err == nil {
		t.Error("an external Commit brings a new leaf in")
	}
	unknown := named(bob, func(c *wire.Credential) { c.Member[0] ^= 1 })
	var need *chainNeeded
	if err := v.ValidateLeaf(mls.LeafCheck{Entry: mls.EntryAdd, New: &unknown}); !errors.As(err, &need) {
		t.Errorf("a member whose chain is not known: %v", err)
	}
	// After the revocation nobody is invited by the same leaf and it comes back by no external
	// Commit; in the room's log, which is older, it does not stop this device.
	log := map[mls.LeafEntry]bool{mls.EntryTree: true, mls.EntryAdd: true, mls.EntryUpdate: true, mls.EntryPath: true}
	must(t, p.bob.Revoke(t.Context(), p.bob.ID()))
	_, err = p.alice.fetch(t.Context(), memberKey{p.bob.account.Organization, p.bob.account.Member})
	must(t, err)
	for name, entry := range entries {
		if err := v.ValidateLeaf(mls.LeafCheck{Entry: entry, Old: &bob, New: &bob}); (err == nil) != log[entry] {
			t.Errorf("%s: a revoked device: %v", name, err)
		}
		lie := bob
		lie.SignatureKey = alice.SignatureKey
		if err := v.ValidateLeaf(mls.LeafCheck{Entry: entry, Old: &bob, New: &lie}); err == nil {
			t.Errorf("%s: another's key in the name of a revoked device is let in", name)
		}
	}
}
