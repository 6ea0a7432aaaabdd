package identity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSealedOpensWithItsPassphraseAndLabelOnly(t *testing.T) {
	pass, plain := []byte("correct horse"), []byte("the secret of the house")
	sealed, err := Seal(pass, plain, "label")
	must(t, err)
	if bytes.Contains(sealed, plain) {
		t.Fatal("the plaintext stands in the sealed bytes")
	}
	again, err := Unseal(pass, sealed, "label")
	must(t, err)
	if !bytes.Equal(again, plain) {
		t.Errorf("opens as %q", again)
	}
	for name, open := range map[string]func() ([]byte, error){
		"wrong passphrase": func() ([]byte, error) { return Unseal([]byte("correct hors"), sealed, "label") },
		"no passphrase":    func() ([]byte, error) { return Unseal(nil, sealed, "label") },
		"another label":    func() ([]byte, error) { return Unseal(pass, sealed, "labe") },
		"another salt":     func() ([]byte, error) { return Unseal(pass, flipped(sealed, sealHeader-40), "label") },
		"another nonce":    func() ([]byte, error) { return Unseal(pass, flipped(sealed, sealHeader-1), "label") },
		"last byte":        func() ([]byte, error) { return Unseal(pass, flipped(sealed, len(sealed)-1), "label") },
		"cut":              func() ([]byte, error) { return Unseal(pass, sealed[:len(sealed)-1], "label") },
		"cheaper header":   func() ([]byte, error) { return Unseal(pass, flipped(sealed, len(sealMagic)+3), "label") },
	} {
		if b, err := open(); !errors.Is(err, ErrPassphrase) || b != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	other, err := Seal(pass, plain, "label")
	must(t, err)
	if bytes.Equal(other[sealHeader-40:], sealed[sealHeader-40:]) {
		t.Error("two seals of one text are equal")
	}
}

// A header that asks for a gigabyte or an hour must not be obeyed: nothing below
// runs Argon2id, so the test is fast only as long as it is refused first.
func TestCostsOfAStrangersHeaderAreRefusedBeforeTheyArePaid(t *testing.T) {
	base := append([]byte(sealMagic), make([]byte, sealHeader)...)
	base = append(base, make([]byte, 64)...)
	for _, c := range []struct{ passes, memory, threads uint32 }{
		{0, 65536, 4}, {17, 65536, 4}, {1 << 31, 65536, 4}, {3, 0, 4}, {3, 31, 4}, {3, 1<<18 + 1, 4}, {3, 1<<32 - 1, 4}, {3, 65536, 0}, {3, 65536, 17},
	} {
		b := bytes.Clone(base)
		binary.BigEndian.PutUint32(b[len(sealMagic):], c.passes)
		binary.BigEndian.PutUint32(b[len(sealMagic)+4:], c.memory)
		b[len(sealMagic)+8] = byte(c.threads)
		if _, _, _, err := parseSealed(b); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := Unseal(nil, []byte("something else"), ""); err == nil {
		t.Error("something else opens")
	}
	if _, err := Unseal(nil, append([]byte(sealMagic), make([]byte, MaxSealed)...), ""); err == nil {
		t.Error("a file over the limit is read")
	}
	if _, err := Seal(nil, make([]byte, MaxSealed), ""); err == nil {
		t.Error("more than can be opened is sealed")
	}
}

func TestKeyFilesComeBackAndAreNeverOverwritten(t *testing.T) {
	dir, pass := t.TempDir(), []byte("a passphrase")
	root, keys, err := NewKeys()
	must(t, err)
	path := filepath.Join(dir, "keys.sealed")
	must(t, SaveNodeKeys(path, pass, keys))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	again, err := OpenNodeKeys(path, pass)
	must(t, err)
	if !again.Peer.Equal(keys.Peer) || !again.VRF.Equal(keys.VRF) || again.Store != keys.Store || again.Handles != keys.Handles || again.Auth != keys.Auth {
		t.Error("other keys come back")
	}
	before, err := os.ReadFile(path)
	must(t, err)
	for _, secret := range [][]byte{keys.Peer.Seed(), keys.Store[:], keys.Handles[:]} {
		if bytes.Contains(before, secret) {
			t.Error("a key stands in the file")
		}
	}
	if err := SaveNodeKeys(path, pass, keys); !errors.Is(err, os.ErrExist) {
		t.Errorf("saving over it: %v", err)
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	if _, err := OpenNodeKeys(path, []byte("another")); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), path) {
		t.Errorf("another passphrase: %v", err)
	}
	// One kind of file is not taken for the other.
	if _, err := OpenRootKeys(path, pass); !errors.Is(err, ErrPassphrase) {
		t.Errorf("node keys open as root keys: %v", err)
	}
	must(t, SaveRootKeys(filepath.Join(dir, "root.sealed"), pass, root))
	r, err := OpenRootKeys(filepath.Join(dir, "root.sealed"), pass)
	must(t, err)
	if !r.Root.Equal(root.Root) || !r.Next.Equal(root.Next) {
		t.Error("other root keys come back")
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 2 {
		t.Errorf("%v is left in the folder", left)
	}
}

func TestKeyFileOfAnOverlongSizeOrWithoutAKeyIsRefused(t *testing.T) {
	dir, pass := t.TempDir(), []byte("a passphrase")
	path := filepath.Join(dir, "long")
	must(t, os.WriteFile(path, make([]byte, MaxSealed+1), 0o600))
	if _, err := OpenNodeKeys(path, pass); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a long file: %v", err)
	}
	_, keys, err := NewKeys()
	must(t, err)
	keys.Hub = nil
	path = filepath.Join(dir, "without")
	must(t, SaveNodeKeys(path, pass, keys))
	if _, err := OpenNodeKeys(path, pass); err == nil || !strings.Contains(err.Error(), "lacks") {
		t.Errorf("a file without a key: %v", err)
	}
	if err := SaveNodeKeys(filepath.Join(dir, "missing", "keys"), pass, keys); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that does not exist: %v", err)
	}
}
