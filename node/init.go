package node

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// What lies in a node's data folder beside node.yaml and operator.sock.
const (
	RootFile        = "root.sealed"      // the organization's root and next root key
	KeysFile        = "keys.sealed"      // the node's working keys
	ManifestFile    = "manifest.notes"   // manifests from genesis on, each ended by a blank line and "."
	CertificateFile = "certificate.note" // the node certificate
	StoreFolder     = "store"
	ACMEFolder      = "acme" // certificates of a CA, sealed
)

// Made is what Init has made.
type Made struct {
	Name string
	ID   wire.OrganizationID
	Peer wire.DeviceID
}

// Init makes an organization and a data folder for its node. Nothing is left
// behind when a step fails; a folder that holds anything already is refused.
func Init(dir, name string, passphrase []byte, c Config) (_ Made, err error) {
	if err := wire.CheckOrganizationName(name); err != nil {
		return Made{}, fmt.Errorf("node: %w", err)
	}
	if p := c.problems(); len(p) > 0 {
		return Made{}, fmt.Errorf("node: these settings do not stand:\n  %s", strings.Join(p, "\n  "))
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return Made{}, fmt.Errorf("node: %s is not empty: name another folder", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Made{}, fmt.Errorf("node: making the data folder: %w", err)
	}
	defer func() {
		if err != nil {
			for _, f := range []string{RootFile, KeysFile, ManifestFile, CertificateFile, ConfigFile} {
				_ = os.Remove(filepath.Join(dir, f))
			}
		}
	}()
	root, keys, err := identity.NewKeys()
	if err != nil {
		return Made{}, err
	}
	now := time.Now()
	org, certificate, err := identity.CreateOrganization(identity.Creation{
		Name: name, Root: root, Keys: keys, Addresses: c.announced(), API: []string{c.apiURL()}, Now: now,
	})
	if err != nil {
		return Made{}, err
	}
	if err := identity.SaveRootKeys(filepath.Join(dir, RootFile), passphrase, root); err != nil {
		return Made{}, err
	}
	if err := identity.SaveNodeKeys(filepath.Join(dir, KeysFile), passphrase, keys); err != nil {
		return Made{}, err
	}
	files := map[string]string{ManifestFile: joinNotes(org.Notes), CertificateFile: certificate, ConfigFile: c.ConfigText()}
	for file, text := range files {
		if err := writeNew(filepath.Join(dir, file), []byte(text)); err != nil {
			return Made{}, err
		}
	}
	return Made{Name: name, ID: org.ID, Peer: org.Manifest.Nodes[0].Peer}, syncFolder(dir)
}

// apiURL is the address that devices are told, always with its port.
func (c Config) apiURL() string {
	if c.API == "" {
		return "https://" + hostOf(c.Listen)
	}
	u, err := url.Parse(c.API)
	if err != nil || u.Port() != "" {
		return c.API
	}
	return "https://" + u.Host + ":443"
}

// announced lists the addresses that partners are told.
func (c Config) announced() []string {
	if len(c.Announce) > 0 {
		return c.Announce
	}
	return slices.DeleteFunc(slices.Clone(c.Federation), everywhere)
}

// everywhere reports whether a multiaddr is one to listen on and none to dial.
func everywhere(text string) bool {
	a, err := multiaddr.NewMultiaddr(text)
	return err == nil && manet.IsIPUnspecified(a)
}

func multiaddrs(texts []string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for _, t := range texts {
		a, err := multiaddr.NewMultiaddr(t)
		if err != nil {
			return nil, fmt.Errorf("node: the address %q: %w", t, err)
		}
		out = append(out, a)
	}
	return out, nil
}

const noteEnd = "\n.\n"

func joinNotes(notes []string) string { return strings.Join(notes, noteEnd) + noteEnd }

// readNotes is the inverse of joinNotes.
func readNotes(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if info.Size() > 64*wire.MaxNote {
		return nil, fmt.Errorf("node: %s has %d bytes", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	text, ok := strings.CutSuffix(string(b), noteEnd)
	if !ok {
		return nil, fmt.Errorf("node: %s is cut off", path)
	}
	return strings.Split(text, noteEnd), nil
}

// writeNew writes a file that must not exist, and syncs it.
func writeNew(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return f.Sync()
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer f.Close()
	return f.Sync()
}
