package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Doctor looks at a stopped node's folder and changes nothing in it: configuration,
// keys, manifest, certificate, and every record of the store. It returns what it
// found wrong, what else an operator should know (what a restore has cost lately), and an
// error when it could not look.
func Doctor(ctx context.Context, dir string, passphrase []byte) (out, notes []string, err error) {
	config, err := LoadConfig(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil, err
	}
	if err != nil {
		return []string{err.Error()}, nil, nil
	}
	n := &Node{config: config, clock: wallClock{}}
	keys, err := n.openIdentity(Options{Dir: dir, Passphrase: passphrase})
	if errors.Is(err, ErrPassphrase) {
		return nil, nil, err
	}
	if err != nil {
		return append(out, err.Error()), nil, nil
	}
	c, err := identity.VerifyNodeCertificate(n.certificate, n.org, wire.DeviceID(n.peer), time.Now())
	if err == nil && time.Until(c.NotAfter) < 30*24*time.Hour {
		out = append(out, fmt.Sprintf("the node certificate ends on %s: make a new one", wire.FormatTime(c.NotAfter)))
	}
	o := store.Options{Dir: filepath.Join(dir, StoreFolder), SealKey: keys.Store, Bucket: config.Bucket}
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, BlobFolder)); err == nil {
			return append(out, "the folder "+StoreFolder+" is missing, with all that the node has kept"), nil, nil
		}
		return out, []string{"the node was never started: there is no folder " + StoreFolder + " yet"}, nil
	}
	findings, err := store.Fsck(ctx, o, func(s *store.Store) { notes, _ = lossesIn(s, n.clock.Now()) })
	var locked *store.ErrLocked
	if errors.As(err, &locked) {
		return out, nil, fmt.Errorf("%w: process %d; stop it first", ErrLocked, locked.PID)
	}
	for _, f := range findings {
		out = append(out, f.String())
	}
	return out, notes, err
}
