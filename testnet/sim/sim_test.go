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
	root := ramFolder(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := newWorld(1, root)
		s, err := w.site(templates(), "acme.example", nil)
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

// keptFolder holds the organizations' folders while the tests run.
var keptFolder string

func TestMain(m *testing.M) {
	var err error
	if keptFolder, err = os.MkdirTemp(ramBase(), "entente-sim-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(keptFolder)
	os.Exit(code)
}

// ramBase is where folders in memory can be made; empty: this machine has no such place.
func ramBase() string {
	const base = "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		return ""
	}
	return base
}

// ramFolder is a temporary folder, in memory where the machine can.
func ramFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(ramBase(), "entente-sim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
