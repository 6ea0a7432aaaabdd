package slot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string, n int) *Slots {
	t.Helper()
	s, err := Open(path, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(b byte) (k [32]byte) {
	for i := range k {
		k[i] = b
	}
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAReplacedOrErasedKeyIsGoneFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots")
	s := open(t, path, 4)
	contains := func(k [32]byte) bool {
		b, err := os.ReadFile(path)
		must(t, err)
		return bytes.Contains(b, k[:])
	}
	must(t, s.PutLabelled(2, 7, key('a')))
	if !contains(key('a')) {
		t.Fatal("positive control: the key is not in the file while it is stored")
	}
	must(t, s.Put(2, key('b')))
	if contains(key('a')) || !contains(key('b')) {
		t.Fatal("the key before is still in the file")
	}
	must(t, s.Erase(2))
	if contains(key('b')) {
		t.Fatal("an erased key is still in the file")
	}
	if _, err := s.Get(2); !errors.Is(err, ErrEmpty) {
		t.Fatalf("erased: %v", err)
	}
	must(t, s.Close())
}

func TestKeysOutliveAReopenAndAGrownFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots")
	s := open(t, path, 2)
	must(t, s.PutLabelled(1, 42, key('x')))
	must(t, s.Close())
	s = open(t, path, 5)
	k, label, err := s.GetLabelled(1)
	if err != nil || k != key('x') || label != 42 || s.Len() != 5 {
		t.Fatalf("%v %d %d", err, label, s.Len())
	}
	if _, err := s.Get(4); !errors.Is(err, ErrEmpty) {
		t.Fatalf("a new slot: %v", err)
	}
	must(t, s.Close())
}

var errPower = errors.New("power cut")

// cutFile ends after a number of writes, the last of them torn after some bytes.
type cutFile struct {
	File
	writes, torn int
}

func (c *cutFile) WriteAt(b []byte, off int64) (int, error) {
	if c.writes == 0 {
		if _, err := c.File.WriteAt(b[:c.torn], off); err != nil {
			return 0, err
		}
		c.writes--
		return c.torn, errPower
	}
	if c.writes < 0 {
		return 0, errPower
	}
	c.writes--
	return c.File.WriteAt(b, off)
}

// Wherever a Put is cut off, the slot holds the old or the new key afterwards, and
// after the next open only one of them is in the file.
func TestAPutThatIsCutOffLeavesOldOrNew(t *testing.T) {
	for writes := range 2 {
		for _, torn := range []int{0, 1, 20, 40, 64, 70, 96, 300, sectorSize} {
			path := filepath.Join(t.TempDir(), "slots")
			s := open(t, path, 1)
			must(t, s.Put(0, key('o')))
			must(t, s.Close())
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			s, err = New(&cutFile{File: f, writes: writes, torn: torn}, 1)
			must(t, err)
			if err := s.Put(0, key('n')); !errors.Is(err, errPower) {
				t.Fatalf("cut after %d writes and %d bytes: %v", writes, torn, err)
			}
			if err := s.Erase(0); !errors.Is(err, errPower) {
				t.Fatalf("a slot file goes on after a failed write: %v", err)
			}
			must(t, s.Close())
			s = open(t, path, 1)
			k, err := s.Get(0)
			if err != nil || k != key('o') && k != key('n') {
				t.Fatalf("cut after %d writes and %d bytes: %v", writes, torn, err)
			}
			b, err := os.ReadFile(path)
			must(t, err)
			o, n := key('o'), key('n')
			if bytes.Contains(b, o[:16]) && bytes.Contains(b, n[:16]) {
				t.Fatalf("cut after %d writes and %d bytes: both keys are left", writes, torn)
			}
			must(t, s.Close())
		}
	}
}

func TestADamagedSlotIsNamedAndTheOthersServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slots")
	s := open(t, path, 2)
	must(t, s.Put(0, key('a')))
	must(t, s.Put(1, key('b')))
	must(t, s.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	k := key('a')
	b[bytes.Index(b, k[:])] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
	s = open(t, path, 2)
	if _, err := s.Get(0); !errors.Is(err, ErrDamaged) {
		t.Fatalf("damaged: %v", err)
	}
	if got, err := s.Get(1); err != nil || got != key('b') {
		t.Fatalf("the other: %v", err)
	}
	must(t, s.Put(0, key('c')))
	if got, err := s.Get(0); err != nil || got != key('c') {
		t.Fatalf("written anew: %v", err)
	}
	must(t, s.Close())
}

func FuzzSector(f *testing.F) {
	f.Add(encode(0, sector{state: stateKey, seq: 1, key: key('k')}))
	f.Add(encode(0, sector{state: stateScrubbed}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, ok := decode(0, b); ok && !bytes.Equal(encode(0, v), b) {
			t.Fatal("encodes to other bytes")
		}
	})
}
