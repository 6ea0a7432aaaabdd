package policy

import (
	"bytes"
	"errors"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
)

// CredentialOf reads a leaf's credential; rooms know one type.
func CredentialOf(l *mls.LeafNode) (wire.Credential, error) {
	if l.Credential.Type != mls.CredentialEntente {
		return wire.Credential{}, errors.New("policy: a leaf with another type of credential")
	}
	return wire.ParseCredential(l.Credential.Identity)
}

// CheckLeaf holds a leaf against the one that it replaces and returns who it says that
// it is: it stays the same device of the same member, and nobody comes in by external
// Commit who was not in. Whether the certificates bear the credential out is the
// caller's to check.
func CheckLeaf(c mls.LeafCheck) (wire.Credential, error) {
	cred, err := CredentialOf(c.New)
	if err != nil {
		return cred, err
	}
	if c.Old == nil {
		if c.Entry == mls.EntryExternalCommit {
			return cred, errors.New("policy: an external Commit that replaces no leaf: rooms are joined by Welcome")
		}
		return cred, nil
	}
	old, err := CredentialOf(c.Old)
	if err != nil {
		return cred, err
	}
	if old.Organization != cred.Organization || old.Member != cred.Member || old.Device != cred.Device {
		return cred, errors.New("policy: a leaf that becomes another device's")
	}
	return cred, nil
}

// HubSender is the external_senders extension of the rooms that an organization
// orders: one sender, its hub key (docs/protocol.md 1.6).
func HubSender(org wire.OrganizationID, hubKey []byte) mls.Extension {
	c := mls.Credential{Type: mls.CredentialEntente, Identity: wire.Credential{Organization: org}.Encode()}
	return mls.ExternalSendersExtension([]mls.ExternalSender{{SignatureKey: hubKey, Credential: c}})
}

// CheckHubSender: exactly that external sender.
func CheckHubSender(list []mls.Extension, org wire.OrganizationID, hubKey []byte) error {
	have, ok := mls.FindExtension(list, mls.ExtensionExternalSenders)
	if !ok || !bytes.Equal(have, HubSender(org, hubKey).Data) {
		return errors.New("policy: the external sender is not the room's hub")
	}
	return nil
}
