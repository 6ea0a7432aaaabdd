package sim

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entente-im/entente/wire"
)

func TestTwoDevicesOfOneOrganizationTalkInABubble(t *testing.T) {
	root, templates := ramFolder(t), ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := prepare(templates, "acme.example"); err != nil {
			t.Fatal(err)
		}
		w := newWorld(1, root)
		s, err := w.site(templates, "acme.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.halt(); err != nil {
				t.Error(err)
			}
		}()
		ctx := context.Background()
		alice, err := w.person(ctx, s, "alice")
		if err != nil {
			t.Fatal(err)
		}
		defer alice.close()
		bob, err := w.person(ctx, s, "bob")
		if err != nil {
			t.Fatal(err)
		}
		defer bob.close()
		if err := alice.send(bob, wire.RoomID{}, w.ledger.write(alice, bob, nil)); err != nil {
			t.Fatal(err)
		}
		if err := bob.visit(0); err != nil {
			t.Fatal(err)
		}
		if texts, shown := w.ledger.count(); texts != 1 || shown != 1 || len(w.ledger.faults) > 0 {
			t.Errorf("%d texts, %d shown: %v", texts, shown, w.ledger.faults)
		}
		t.Logf("virtual time %s", time.Since(began))
	})
}

// ramFolder is a temporary folder in memory where the machine has one.
func ramFolder(t *testing.T) string {
	t.Helper()
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "entente-sim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
