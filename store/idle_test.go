package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// crashCopy copies a store's folder while it is open and idle: what a crash leaves.
func crashCopy(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// P5 for a store that nobody writes to: the bucket's end is brought about, and is on
// disk, without a write of anybody; a clock put back does not bring it back.
func TestAnIdleStoreEndsABucketOnTimeAndRemembersIt(t *testing.T) {
	c := newTestClock()
	o := testOptions(t.TempDir(), c)
	o.SegmentSize = MinSegmentSize
	s := openStore(t, o)
	gone := deposit(t, s, "for a moment", time.Second, 1)
	deposit(t, s, "for an hour", time.Hour, 1)
	r := retain(t, s, 1)
	opened, slots := hunt(t, o.Dir, r, 4)
	if r.slots = slots; !opened {
		t.Fatal("positive control: the key is not found while it lives")
	}
	start := c.Now()
	c.advance(20*time.Second, 20*time.Second)
	waitFor(t, "the step", func() bool { return s.ratchet.living() >= livingAt(c.Now(), o.Bucket) })
	o.Dir = crashCopy(t, o.Dir)
	closeStore(t, s)
	if opened, _ := hunt(t, o.Dir, r, 4); opened {
		t.Fatal("the key of an ended bucket is left in the files")
	}
	c.advance(start.Sub(c.Now()), 0)
	s = openStore(t, o)
	defer closeStore(t, s)
	healthy(t, s)
	items, err := s.Fetch(1, 0, 10, 1<<20)
	if err != nil || len(items) != 1 || string(items[0].Body) != "for an hour" {
		t.Fatalf("with the clock put back: %v, %v", items, err)
	}
	expired, err := s.Expired(10)
	if err != nil || len(expired) != 1 || expired[0].LSN != gone {
		t.Fatalf("the ended bucket's reference is not listed as expired: %v, %v", expired, err)
	}
	deposit(t, s, "new", time.Second, 2)
	want(t, "what is deposited under the old clock", bodies(t, s, 2), []string{"new"})
}

// The marks seal the log of an idle store: what is damaged in its last group later is
// named, although no record follows it.
func TestTheLastGroupOfAnIdleStoreIsSealedByTheMarks(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	lsn := deposit(t, s, "the last one", time.Hour, 1)
	waitFor(t, "the marks", func() bool {
		s.marks.mu.Lock()
		defer s.marks.mu.Unlock()
		return s.marks.saved.seq >= uint64(lsn)
	})
	b := s.page(1, 0, 1, 1<<30, true)[0].body
	o.Dir = crashCopy(t, o.Dir)
	at := int64(b.off) + headerSize + int64(b.headLen)
	name := filepath.Base(s.segPath(b.seg.id))
	closeStore(t, s)
	f, err := os.OpenFile(filepath.Join(o.Dir, "log", name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4), at); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = openStore(t, o)
	defer closeStore(t, s)
	want(t, "named damages", s.Status().DamagedCount, 1)
	items, err := s.Fetch(1, 0, 1, 1<<20)
	if err != nil || len(items) != 1 || items[0].Err == nil {
		t.Fatalf("the damaged one is served as %v, %v", items, err)
	}
}
