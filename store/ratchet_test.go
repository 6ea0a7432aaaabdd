package store

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/store/slot"
	"golang.org/x/crypto/chacha20poly1305"
	"pgregory.net/rapid"
)

// sealedUnder tells keys apart: the same key seals nothing to the same bytes.
func sealedUnder(a cipher.AEAD) string {
	return string(a.Seal(nil, make([]byte, a.NonceSize()), nil, nil))
}

func testRatchet(t *testing.T, dir string, isNew bool, first uint32) *ratchet {
	t.Helper()
	r, err := openRatchet(dir, isNew, false, first)
	if err != nil {
		t.Fatal(err)
	}
	if r.lost {
		t.Fatal("the ratchet's secrets are lost")
	}
	return r
}

// edges are buckets on both sides of the borders of every level's blocks, from one on.
func edges(first uint32) []uint32 {
	var out []uint32
	for level := range levels {
		border := (uint64(blockOf(first, level)) + 1) << (levelBits * level)
		for _, b := range []uint64{border - 1, border, border + 1, border + 1<<(levelBits*level) - 1} {
			if b >= uint64(first) && b <= uint64(first+maxBuckets) {
				out = append(out, uint32(b))
			}
		}
	}
	out = append(out, first, first+7, first+300, first+70_000, first+maxBuckets)
	slices.Sort(out)
	return slices.Compact(out)
}

func keysOf(t *testing.T, r *ratchet, buckets []uint32) map[uint32]string {
	t.Helper()
	out := make(map[uint32]string)
	for _, b := range buckets {
		a, err := r.key(b)
		if err != nil {
			t.Fatalf("bucket %d from %d: %v", b, r.first(), err)
		}
		out[b] = sealedUnder(a)
	}
	return out
}

func TestABucketsKeyStaysTheSameUntilItEndsWhateverStepsAreTaken(t *testing.T) {
	parent := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(parent, time.Duration(run).String())
		if err := os.Mkdir(dir, 0o700); err != nil {
			rt.Fatal(err)
		}
		first := rapid.SampledFrom([]uint32{1, 255, 256, 65_279, 65_280, 65_535, 65_536, 1_790_000_000, 495_000}).Draw(rt, "first")
		r := testRatchet(t, dir, true, first)
		defer func() { r.close() }()
		want := keysOf(t, r, edges(first))
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			by := rapid.SampledFrom([]uint32{1, 2, 255, 256, 257, 65_535, 65_536, 70_000, 1_000_000}).Draw(rt, "by")
			at := min(r.first()+by, first+maxBuckets)
			if err := r.step(at); err != nil {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "reopen") {
				r.close()
				r = testRatchet(t, dir, false, 1)
			}
			clear(r.keys)
			for b, key := range want {
				a, err := r.key(b)
				if b < at && !errors.Is(err, errExpired) {
					rt.Fatalf("bucket %d has ended and gives %v", b, err)
				}
				if b >= at && (err != nil || sealedUnder(a) != key) {
					rt.Fatalf("bucket %d at %d has another key than at first, %v", b, at, err)
				}
			}
		}
	})
}

// bucketsFrom derives the keys of buckets from a secret as whoever finds it would, not
// knowing of which level and block it is.
func bucketsFrom(secret [32]byte, ended map[uint32]string) bool {
	var r ratchet
	opens := func(s [32]byte, b uint32) bool {
		k := r.hash(s, binary.LittleEndian.AppendUint32([]byte("key"), b))
		a, err := chacha20poly1305.New(k[:])
		return err == nil && sealedUnder(a) == ended[b]
	}
	for b := range ended {
		for level := range levels {
			at := secret
			for l := level; l > 0; l-- { // the first of each block, then on to the bucket's
				at = r.hash(at, []byte("down"))
				for range blockOf(b, l-1) & 255 {
					at = r.hash(at, []byte("next"))
				}
			}
			for range 3 { // or a few links before it
				if opens(at, b) {
					return true
				}
				at = r.hash(at, []byte("next"))
			}
		}
	}
	return false
}

func huntSecrets(t *testing.T, dir string, ended map[uint32]string) bool {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, ratchetFile))
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at+32 <= len(file); at += 8 {
		if w := [32]byte(file[at : at+32]); !allZero(w[:8]) && bucketsFrom(w, ended) {
			return true
		}
	}
	return false
}

func TestNoLevelOfTheRatchetLeadsBackToAnEndedBucket(t *testing.T) {
	const first = 65_536 - 256 - 3 // so that small steps cross the borders of all levels
	for name, to := range map[string]uint32{"bucket": first + 2, "block": 65_536 - 200, "last block": 65_536 - 1, "top": 65_536, "beyond": 65_536 + 1_000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := testRatchet(t, dir, true, first)
			defer r.close()
			ended := make(map[uint32]string)
			for _, b := range []uint32{first, first + 1, 65_536 - 256, 65_536 - 201, 65_536 - 2, 65_536 - 1, 65_536, 65_536 + 999} {
				if b < to {
					ended[b] = keysOf(t, r, []uint32{b})[b]
				}
			}
			for b := range ended {
				if !huntSecrets(t, dir, map[uint32]string{b: ended[b]}) {
					t.Errorf("positive control: the secret of bucket %d is not found while it lives", b)
				}
			}
			if err := r.step(to); err != nil {
				t.Fatal(err)
			}
			if huntSecrets(t, dir, ended) {
				t.Error("a slot leads to the key of an ended bucket")
			}
		})
	}
}

// tornFile writes a number of sectors and then fails, as a machine that loses power.
type tornFile struct {
	*os.File
	left int
}

var errTorn = errors.New("the power is gone")

func (f *tornFile) WriteAt(b []byte, at int64) (int, error) {
	if f.left == 0 {
		return 0, errTorn
	}
	f.left--
	return f.File.WriteAt(b, at)
}

func TestAStepThatACrashInterruptsIsFinishedAtTheNextOpen(t *testing.T) {
	const first = 65_536 - 256 - 3
	for _, to := range []uint32{first + 1, 65_536 - 256, 65_536 - 3, 65_536 - 1, 65_536 + 2, 3 * 65_536} {
		for writes := 0; ; writes++ {
			dir := t.TempDir()
			r := testRatchet(t, dir, true, first)
			want := keysOf(t, r, slices.DeleteFunc(edges(to), func(b uint32) bool { return b > first+maxBuckets }))
			path := filepath.Join(dir, ratchetFile)
			r.close()
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			slots, err := slot.New(&tornFile{file, writes}, levels)
			if err != nil {
				t.Fatal(err)
			}
			torn := &ratchet{slots: slots, keys: make(map[uint32]cipher.AEAD)}
			if err := torn.open(false, false, 1); err != nil {
				t.Fatal(err)
			}
			crashed := torn.step(to)
			torn.close()
			r = testRatchet(t, dir, false, 1)
			if r.first() != first && r.first() != to {
				t.Fatalf("after %d writes the first bucket is %d", writes, r.first())
			}
			if r.first() == to && (r.begin(1) <= uint64(to) || r.begin(2) <= uint64(to)) {
				t.Errorf("after %d writes a level stands at %d and %d, below the first bucket", writes, r.begin(1), r.begin(2))
			}
			if err := r.step(to); err != nil {
				t.Fatal(err)
			}
			for b, key := range keysOf(t, r, slices.Collect(maps.Keys(want))) {
				if key != want[b] {
					t.Fatalf("step to %d cut after %d writes: bucket %d has another key", to, writes, b)
				}
			}
			r.close()
			if crashed == nil {
				break
			}
		}
	}
}

func TestAFarDeadlineCostsFewHashesAtTheShortestBucket(t *testing.T) {
	r := testRatchet(t, t.TempDir(), true, 1_790_000_000)
	defer r.close()
	for _, ahead := range []uint32{0, 255, 65_535, 7 * 86_400, maxBuckets} {
		before := r.hashes
		if _, err := r.key(r.first() + ahead); err != nil {
			t.Fatal(err)
		}
		if n := r.hashes - before; n > 3*256 {
			t.Errorf("%d buckets ahead: %d hashes", ahead, n)
		}
	}
}

// A file of one chain keeps the keys of what it was used for.
func TestARatchetOfOneChainIsReadAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	const first = 495_000
	slots, err := slot.Open(filepath.Join(dir, ratchetFile), 1)
	if err != nil {
		t.Fatal(err)
	}
	secret := [32]byte{1, 2, 3}
	if err := slots.PutLabelled(0, first, secret); err != nil {
		t.Fatal(err)
	}
	slots.Close()
	want := make(map[uint32]string)
	var chain ratchet
	for b := uint32(first); b <= first+720; b++ {
		k := chain.hash(secret, binary.LittleEndian.AppendUint32([]byte("key"), b))
		a, err := chacha20poly1305.New(k[:])
		if err != nil {
			t.Fatal(err)
		}
		want[b] = sealedUnder(a)
		secret = chain.hash(secret, []byte("next"))
	}
	for _, at := range []uint32{first, first + 300, first + 720, first + maxBuckets + 2*65_536} {
		r := testRatchet(t, dir, false, 1)
		if err := r.step(at); err != nil {
			t.Fatal(err)
		}
		for b := at; b <= first+720; b++ {
			if a, err := r.key(b); err != nil || sealedUnder(a) != want[b] {
				t.Fatalf("bucket %d has another key than in the file of one chain, %v", b, err)
			}
		}
		r.close()
	}
}
