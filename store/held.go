package store

import (
	"errors"
	"io/fs"
)

// Held says by whom a store's folder is open: an *ErrLocked, or nil where nobody has it, or
// there is none. It changes nothing, and somebody may open the store right after it.
func Held(dir string) error {
	f, err := openLock(dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
