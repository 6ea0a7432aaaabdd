package device

import (
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// Who was away learns of a device's coming and of its revocation in one moment: its
// certificates are those of now, the room's log is that of then. So a leaf of a device that
// its member's record names as revoked does not keep this device from following the log;
// but as long as one is in a room, nothing is encrypted there, and what a device says that
// was never in force for us is not shown (docs/protocol.md 7.13).

// former decides about a leaf whose device is revoked by now; err is why it is none of the
// member's. The hub, which has checked each Commit when it came, answers for the time.
func (c *chains) former(check mls.LeafCheck, cred wire.Credential, m *identity.Member, err error) error {
	if !revoked(m, cred.Device) || string(check.New.SignatureKey) != string(cred.Device[:]) {
		return err
	}
	switch check.Entry {
	case mls.EntryTree, mls.EntryAdd, mls.EntryPath, mls.EntryUpdate:
		return nil
	}
	return err // nobody is invited by it, and it comes back into no room
}

func knewKey(id wire.DeviceID) []byte { return append([]byte("was/"), id[:]...) }

// knew reports whether a device that is revoked now was in force when we saw it before.
func (c *chains) knew(id wire.DeviceID) bool {
	return c.d.vault.view(func(t *txn) error { _, err := t.meta(knewKey(id)); return err }) == nil
}

// noteFormer notes which devices of a member were in force until now and are no more.
func (t *txn) noteFormer(known, now *identity.Member) error {
	var errs error
	for id := range known.Devices {
		if now.Devices[id] == nil {
			errs = errors.Join(errs, t.putMeta(knewKey(id), []byte{1}))
		}
	}
	return errs
}

// guard is what holdsFormer found, for an epoch and a state of the certificates.
type guard struct {
	epoch, certificates uint64
	holds               bool
}

// holdsFormer reports whether a room has a leaf whose device is revoked: its hub is to
// propose the removal, and until that is committed nothing is said in the room, whatever the
// hub does.
func (d *Device) holdsFormer(r *room) bool {
	if r.state == nil {
		return false
	}
	at := guard{epoch: r.state.Epoch(), certificates: d.chains.version()}
	if was, ok := d.guards[r.ID]; ok && was.epoch == at.epoch && was.certificates == at.certificates {
		return was.holds
	}
	for _, leaf := range r.state.Members() {
		c, err := policy.CredentialOf(leaf.Node)
		if err != nil {
			continue
		}
		if m, err := d.chains.get(memberKey{c.Organization, c.Member}); err == nil && revoked(m, c.Device) {
			at.holds = true
			break
		}
	}
	d.guards[r.ID] = at
	return at.holds
}

// checkSpeaker refuses what a device says that is revoked now and was never in force for us.
func (d *Device) checkSpeaker(c wire.Credential) error {
	m, err := d.chains.get(memberKey{c.Organization, c.Member})
	if err == nil && revoked(m, c.Device) && !d.chains.knew(c.Device) {
		return errors.New("device: a message of a device that was revoked before this one heard of it")
	}
	return nil
}

// version counts what was learned of certificates.
func (c *chains) version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}
