package device

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/entente-im/entente/wire"
)

// A device that is stopped before or after it has stored what waits acknowledges none of it, shows
// nothing twice, and reads all when the partner is back.
func TestADeviceThatIsStoppedWhileItStoresWhatWaitsLosesNothing(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	handed := func() error { _, err := w.adam.handle(t.Context(), ds, nothing); return err }
	before := w.adam.acknowledged()
	stopAt(t, "before-store", handed)
	if w.adam = reopened(t, w.adam); w.adam.acknowledged() != before || w.adam.waitingIn(both) > 0 {
		t.Errorf("%d acknowledged, wanted %d; %d wait", w.adam.acknowledged(), before, w.adam.waitingIn(both))
	}
	// Stored as far as it can be taken; the rest is of another transaction, perhaps.
	stopAt(t, "after-store", handed)
	for range 3 {
		w.adam = reopened(t, w.adam)
		must(t, handed())
	}
	w.adam = reopened(t, w.adam)
	n := w.adam.waitingIn(both)
	if n < 3 || w.adam.mark() != ds[len(ds)-1].Seq || w.adam.acknowledged() >= w.adam.mark() {
		t.Errorf("%d wait, %d of %d is acknowledged", n, w.adam.acknowledged(), w.adam.mark())
	}
	w.hooli.start()
	var shown []Shown
	receiveUntil(t, w.adam, "what waited", func([]Shown) bool { return w.adam.waitingIn(both) == 0 })
	shown, err := w.adam.History()
	must(t, err)
	if got := texts(shown); !slices.Equal(got, []string{"before", "to the office", "one", "two"}) {
		t.Errorf("adam has read %q", got)
	}
	if slices.ContainsFunc(shown, func(s Shown) bool { return s.Event == "unreadable" || s.State == "gap" }) {
		t.Errorf("shown: %+v", shown)
	}
}

// An older copy of a device whose list of what waits is long settled keeps no acknowledgement
// back with it, and comes back into its rooms.
func TestARestoredDeviceForgetsWhatWaitedInTheCopy(t *testing.T) {
	w, both, office := parted(t, defaultBucket, 0)
	receive(t, w.adam)
	if w.adam.waitingIn(both) == 0 {
		t.Fatal("nothing waits")
	}
	dir, copied := folder(w.adam), filepath.Join(t.TempDir(), "copy")
	w.adam.Close()
	copyFolder(t, dir, copied)
	var err error
	w.adam, err = Open(dir, testPass)
	must(t, err)
	w.hooli.start()
	receiveUntil(t, w.adam, "what waited", hasTexts(2))
	sendRoom(t, w.adam, office, "after the copy")
	w.adam.Close()
	copyFolder(t, copied, dir)
	w.adam, err = Open(dir, testPass)
	must(t, err)
	t.Cleanup(w.adam.Close)
	if w.adam.waitingIn(both) == 0 {
		t.Fatal("nothing waits in the copy")
	}
	eventually(t, "it is back in its rooms", func() error {
		receive(t, w.adam)
		for _, id := range []wire.RoomID{both, office} {
			if r := w.adam.rooms[id]; r.Lost || r.Behind {
				return errBehind
			}
		}
		return nil
	})
	sendRoom(t, w.alice, both, "here again")
	receiveUntil(t, w.adam, "alice's words", func(all []Shown) bool { return slices.Contains(texts(all), "here again") })
	if n := w.adam.waitingIn(both); n > 0 || w.adam.acknowledged() != w.adam.mark() {
		t.Errorf("%d wait, %d of %d is acknowledged", n, w.adam.acknowledged(), w.adam.mark())
	}
}
