package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

var (
	alice = wire.MemberID{1}
	bob   = wire.MemberID{2}
	seal  = [32]byte{7}
)

// world is a store on a folder, with a clock.
type world struct {
	*Store
	t    testing.TB
	dir  string
	time time.Time
	held bool
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), time: time.Now()}
	w.reopen()
	return w
}

func (w *world) reopen() {
	w.t.Helper()
	s, err := Open(Options{Dir: w.dir, Seal: seal, Now: func() time.Time { return w.time }, Held: func() bool { return w.held }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Store = s
}

func (w *world) start(member wire.MemberID, size int) UploadID {
	w.t.Helper()
	id, err := w.Start(member, uint64(size), w.time.Add(time.Hour), wire.FileQuota)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// put puts chunks from one up to another.
func (w *world) put(id UploadID, data []byte, from, to int) {
	w.t.Helper()
	for i := from; i < to; i++ {
		chunk := data[i*wire.FileChunk : min(len(data), (i+1)*wire.FileChunk)]
		if _, err := w.Put(context.Background(), alice, id, uint32(i), chunk); err != nil {
			w.t.Fatal(err)
		}
	}
}

// whole uploads data and returns its ID.
func (w *world) whole(data []byte) (UploadID, ID) {
	w.t.Helper()
	id := w.start(alice, len(data))
	w.put(id, data, 0, int(Chunks(uint64(len(data)))))
	sum := ID(sha256.Sum256(data))
	if err := w.Finish(context.Background(), alice, id, sum); err != nil {
		w.t.Fatal(err)
	}
	return id, sum
}

func (w *world) read(id ID) ([]byte, error) {
	var out []byte
	for i := uint32(0); ; i++ {
		size, chunk, err := w.Read(id, i)
		if err != nil {
			return nil, err
		}
		if out = append(out, chunk...); uint64(len(out)) == size {
			return out, nil
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func refused(t testing.TB, err error, code pb.Code) {
	t.Helper()
	var st *wire.StatusError
	if !errors.As(err, &st) || st.Status.Code != code {
		t.Errorf("got %v, want %s", err, wire.CodeName(code))
	}
}

func TestABlobComesBackAsItWasPutInAlsoAfterARestart(t *testing.T) {
	w := newWorld(t)
	data := random(2*wire.FileChunk + 17)
	_, id := w.whole(data)
	for range 2 {
		if got, err := w.read(id); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("another file came back (%v)", err)
		}
		w.reopen()
	}
	_, _, err := w.Read(id, 3)
	refused(t, err, pb.Code_CODE_MALFORMED)
	_, _, err = w.Read(ID{1}, 0)
	refused(t, err, pb.Code_CODE_NOT_FOUND)
}

func TestAnUploadGoesOnAfterARestartFromTheChunksThatAreWhole(t *testing.T) {
	w := newWorld(t)
	data := random(4 * wire.FileChunk)
	id := w.start(alice, len(data))
	w.put(id, data, 0, 3)
	path := w.path(id, dataSuffix)
	if err := os.Truncate(path, 3*stride-5); err != nil { // the third was not written whole
		t.Fatal(err)
	}
	w.reopen()
	have, done, err := w.Status(context.Background(), alice, id)
	if err != nil || have != 2 || done != nil {
		t.Fatalf("have %d, done %x, %v: want 2 chunks", have, done, err)
	}
	w.put(id, data, 1, 4) // one too early is no harm
	sum := ID(sha256.Sum256(data))
	if err := w.Finish(context.Background(), alice, id, sum); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background(), alice, id, sum); err != nil {
		t.Errorf("finishing again: %v", err)
	}
	if got, err := w.read(sum); err != nil || !bytes.Equal(got, data) {
		t.Errorf("another file came back (%v)", err)
	}
}

func TestUploadsThatDoNotFitAreRefused(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	for size, code := range map[uint64]pb.Code{0: pb.Code_CODE_TOO_LARGE, wire.MaxFile + 1: pb.Code_CODE_TOO_LARGE, 1001: pb.Code_CODE_FULL} {
		_, err := w.Start(alice, size, w.time.Add(time.Hour), 1000)
		refused(t, err, code)
	}
	_, err := w.Start(alice, 10, w.time, 1000)
	refused(t, err, pb.Code_CODE_DEADLINE_PASSED)
	data := random(2*wire.FileChunk + 9)
	id := w.start(alice, len(data))
	for index, n := range map[uint32]int{0: 9, 1: wire.FileChunk, 2: 9, 3: 1, 1 << 31: 1} {
		_, err := w.Put(ctx, alice, id, index, make([]byte, n))
		refused(t, err, pb.Code_CODE_MALFORMED)
	}
	_, err = w.Put(ctx, bob, id, 0, data[:wire.FileChunk])
	refused(t, err, pb.Code_CODE_NOT_FOUND)
	refused(t, w.Drop(bob, id), pb.Code_CODE_NOT_FOUND)
	refused(t, w.Finish(ctx, alice, id, sha256.Sum256(data)), pb.Code_CODE_MALFORMED)
	w.put(id, data, 0, 3)
	refused(t, w.Finish(ctx, alice, id, ID{1}), pb.Code_CODE_MALFORMED)
	for range wire.MemberUploads - 1 {
		w.start(alice, 1)
	}
	_, err = w.Start(alice, 1, w.time.Add(time.Hour), wire.FileQuota)
	refused(t, err, pb.Code_CODE_FULL)
	if _, err = w.Start(bob, 1, w.time.Add(time.Hour), wire.FileQuota); err != nil {
		t.Errorf("another member is refused as well: %v", err)
	}
}

func TestADroppedOrAbandonedUploadFreesItsQuotaAndItsFiles(t *testing.T) {
	w := newWorld(t)
	id, _ := w.whole(random(100))
	w.start(alice, 50)
	if err := w.Drop(alice, id); err != nil {
		t.Fatal(err)
	}
	if used := w.Used(alice); used != 50 {
		t.Errorf("used %d, want 50", used)
	}
	w.time = w.time.Add(wire.UploadPatience)
	w.reopen()
	if files, _ := os.ReadDir(w.dir); len(files) != 0 || w.Used(alice) != 0 {
		t.Errorf("%d files and %d bytes are left", len(files), w.Used(alice))
	}
}

func TestAChangedChunkOrOneInAnotherPlaceIsNeverHandedOut(t *testing.T) {
	w := newWorld(t)
	data := random(3 * wire.FileChunk)
	up, id := w.whole(data)
	path := w.path(up, dataSuffix)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	swapped := append(bytes.Clone(was[stride:2*stride]), was[:stride]...)
	flipped := bytes.Clone(was)
	flipped[100] ^= 1
	for name, bad := range map[string][]byte{"swapped": append(swapped, was[2*stride:]...), "flipped": flipped, "cut": was[:50]} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Read(id, 0); wire.StatusOf(err).Code != pb.Code_CODE_DAMAGED {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hunt tries every 32 bytes of every file of a folder as a blob's key, with the node's
// seal key in hand, on a sealed chunk that was kept.
func hunt(t testing.TB, dir string, up UploadID, kept []byte) (opened bool) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+32 <= len(b) && at < 8<<10; at++ {
			a, err := derive(append(bytes.Clone(b[at:at+32]), seal[:]...), "entente.im/blob/v1 data")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Open(nil, kept[:24], kept[24:], bound(up, 0)); err == nil {
				return true
			}
		}
	}
	return false
}

func TestNoKeyOfAnExpiredFileIsLeftForWhoKeptItsBytes(t *testing.T) {
	w := newWorld(t)
	up, id := w.whole(random(100))
	kept, err := os.ReadFile(w.path(up, dataSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if !hunt(t, w.dir, up, kept) {
		t.Fatal("the control: before its deadline the key should be found")
	}
	raw, err := os.OpenFile(w.path(up, keySuffix), os.O_RDONLY, 0) // the blocks, whatever becomes of the name
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	w.time = w.time.Add(time.Hour)
	w.held = true
	if err := w.Sweep(); err != nil || !hunt(t, w.dir, up, kept) {
		t.Errorf("a held clock destroyed a file (%v)", err)
	}
	if _, _, err := w.Read(id, 0); err == nil {
		t.Error("a file was handed out after its deadline")
	}
	w.held = false
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	left := t.TempDir()
	blocks := make([]byte, 4<<10)
	n, _ := raw.ReadAt(blocks, 0)
	if err := os.WriteFile(filepath.Join(left, "blocks"), blocks[:n], 0o600); err != nil {
		t.Fatal(err)
	}
	if n < 1024 || hunt(t, w.dir, up, kept) || hunt(t, left, up, kept) {
		t.Error("a key of an expired file was found")
	}
}

func TestTheNodesFilesSayNothingWithoutThePassphrase(t *testing.T) {
	w := newWorld(t)
	up, _ := w.whole([]byte(strings.Repeat("in the clear ", 20)))
	for _, suffix := range []string{dataSuffix, metaSuffix, keySuffix} {
		b, err := os.ReadFile(w.path(up, suffix))
		if err != nil || bytes.Contains(b, []byte("in the clear")) || bytes.Contains(b, []byte("member")) {
			t.Errorf("%s shows what it holds (%v)", suffix, err)
		}
	}
	if _, err := Open(Options{Dir: w.dir, Seal: [32]byte{9}, Now: time.Now}); err != nil {
		t.Error(err)
	}
}

func TestAKeyWithoutMetadataIsErasedAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	id := UploadID{5}
	if err := w.newKey(id); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if _, err := os.Stat(w.path(id, keySuffix)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
