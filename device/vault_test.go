package device

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/crypto/chacha20poly1305"
)

var testPass = []byte("correct horse battery staple")

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newVault makes a vault in a folder of the test.
func newVault(t *testing.T) (dir string, v *vault, c *clock) {
	t.Helper()
	dir, c = t.TempDir(), &clock{t: time.Unix(1_800_000_000, 0)}
	must(t, createVault(dir, testPass))
	return dir, reopen(t, dir, c), c
}

func reopen(t *testing.T, dir string, c *clock) *vault {
	t.Helper()
	v, err := openVault(dir, testPass, c.now)
	must(t, err)
	t.Cleanup(v.close)
	return v
}

func putState(t *testing.T, v *vault, key, value string) {
	t.Helper()
	must(t, v.update(func(x *txn) error { return x.putState([]byte(key), []byte(value)) }))
}

func getState(v *vault, key string) (s string, err error) {
	err = v.view(func(x *txn) error { b, err := x.state([]byte(key)); s = string(b); return err })
	return s, err
}

// raw copies a row as it stands in the file.
func raw(t *testing.T, v *vault, bucket []byte, key string) (row []byte) {
	t.Helper()
	must(t, v.db.View(func(tx *bolt.Tx) error {
		row = bytes.Clone(tx.Bucket(bucket).Get([]byte(key)))
		return nil
	}))
	if row == nil {
		t.Fatalf("no row %s", key)
	}
	return row
}

// opens hunts in every 32-byte window of all files of a device for a key that opens
// the sealed record: what a thief of the disk can do.
func opens(t *testing.T, dir string, bucket []byte, key string, sealed []byte) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	if len(files) != 3 {
		t.Fatalf("the files of a device: %v", files)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		for i := 0; i+32 <= len(b); i++ {
			var a cipher.AEAD
			if a, err = chacha20poly1305.NewX(b[i : i+32]); err != nil {
				t.Fatal(err)
			}
			if _, err := open(a, bucket, []byte(key), sealed); err == nil {
				return true
			}
		}
	}
	return false
}

func TestAReplacedStateKeyIsGoneFromAllFiles(t *testing.T) {
	dir, v, _ := newVault(t)
	putState(t, v, "room", "ratchet")
	sealed := raw(t, v, stateBucket, "room")
	if !opens(t, dir, stateBucket, "room", sealed) {
		t.Fatal("the hunt does not find the key that is there: it proves nothing")
	}
	must(t, v.rotate())
	if s, err := getState(v, "room"); s != "ratchet" || err != nil {
		t.Fatalf("after the rotation: %q, %v", s, err)
	}
	if opens(t, dir, stateBucket, "room", sealed) {
		t.Error("a record of before the rotation opens with what the files hold")
	}
}

// stopAt runs f and stops it at a failpoint, as a crash would.
func stopAt(t *testing.T, at string, f func() error) {
	t.Helper()
	type stopped struct{}
	before := failpoint
	failpoint = func(s string) {
		if s == at {
			panic(stopped{})
		}
	}
	defer func() {
		failpoint = before
		if _, ok := recover().(stopped); !ok {
			t.Fatalf("%s was not reached", at)
		}
	}()
	_ = f()
}

func TestARotationThatIsCutOffIsFinishedByTheNextStart(t *testing.T) {
	for _, at := range []string{"rotate-slot", "rotate-stored"} {
		t.Run(at, func(t *testing.T) {
			dir, v, c := newVault(t)
			putState(t, v, "room", "ratchet")
			old := raw(t, v, stateBucket, "room")
			stopAt(t, at, v.rotate)
			stored := !bytes.Equal(raw(t, v, stateBucket, "room"), old)
			v.close()
			v = reopen(t, dir, c)
			if s, err := getState(v, "room"); s != "ratchet" || err != nil {
				t.Fatalf("after the crash: %q, %v", s, err)
			}
			if stored != (at == "rotate-stored") {
				t.Fatal("the crash came at another step")
			}
			if _, _, err := v.slots.GetLabelled(int((v.generation + 1) % 2)); err == nil {
				t.Error("two state keys are left")
			}
			if stored && opens(t, dir, stateBucket, "room", old) {
				t.Error("the old key was left behind by the crash")
			}
			must(t, v.rotate())
			if s, err := getState(v, "room"); s != "ratchet" || err != nil {
				t.Fatalf("after the next rotation: %q, %v", s, err)
			}
		})
	}
}

func TestAFailedRotationTransactionLeavesTheOldKeyGood(t *testing.T) {
	dir, v, c := newVault(t)
	putState(t, v, "room", "ratchet")
	good := raw(t, v, stateBucket, "room")
	put := func(row []byte) {
		must(t, v.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(stateBucket).Put([]byte("zz"), row) }))
	}
	put(good) // does not open under this name: the transaction fails half way
	if err := v.rotate(); !errors.Is(err, errSealed) {
		t.Fatalf("a rotation over a damaged record: %v", err)
	}
	if s, err := getState(v, "room"); s != "ratchet" || err != nil {
		t.Fatalf("after the failure: %q, %v", s, err)
	}
	v.close()
	if s, err := getState(reopen(t, dir, c), "room"); s != "ratchet" || err != nil {
		t.Fatalf("after the restart: %q, %v", s, err)
	}
}

func TestAStateKeyIsReplacedHourlyAlsoAcrossShortRuns(t *testing.T) {
	dir, v, c := newVault(t)
	for range 3 {
		first := v.generation
		c.add(StateKeyLife - time.Second)
		v.close()
		v = reopen(t, dir, c)
		must(t, v.rotateIfOld())
		if v.generation != first {
			t.Fatal("the state key was replaced too early")
		}
		c.add(time.Second)
		v.close()
		v = reopen(t, dir, c)
		must(t, v.rotateIfOld())
		if v.generation != first+1 {
			t.Fatal("the state key outlived its hour")
		}
	}
}

func TestADayKeyIsGoneWhenItsDayHasEnded(t *testing.T) {
	dir, v, c := newVault(t)
	put := func(key string, expires time.Time) {
		must(t, v.update(func(x *txn) error { return x.putHistory([]byte(key), expires, []byte("words")) }))
	}
	put("m/1", c.now())
	put("m/2", c.now().Add(24*time.Hour))
	row := raw(t, v, historyBucket, "m/1")
	if !opens(t, dir, historyBucket, "m/1", row[4:]) {
		t.Fatal("the hunt does not find the key that is there: it proves nothing")
	}
	c.add(24 * time.Hour)
	must(t, v.rotateIfOld())
	if opens(t, dir, historyBucket, "m/1", row[4:]) {
		t.Error("history of a past day opens with what the files hold")
	}
	get := func(key string) (err error) {
		return v.view(func(x *txn) error { _, err := x.history([]byte(key)); return err })
	}
	if err := get("m/1"); !errors.Is(err, errNoRecord) {
		t.Errorf("a row of a past day: %v", err)
	}
	must(t, get("m/2"))
	// Put back, as from a backup, it stays closed: the key in memory is gone too.
	must(t, v.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(historyBucket).Put([]byte("m/1"), row) }))
	if err := get("m/1"); !errors.Is(err, errSealed) {
		t.Errorf("a row of a past day that was put back: %v", err)
	}
	if day := binary.BigEndian.Uint32(row); day != dayOf(c.now())-1 {
		t.Errorf("the row stands under day %d", day)
	}
}

func TestAVaultOpensWithItsPassphraseOnlyAndOnlyOnce(t *testing.T) {
	dir, v, c := newVault(t)
	if _, err := openVault(dir, []byte("correct horse battery stapler"), c.now); !errors.Is(err, identity.ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := openVault(dir, testPass, c.now); !errors.Is(err, ErrLocked) {
		t.Errorf("a folder in use: %v", err)
	}
	if _, err := openVault(t.TempDir(), testPass, c.now); !errors.Is(err, ErrNotEnroled) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := createVault(dir, testPass); err == nil {
		t.Error("a device was made over another")
	}
	v.close()
	reopen(t, dir, c)
}

func TestAValueOpensInItsOwnPlaceOnly(t *testing.T) {
	_, v, c := newVault(t)
	putState(t, v, "a", "1")
	must(t, v.update(func(x *txn) error {
		return errors.Join(x.putMeta([]byte("a"), []byte("1")), x.putMeta([]byte("b"), []byte("2")),
			x.putHistory([]byte("a"), c.now(), []byte("1")), x.putHistory([]byte("b"), c.now(), []byte("2")))
	}))
	putState(t, v, "b", "2")
	read := map[string]func(x *txn, key []byte) ([]byte, error){"meta": (*txn).meta, "state": (*txn).state, "history": (*txn).history}
	for bucket, get := range read {
		one, two := raw(t, v, []byte(bucket), "a"), raw(t, v, []byte(bucket), "b")
		swap := func(a, b []byte) {
			must(t, v.db.Update(func(tx *bolt.Tx) error {
				x := tx.Bucket([]byte(bucket))
				return errors.Join(x.Put([]byte("a"), a), x.Put([]byte("b"), b))
			}))
		}
		check := func(want error) {
			t.Helper()
			for _, k := range []string{"a", "b"} {
				if err := v.view(func(x *txn) error { _, err := get(x, []byte(k)); return err }); !errors.Is(err, want) {
					t.Errorf("%s/%s: %v", bucket, k, err)
				}
			}
		}
		check(nil)
		swap(two, one)
		check(errSealed)
		swap(one, one[:10])
		if err := v.view(func(x *txn) error { _, err := get(x, []byte("b")); return err }); !errors.Is(err, errSealed) {
			t.Errorf("%s: a row cut short: %v", bucket, err)
		}
		swap(one, two)
		check(nil)
	}
	// Between buckets, under one key: both sealed by the master key.
	if _, err := open(v.master, stateBucket, []byte("a"), raw(t, v, metaBucket, "a")); !errors.Is(err, errSealed) {
		t.Errorf("a row of another bucket: %v", err)
	}
}

func TestAWipedDeviceOpensWithNothing(t *testing.T) {
	dir, v, _ := newVault(t)
	putState(t, v, "room", "ratchet")
	sealed := raw(t, v, stateBucket, "room")
	if err := Wipe(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("an open device was wiped: %v", err)
	}
	v.close()
	// What the disk holds under the names may outlive them: look at the inodes.
	linked := filepath.Join(t.TempDir(), "inodes")
	must(t, os.Mkdir(linked, 0o700))
	for _, name := range []string{masterFile, slotFile, dbFile} {
		must(t, os.Link(filepath.Join(dir, name), filepath.Join(linked, name)))
	}
	if !opens(t, linked, stateBucket, "room", sealed) {
		t.Fatal("the hunt does not find the key that is there: it proves nothing")
	}
	must(t, Wipe(dir))
	if opens(t, linked, stateBucket, "room", sealed) {
		t.Error("a record opens with what the wiped files hold")
	}
	master, err := os.ReadFile(filepath.Join(linked, masterFile))
	must(t, err)
	if slices.ContainsFunc(master, func(b byte) bool { return b != 0 }) {
		t.Error("the sealed master key is still there")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := Wipe(dir); !errors.Is(err, ErrNotEnroled) {
		t.Errorf("again: %v", err)
	}
}
