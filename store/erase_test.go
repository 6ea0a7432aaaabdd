package store

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// retained is what an attacker kept of a deposit: the sealed body and its bucket.
type retained struct {
	sealed []byte
	bucket uint32
	slots  [][]byte // wrapped keys that were seen
}

func retain(t *testing.T, s *Store, q QueueID) retained {
	t.Helper()
	p := s.page(q, 0, 1, 1<<30, true)
	b := p[0].body
	sealed := make([]byte, b.bodyLen)
	if err := b.seg.readAt(sealed, int64(b.off)+headerSize+int64(b.headLen)); err != nil {
		t.Fatal(err)
	}
	return retained{sealed: sealed, bucket: b.bucket}
}

// hunt tries every 32-byte window of every file as the body's key, and as a secret of
// the ratchet up to steps buckets before, against every slot in the files and those
// that the attacker kept. It also returns the wrapped keys it saw.
func hunt(t *testing.T, dir string, r retained, steps int) (opened bool, slots [][]byte) {
	t.Helper()
	slots = append(slots, r.slots...)
	var files [][]byte
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "spare") {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for at := 0; at+slotBytes <= len(f); at++ {
			if string(f[at:at+4]) == slotKey {
				slots = append(slots, f[at:at+slotBytes])
			}
		}
	}
	for _, f := range files {
		for at := 0; at+32 <= len(f); at++ {
			if w := f[at : at+32]; !allZero(w[:8]) && tryKey(w, r, slots, steps) {
				return true, slots
			}
		}
	}
	return false, slots
}

func tryKey(w []byte, r retained, slots [][]byte, steps int) bool {
	if opens(w, r) {
		return true
	}
	secret := [32]byte(w)
	for range steps {
		m := hmac.New(sha256.New, secret[:])
		m.Write(binary.LittleEndian.AppendUint32([]byte("key"), r.bucket))
		wrap, _ := chacha20poly1305.New(m.Sum(nil))
		for _, slot := range slots {
			if key, err := wrap.Open(nil, slot[4:16], slot[16:], bodyAD(r.bucket)); err == nil && opens(key, r) {
				return true
			}
		}
		secret = (&ratchet{}).hash(secret, []byte("next"))
	}
	return false
}

func opens(key []byte, r retained) bool {
	a, _ := chacha20poly1305.New(key)
	_, err := a.Open(nil, make([]byte, 12), r.sealed, bodyAD(r.bucket))
	return err == nil
}

// P5. Acknowledgement, deadline and erasure of the queue each destroy on their own;
// the attacker has the folder, the sealed body and, for the deadline, the wrapped key.
func TestNoKeyOfADeadBodyIsLeftInAnyFile(t *testing.T) {
	for name, kill := range map[string]func(*Store, *testClock, LSN){
		"acknowledged": func(s *Store, _ *testClock, l LSN) {
			var b Batch
			b.Ack(1, l)
			commit(t, s, &b)
			waitFor(t, "tombstone", func() bool { s.mu.RLock(); defer s.mu.RUnlock(); return len(s.tombs) == 0 && s.segments[0].tombs == 0 })
		},
		"erased": func(s *Store, _ *testClock, _ LSN) {
			if err := s.EraseQueue(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
		},
		"expired": func(s *Store, c *testClock, _ LSN) {
			c.advance(20*time.Second, 20*time.Second)
			waitFor(t, "step", func() bool { return s.ratchet.living() >= livingAt(c.Now(), s.o.Bucket) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestClock()
			o := testOptions(t.TempDir(), c)
			o.SegmentSize = MinSegmentSize
			s := openStore(t, o)
			lsn := deposit(t, s, "to be forgotten", time.Second, 1)
			r := retain(t, s, 1)
			opened, slots := hunt(t, o.Dir, r, 4)
			if !opened {
				t.Fatal("positive control: the hunt does not find the key while it is there")
			}
			if name == "expired" {
				r.slots = slots
			}
			kill(s, c, lsn)
			if opened, _ := hunt(t, o.Dir, r, 4); opened {
				t.Fatal("a key that opens the body is left")
			}
			if name != "erased" {
				closeStore(t, s)
			}
		})
	}
}

// The log never holds what was put in.
func TestTheFilesHoldNoPlaintext(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	canary := "canary-body-0123456789"
	deposit(t, s, canary, time.Hour, 1)
	var b Batch
	b.Put([]byte("canary-key-0123456789"), []byte("canary-value-0123456789"))
	commit(t, s, &b)
	closeStore(t, s)
	if err := os.WriteFile(filepath.Join(o.Dir, "planted"), []byte("canary-planted"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := 0
	err := filepath.WalkDir(o.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.ReadFile(path)
		if bytes.Contains(f, []byte("canary-")) {
			found++
		}
		return err
	})
	if err != nil || found != 1 {
		t.Fatalf("%d files hold a canary, want the planted one: %v", found, err)
	}
}

// A crash between the last acknowledgement and its tombstone leaves a wrapped key
// that the next Open overwrites.
func TestOpenOverwritesSlotsThatNothingRefersTo(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	s := openStore(t, o)
	lsn := deposit(t, s, "one", time.Hour, 1)
	deposit(t, s, "two", time.Hour, 1)
	b := s.page(1, 0, 1, 1<<30, true)[0].body
	before, err := b.seg.readSlot(b.slot)
	if err != nil {
		t.Fatal(err)
	}
	var batch Batch
	batch.Ack(1, lsn)
	commit(t, s, &batch)
	closeStore(t, s)
	f, err := os.OpenFile(s.segPath(1), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(before[:], segHeader+int64(b.slot)*slotBytes); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = openStore(t, o)
	slot, err := s.segments[0].readSlot(b.slot)
	if err != nil || string(slot[:4]) != slotTomb {
		t.Fatalf("the slot holds %q, %v", slot[:4], err)
	}
	want(t, "rest", bodies(t, s, 1), []string{"two"})
	closeStore(t, s)
}
