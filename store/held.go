package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Held says by whom a store's folder is open: an *ErrLocked, or nil where nobody has it, or
// there is none. It changes nothing, and somebody may open the store right after it.
func Held(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "lock")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := takeLock(dir)
	if err != nil {
		return err
	}
	return f.Close()
}
