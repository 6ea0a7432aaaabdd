package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

const custodianLabel = "entente.im/custodian-key/v1"

// custodianFile is what lies sealed in a custodian's file.
type custodianFile struct{ Key ed25519.PrivateKey }

// NewCustodianKey makes a custodian's key and seals it into a new file. What it returns is
// given to the organization, which names it in its manifest.
func NewCustodianKey(path string, passphrase []byte) (ed25519.PublicKey, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: making a key: %w", err)
	}
	defer clear(key)
	return pub, save(path, passphrase, custodianLabel, &custodianFile{key})
}

// OpenCustodianKey is the inverse; the caller erases the key after use.
func OpenCustodianKey(path string, passphrase []byte) (ed25519.PrivateKey, error) {
	var f custodianFile
	if err := open(path, passphrase, custodianLabel, &f); err != nil {
		return nil, err
	}
	return f.Key, checkKeys(path, f.Key)
}

// ParseCustodian reads a custodian's public key: base64 of 32 bytes.
func ParseCustodian(text string) (ed25519.PublicKey, error) {
	b, err := canonical64(text)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, refuse("a custodian's key is base64 of 32 bytes, as entente custodian init prints it")
	}
	return b, nil
}

// CustodianText is the inverse of ParseCustodian.
func CustodianText(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// WitnessText is a cosigner's verifier key, the inverse of ParseWitness.
func WitnessText(c Cosigner) string {
	var hash [4]byte
	h := cosignerKey{Cosigner: c}.KeyHash()
	hash[0], hash[1], hash[2], hash[3] = byte(h>>24), byte(h>>16), byte(h>>8), byte(h)
	return strings.Join([]string{c.Owner, hex.EncodeToString(hash[:]), base64.StdEncoding.EncodeToString(append([]byte{4}, c.Public...))}, "+")
}

// Entrust signs a manifest that names custodians, of whom threshold together may bring in a
// new root, and the witnesses of the time that this takes. The present root signs.
func (o *Organization) Entrust(root ed25519.PrivateKey, custodians []ed25519.PublicKey, threshold uint64, witnesses []Cosigner, now time.Time) (*Organization, error) {
	return o.extend(root, now, func(m *Manifest) { m.Custodians, m.Threshold, m.Witnesses = custodians, threshold, witnesses })
}

// extend signs the next manifest, which differs from the last one by a change, and verifies
// the longer chain as everybody else will.
func (o *Organization) extend(root ed25519.PrivateKey, now time.Time, change func(*Manifest)) (*Organization, error) {
	m, err := o.Successor(now)
	if err != nil {
		return nil, err
	}
	change(&m)
	note, err := m.Sign(root)
	if err != nil {
		return nil, err
	}
	return VerifyManifests(append(slices.Clone(o.Notes), note), o.ID)
}

// BeginRecovery signs, with a new root, the manifest that custodians are asked to bring in:
// as the last one, but for the root and the key committed to after it.
func (o *Organization) BeginRecovery(keys *RootKeys, now time.Time) (string, error) {
	m, err := o.Successor(now)
	if err != nil {
		return "", err
	}
	m.Root, m.NextRoot = public(keys.Root), NextRootHash(public(keys.Next))
	note, err := m.Sign(keys.Root)
	if err != nil {
		return "", err
	}
	_, err = OpenRecovery(o, note)
	return note, err
}
