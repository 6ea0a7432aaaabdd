package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWhoHasAStoreOpenIsSaidAndNothingIsChanged(t *testing.T) {
	o := Options{Dir: t.TempDir(), Reserve: -1}
	if err := Held(o.Dir); err != nil {
		t.Errorf("no store: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "lock")); err == nil {
		t.Error("looking has made a lock")
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var locked *ErrLocked
	if err := Held(o.Dir); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("open: %v", err)
	}
	s.Close()
	if err := os.WriteFile(filepath.Join(o.Dir, "lock"), []byte("7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Held(o.Dir); err != nil {
		t.Errorf("closed: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(o.Dir, "lock")); string(b) != "7\n" {
		t.Errorf("looking has written %q", b)
	}
}
