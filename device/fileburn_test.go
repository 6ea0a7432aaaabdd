package device

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestNoKeyOfABurnedFileIsLeftOnEitherDevice: the key of a file stands in the message that
// brought it. Whoever has the device's folder, its passphrase and an old copy of the sealed
// record opens it before the message burned, and nothing of it afterwards.
func TestNoKeyOfABurnedFileIsLeftOnEitherDevice(t *testing.T) {
	p := newPair(t)
	path, _ := fileOf(t, "burn.bin", 1000)
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{Burn: 5 * time.Second}, noStep); err != nil {
		t.Fatal(err)
	}
	id := idOf(t, p.bob.theFile(t))
	if _, err := p.bob.attachmentOf(id); err != nil {
		t.Fatal(err)
	}
	dir, before := folder(p.bob), filepath.Join(t.TempDir(), "before")
	p.bob.Close()
	copyFolder(t, dir, before)
	key, sealed := expiringRow(t, before)
	if !opens(t, before, stateBucket, string(key), sealed) {
		t.Fatal("the control: the record with the file's key does not open before it burns")
	}
	bob, err := Open(dir, testPass)
	must(t, err)
	eventually(t, "it burns", func() error {
		if _, err := bob.attachmentOf(id); err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
	must(t, bob.Sweep())
	bob.Close()
	must(t, p.alice.Sweep())
	alice := folder(p.alice)
	p.alice.Close()
	for _, d := range []string{dir, alice} {
		if opens(t, d, stateBucket, string(key), sealed) {
			t.Errorf("%s: the record with the file's key opens after it burned", filepath.Base(d))
		}
		if opensAnywhere(t, d, "burn.bin") {
			t.Errorf("%s: something still names the file", filepath.Base(d))
		}
	}
}

// expiringRow is the one sealed record of what ends, as the file of a copied folder has it.
func expiringRow(t *testing.T, dir string) (key, sealed []byte) {
	t.Helper()
	v, err := openVault(dir, testPass, time.Now)
	must(t, err)
	defer v.close()
	must(t, v.view(func(x *txn) error {
		return x.eachState(expiringPrefix, func(k, _ []byte) error {
			key, sealed = slices.Clone(k), slices.Clone(x.tx.Bucket(stateBucket).Get(k))
			return nil
		})
	}))
	if sealed == nil {
		t.Fatal("there is no record of the file")
	}
	return key, sealed
}
