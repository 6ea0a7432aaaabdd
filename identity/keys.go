package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/entente-im/entente/wire"
)

// RootKeys are needed only to change an organization's manifest; they can be kept
// offline.
type RootKeys struct {
	Root ed25519.PrivateKey
	Next ed25519.PrivateKey // the manifest commits to its hash
}

// NodeKeys are what a running node needs, one key per use.
type NodeKeys struct {
	Directory ed25519.PrivateKey // member records
	Cosigner  ed25519.PrivateKey // partners' checkpoints
	VRF       ed25519.PrivateKey // labels of the directory
	Hub       ed25519.PrivateKey // external sender of rooms
	Node      ed25519.PrivateKey // agreements, notices, node certificates
	Peer      ed25519.PrivateKey // the libp2p peer
	Store     [32]byte           // seals records on disk
	Handles   [16]byte           // return handles
	Auth      [32]byte           // bearer tokens
}

const (
	rootLabel = "entente.im/root-keys/v1"
	nodeLabel = "entente.im/node-keys/v1"
)

// NewKeys makes all keys of a new organization and its node.
func NewKeys() (*RootKeys, *NodeKeys, error) {
	r, n := &RootKeys{}, &NodeKeys{}
	for _, k := range []*ed25519.PrivateKey{&r.Root, &r.Next, &n.Directory, &n.Cosigner, &n.VRF, &n.Hub, &n.Node, &n.Peer} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, fmt.Errorf("identity: making a key: %w", err)
		}
		*k = private
	}
	for _, b := range [][]byte{n.Store[:], n.Handles[:], n.Auth[:]} {
		if _, err := rand.Read(b); err != nil {
			return nil, nil, fmt.Errorf("identity: making a key: %w", err)
		}
	}
	return r, n, nil
}

// SaveRootKeys seals the root keys into a new file.
func SaveRootKeys(path string, passphrase []byte, k *RootKeys) error {
	return save(path, passphrase, rootLabel, k)
}

// OpenRootKeys is the inverse of SaveRootKeys.
func OpenRootKeys(path string, passphrase []byte) (*RootKeys, error) {
	k := &RootKeys{}
	if err := open(path, passphrase, rootLabel, k); err != nil {
		return nil, err
	}
	return k, checkKeys(path, k.Root, k.Next)
}

// SaveNodeKeys seals the node's keys into a new file.
func SaveNodeKeys(path string, passphrase []byte, k *NodeKeys) error {
	return save(path, passphrase, nodeLabel, k)
}

// OpenNodeKeys is the inverse of SaveNodeKeys.
func OpenNodeKeys(path string, passphrase []byte) (*NodeKeys, error) {
	k := &NodeKeys{}
	if err := open(path, passphrase, nodeLabel, k); err != nil {
		return nil, err
	}
	return k, checkKeys(path, k.Directory, k.Cosigner, k.VRF, k.Hub, k.Node, k.Peer)
}

func checkKeys(path string, keys ...ed25519.PrivateKey) error {
	for _, k := range keys {
		if len(k) != ed25519.PrivateKeySize {
			return fmt.Errorf("identity: %s lacks a key", path)
		}
	}
	return nil
}

// save writes a sealed file that must not exist, mode 0600. Either the whole file is
// there and synced, or none: it is written beside its place and linked into it.
func save(path string, passphrase []byte, label string, v any) (err error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("identity: encoding keys: %w", err)
	}
	defer clear(plain)
	sealed, err := Seal(passphrase, plain, label)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sealing-*") // 0600
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(sealed)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil { // fails when path exists
		return fmt.Errorf("identity: %w", err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer d.Close()
	return d.Sync()
}

func open(path string, passphrase []byte, label string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if info.Size() > MaxSealed {
		return fmt.Errorf("identity: %s has %d bytes", path, info.Size())
	}
	sealed, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	plain, err := Unseal(passphrase, sealed, label)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("identity: %s holds something else than keys", path)
	}
	return nil
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func noteKey(owner string, k ed25519.PrivateKey) wire.NoteKey {
	return wire.NoteKey{Owner: owner, Public: public(k), Private: k}
}
