package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fillUntilFull deposits until ErrFull and returns how many were accepted.
func fillUntilFull(t *testing.T, s *Store) int {
	t.Helper()
	body := strings.Repeat("b", 32<<10)
	for n := 0; ; n++ {
		var b Batch
		b.Deposit(Deposit{Body: []byte(body), Meta: metaFor(body), Deadline: s.o.Clock.Now().Add(time.Hour), Queues: []QueueID{1}})
		if _, err := s.Commit(context.Background(), &b); errors.Is(err, ErrFull) {
			return n
		} else if err != nil {
			t.Fatalf("after %d deposits: %v", n, err)
		}
	}
}

// A flipped bit in the log takes at most its own record, and what it takes is named.
func TestAFlippedBitIsNamedAndTakesNothingElse(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	const n = 60
	for i := range n {
		deposit(t, s, fmt.Sprintf("body %d %s", i, strings.Repeat("x", 500)), time.Hour, 1)
		var b Batch
		b.Put(fmt.Appendf(nil, "row/%02d", i), []byte(strings.Repeat("v", 300)))
		commit(t, s, &b)
	}
	g := s.segments[0]
	dataOff, end := g.dataOff, g.end
	closeStore(t, s)
	path := filepath.Join(o.Dir, "log", "00000001.seg")
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hits := 0
	for range 150 {
		at := dataOff + rand.Int64N(end-dataOff)
		if rand.IntN(5) == 0 { // a slot of a deposit
			at = segHeader + rand.Int64N(n*slotBytes)
		}
		broken := append([]byte(nil), clean...)
		broken[at] ^= 1 << rand.IntN(8)
		restore(t, o.Dir, path, broken)
		hits += checkFlip(t, o, at, n)
	}
	if hits < 100 {
		t.Fatalf("only %d of 150 flips hit anything", hits)
	}
}

// restore puts one broken segment in place of all.
func restore(t *testing.T, dir, path string, b []byte) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func checkFlip(t *testing.T, o Options, at int64, n int) (hit int) {
	t.Helper()
	s := openStore(t, o)
	defer closeStore(t, s)
	items, err := s.Fetch(1, 0, 1000, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	good, named := 0, int(s.Status().DamagedCount)
	for _, it := range items {
		if it.Err != nil {
			named++
			continue
		}
		if !strings.HasPrefix(string(it.Body), "body ") || string(it.Meta) != string(metaFor(string(it.Body))) {
			t.Fatalf("flip at %d: a wrong body", at)
		}
		good++
	}
	rows := 0
	for i := range n {
		v, err := s.Get(fmt.Appendf(nil, "row/%02d", i))
		switch {
		case err == nil && len(v) == 300:
			rows++
		case errors.Is(err, ErrDamaged):
			named++
		case !errors.Is(err, ErrNotFound):
			t.Fatalf("flip at %d: row %d: %d bytes, %v", at, i, len(v), err)
		}
	}
	if missing := 2*n - good - rows; missing > 1 {
		t.Fatalf("flip at %d took %d records", at, missing)
	} else if missing == 1 && named == 0 {
		t.Fatalf("flip at %d: a record is missing and nothing is named", at)
	}
	if named > 0 {
		return 1
	}
	return 0
}

func TestALostSegmentAndALostEndAreNamed(t *testing.T) {
	for name, lose := range map[string]string{"the newest": "00000003.seg", "one between": "00000002.seg", "the oldest": "00000001.seg"} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t.TempDir(), newTestClock())
			o.Slack = 1 << 30
			for range 3 {
				s := openStore(t, o)
				deposit(t, s, "one", time.Hour, 1)
				closeStore(t, s)
			}
			if err := os.Remove(filepath.Join(o.Dir, "log", lose)); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, o)
			st := s.Status()
			if st.DamagedCount == 0 {
				t.Fatal("nothing is named")
			}
			want(t, "recovering", st.Recovering, true)
			want(t, "rest", len(bodies(t, s, 1)), 2)
			again := deposit(t, s, "two", time.Hour, 1)
			if again <= 3 {
				t.Fatalf("number %d was given out again", again)
			}
			closeStore(t, s)
			s = openStore(t, o)
			want(t, "still recovering", s.Status().Recovering, true)
			if err := s.AcceptLoss(); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			s = openStore(t, o)
			want(t, "accepted", s.Status().Recovering, false)
			closeStore(t, s)
		})
	}
}

func TestFsckNamesDamageAndChangesNothing(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	deposit(t, s, strings.Repeat("y", 500), time.Hour, 1)
	closeStore(t, s)
	if f, err := Fsck(context.Background(), o, nil); err != nil || len(f) != 0 {
		t.Fatalf("a sound store: %v, %v", f, err)
	}
	path := filepath.Join(o.Dir, "log", "00000001.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[layout(uint32(o.SegmentSize/1024))+300] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Fsck(context.Background(), o, nil); err != nil || len(f) == 0 {
		t.Fatalf("a damaged store: %v, %v", f, err)
	}
	after, _ := os.ReadFile(path)
	want(t, "unchanged", string(after) == string(b), true)
}
