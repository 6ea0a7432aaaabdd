package node

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
)

func TestRotationThatCannotKeepItsKeysLeavesTheManifestAsItWas(t *testing.T) {
	dir, pass := filepath.Join(t.TempDir(), "acme"), []byte("correct horse")
	c := DefaultConfig()
	if _, err := Init(dir, "acme.example", pass, c); err != nil {
		t.Fatal(err)
	}
	manifest, root := filepath.Join(dir, ManifestFile), filepath.Join(dir, RootFile)
	before, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for name, rotate := range map[string]func() error{
		"no folder for the keys": func() error {
			_, err := RotateRoot(dir, root, filepath.Join(dir, "none", "root"), pass, time.Now())
			return err
		},
		"keys over keys": func() error { _, err := RotateRoot(dir, root, root, pass, time.Now()); return err },
		"another passphrase": func() error {
			_, err := RotateRoot(dir, root, filepath.Join(dir, "new"), []byte("wrong horse"), time.Now())
			return err
		},
	} {
		if rotate() == nil {
			t.Errorf("%s: rotated", name)
		}
		if after, err := os.ReadFile(manifest); err != nil || string(after) != string(before) {
			t.Errorf("%s: the manifest changed, %v", name, err)
		}
	}
	out := filepath.Join(dir, "root-1.sealed")
	o, err := RotateRoot(dir, root, out, pass, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.OpenRootKeys(out, pass)
	if err != nil {
		t.Fatal(err)
	}
	if o.RootCause() != identity.ByNextRoot || identity.NextRootHash(keys.Next.Public().(ed25519.PublicKey)) != o.Manifest.NextRoot {
		t.Errorf("rotated by %s", o.RootCause())
	}
	// The new keys rotate again.
	if again, err := RotateRoot(dir, out, filepath.Join(dir, "root-2.sealed"), pass, time.Now()); err != nil || again.Manifest.Sequence != 2 {
		t.Errorf("again: %v", err)
	}
}
