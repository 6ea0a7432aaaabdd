package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Wipe destroys a device's folder: the key slots and the sealed master key are
// overwritten in place and flushed before anything is unlinked, so that what a thief
// finds of the rest opens with nothing, passphrase or not. It needs no passphrase and
// may be repeated. Who is told is Revoke's; a device that is open elsewhere is refused.
func Wipe(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, masterFile)); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, slotFile)); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %s", ErrNotEnroled, dir)
		}
	}
	db, err := openDB(dir)
	if err != nil {
		return err
	}
	// Held until the end: nobody opens what is being destroyed.
	defer db.Close()
	for _, name := range []string{slotFile, masterFile} {
		if err := overwrite(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("device: wiping %s: %w", name, err)
		}
	}
	for _, name := range []string{slotFile, dbFile, masterFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("device: %w", err)
		}
	}
	return nil
}

// overwrite replaces a file's bytes with zeros, in place and on stable storage.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a wipe that was cut off
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	return errors.Join(err, f.Sync(), f.Close())
}
