package node

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/entente-im/entente/identity"
)

// ErrOtherRoot says that a file, or no file of a folder, holds the root key which the present
// manifest is signed by.
var ErrOtherRoot = errors.New("not the root key in office")

// FindRoot returns the file in a node's folder that holds the root key in office: after a
// rotation that is no longer RootFile, and the old file may still be there. The youngest are
// tried first, as each try costs what a passphrase does. ErrPassphrase when one might be it
// and does not open; ErrOtherRoot when none is.
func FindRoot(dir string, passphrase []byte) (string, error) {
	o, err := OpenOrganization(dir)
	if err != nil {
		return "", err
	}
	files, err := rootFiles(dir)
	if err != nil {
		return "", err
	}
	var closed error
	for _, f := range files {
		keys, err := identity.OpenRootKeys(f, passphrase)
		if err != nil {
			closed = cmp.Or(closed, err)
			continue
		}
		ours := o.Manifest.Root.Equal(keys.Root.Public())
		clear(keys.Root)
		clear(keys.Next)
		if ours {
			return f, nil
		}
	}
	if closed != nil {
		return "", closed
	}
	return "", fmt.Errorf("no file in %s holds the organization's root key: %w", dir, ErrOtherRoot)
}

// rootFiles are those of a folder that may hold root keys, the youngest first.
func rootFiles(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*root*.sealed"))
	if err != nil {
		return nil, err
	}
	made := make(map[string]int64)
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			made[f] = info.ModTime().UnixNano()
		}
	}
	slices.SortStableFunc(files, func(a, b string) int { return cmp.Compare(made[b], made[a]) })
	return files, nil
}
