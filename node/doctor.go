package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Doctor looks at a stopped node's folder and changes nothing in it: configuration,
// keys, manifest, certificate, and every record of the store. It returns what it
// found wrong, and an error when it could not look.
func Doctor(ctx context.Context, dir string, passphrase []byte) ([]string, error) {
	var out []string
	config, err := LoadConfig(dir)
	if err != nil {
		return []string{err.Error()}, nil
	}
	n := &Node{config: config, clock: wallClock{}}
	keys, err := n.openIdentity(Options{Dir: dir, Passphrase: passphrase})
	if errors.Is(err, ErrPassphrase) {
		return nil, err
	}
	if err != nil {
		return append(out, err.Error()), nil
	}
	c, err := identity.VerifyNodeCertificate(n.certificate, n.org, wire.DeviceID(n.peer), time.Now())
	if err == nil && time.Until(c.NotAfter) < 30*24*time.Hour {
		out = append(out, fmt.Sprintf("the node certificate ends on %s: make a new one", wire.FormatTime(c.NotAfter)))
	}
	findings, err := store.Fsck(ctx, store.Options{Dir: filepath.Join(dir, StoreFolder), SealKey: keys.Store, Bucket: config.Bucket})
	var locked *store.ErrLocked
	if errors.As(err, &locked) {
		return out, fmt.Errorf("%w: process %d; stop it first", ErrLocked, locked.PID)
	}
	for _, f := range findings {
		out = append(out, f.String())
	}
	return out, err
}
