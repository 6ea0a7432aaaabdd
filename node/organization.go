package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// OpenOrganization verifies the manifests of a node's folder, whether it runs or not.
func OpenOrganization(dir string) (*identity.Organization, error) {
	notes, err := readNotes(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, err
	}
	o, err := identity.VerifyManifests(notes, wire.OrganizationID{})
	if err != nil {
		return nil, fmt.Errorf("node: %s: %w", ManifestFile, err)
	}
	return o, nil
}

// RotateRoot brings the pre-committed root of a folder's organization into office and commits
// to a new one after it. rootFile holds the present keys; the new ones are sealed into out,
// which must not exist, before the manifest that needs them is written. A node that runs
// shows the manifest after its next start.
func RotateRoot(dir, rootFile, out string, passphrase []byte, now time.Time) (*identity.Organization, error) {
	o, err := OpenOrganization(dir)
	if err != nil {
		return nil, err
	}
	keys, err := identity.OpenRootKeys(rootFile, passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(keys.Root)
	defer clear(keys.Next)
	public := keys.Next.Public().(ed25519.PublicKey)
	if identity.NextRootHash(public) != o.Manifest.NextRoot {
		return nil, fmt.Errorf("%s holds other keys than those that the present manifest commits to: %w", rootFile, ErrOtherRoot)
	}
	after, afterPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("node: making a key: %w", err)
	}
	defer clear(afterPrivate)
	rotated, err := o.Remanifest(keys.Next, after, o.Manifest.Addresses, o.Manifest.API, now)
	if err != nil {
		return nil, err
	}
	if err := identity.SaveRootKeys(out, passphrase, &identity.RootKeys{Root: keys.Next, Next: afterPrivate}); err != nil {
		return nil, err
	}
	if err := replaceFile(filepath.Join(dir, ManifestFile), []byte(joinNotes(rotated.Notes))); err != nil {
		return nil, fmt.Errorf("%w (the new keys are in %s; look with: entente organization show)", err, out)
	}
	return rotated, nil
}

// remanifest has the present root of a folder's organization sign the next manifest, and
// writes it. A node that runs shows it after its next start.
func remanifest(dir, rootFile string, passphrase []byte, next func(*identity.Organization, ed25519.PrivateKey) (*identity.Organization, error)) (*identity.Organization, error) {
	o, err := OpenOrganization(dir)
	if err != nil {
		return nil, err
	}
	keys, err := identity.OpenRootKeys(rootFile, passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(keys.Root)
	defer clear(keys.Next)
	if !o.Manifest.Root.Equal(keys.Root.Public()) {
		return nil, fmt.Errorf("%s holds another root key than that of the present manifest: %w", rootFile, ErrOtherRoot)
	}
	if o, err = next(o, keys.Root); err != nil {
		return nil, err
	}
	return o, replaceFile(filepath.Join(dir, ManifestFile), []byte(joinNotes(o.Notes)))
}

// Readdress signs a manifest with other addresses; the API as before. Partners follow it when
// they are linked.
func Readdress(dir, rootFile string, passphrase []byte, addresses []string, now time.Time) (*identity.Organization, error) {
	return remanifest(dir, rootFile, passphrase, func(o *identity.Organization, root ed25519.PrivateKey) (*identity.Organization, error) {
		return o.Remanifest(root, nil, addresses, o.Manifest.API, now)
	})
}

// Rename signs a manifest with another name of the organization. Partners follow it when they
// are linked.
func Rename(dir, rootFile string, passphrase []byte, name string, now time.Time) (*identity.Organization, error) {
	return remanifest(dir, rootFile, passphrase, func(o *identity.Organization, root ed25519.PrivateKey) (*identity.Organization, error) {
		return o.Rename(root, name, now)
	})
}

// DeclareIncident signs a manifest that tells of an incident, and with which the directory
// begins a new log when the node is started next (docs/protocol.md 2.16).
func DeclareIncident(dir, rootFile string, passphrase []byte, reason string, now time.Time) (*identity.Organization, error) {
	return remanifest(dir, rootFile, passphrase, func(o *identity.Organization, root ed25519.PrivateKey) (*identity.Organization, error) {
		return o.Declare(root, reason, now)
	})
}

// Announced are the addresses that a folder's configuration names, and those that its
// manifest does.
func Announced(dir string) (configured, signed []string, err error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return nil, nil, err
	}
	o, err := OpenOrganization(dir)
	if err != nil {
		return nil, nil, err
	}
	return c.announced(), o.Manifest.Addresses, nil
}

// replaceFile puts a file in the place of another: after a crash one of the two is there whole.
func replaceFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-*") // 0600
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}
