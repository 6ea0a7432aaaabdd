package node

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/entente-im/entente/store"
)

// Stopped returns nil when no process runs on a node's folder, else ErrLocked. A node that runs
// writes its manifests by itself where its root was forked, and shows partners those that it
// has started with: nobody signs another beside it.
func Stopped(dir string) error {
	err := store.Held(filepath.Join(dir, StoreFolder))
	var locked *store.ErrLocked
	if errors.As(err, &locked) {
		return fmt.Errorf("%w: process %d; stop it first", ErrLocked, locked.PID)
	}
	return err
}
