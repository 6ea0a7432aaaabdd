package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The same bytes are a torn tail when nobody was promised them, and damage when the
// marks say that they were synced.
func TestATornTailIsCutOffAndAPromisedOneIsNamed(t *testing.T) {
	for _, promised := range []bool{false, true} {
		o := testOptions(t.TempDir(), newTestClock())
		s := openStore(t, o)
		deposit(t, s, "one", time.Hour, 1)
		if err := s.settle(); err != nil {
			t.Fatal(err)
		}
		marksPath := filepath.Join(o.Dir, marksFile)
		marks, err := os.ReadFile(marksPath)
		if err != nil {
			t.Fatal(err)
		}
		deposit(t, s, "two", time.Hour, 1)
		b := s.page(1, 1, 1, 1<<30, true)[0].body
		closeStore(t, s)
		if !promised {
			if err := os.WriteFile(marksPath, marks, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.OpenFile(s.segPath(1), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 8), int64(b.off)+headerSize+int64(b.headLen)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		s = openStore(t, o)
		n, _ := s.Count(1)
		want(t, "references", n, map[bool]int{false: 1, true: 2}[promised])
		want(t, "named", s.Status().DamagedCount > 0, promised)
		again := deposit(t, s, "three", time.Hour, 2)
		want(t, "number goes on", again > 1, true)
		closeStore(t, s)
		s = openStore(t, o)
		want(t, "named after the next start", s.Status().DamagedCount > 0, promised)
		want(t, "rest", bodies(t, s, 2), []string{"three"})
		closeStore(t, s)
	}
}
