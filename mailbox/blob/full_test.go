package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestAllMembersFilesHaveOneCeiling(t *testing.T) {
	w := newWorld(t)
	w.o.Ceiling = 3000
	w.whole(random(1000))
	if _, err := w.Start(bob, 1500, w.time.Add(time.Hour), wire.FileQuota); err != nil {
		t.Fatal(err)
	}
	_, err := w.Start(alice, 501, w.time.Add(time.Hour), wire.FileQuota)
	refused(t, err, pb.Code_CODE_FULL)
	w.start(alice, 500)
}

func TestFilesLeaveTheRoomThatMailNeeds(t *testing.T) {
	w := newWorld(t)
	left := int64(2*wire.FileChunk + 100)
	w.o.Spare = func() int64 { return left }
	data := random(2*wire.FileChunk + 100)
	_, err := w.Start(alice, uint64(len(data)+1), w.time.Add(time.Hour), wire.FileQuota)
	refused(t, err, pb.Code_CODE_FULL)
	id := w.start(alice, len(data))
	w.put(id, data, 0, 1)
	left = -1 // mail has come meanwhile
	have, err := w.Put(context.Background(), alice, id, 1, data[wire.FileChunk:2*wire.FileChunk])
	refused(t, err, pb.Code_CODE_FULL)
	if have != 1 {
		t.Errorf("%d chunks are said to be there", have)
	}
	left = wire.FileChunk // and has been fetched
	w.put(id, data, 1, 3)
	sum := ID(sha256.Sum256(data))
	if err := w.Finish(context.Background(), alice, id, sum); err != nil {
		t.Fatal(err)
	}
	if got, err := w.read(sum); err != nil || !bytes.Equal(got, data) {
		t.Errorf("it came back other than it was: %v", err)
	}
}

// A real disk without room: what was taken stays, and the upload goes on, also after a
// restart, once there is room.
func TestAnUploadThatFillsTheDiskGoesOnWhenThereIsRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, no full disk was tried: not root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, no full disk was tried: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	w := &world{t: t, dir: dir, time: time.Now()}
	w.reopen()
	first, kept := w.whole(random(3 * wire.FileChunk))
	data := random(4*wire.FileChunk + 7)
	id := w.start(alice, len(data))
	chunk := func(i int) []byte { return data[i*wire.FileChunk : min(len(data), (i+1)*wire.FileChunk)] }
	n := 0
	for ; n < 5; n++ {
		if _, err := w.Put(context.Background(), alice, id, uint32(n), chunk(n)); err != nil {
			refused(t, err, pb.Code_CODE_FULL)
			break
		}
	}
	if n == 5 {
		t.Fatal("the disk was never full")
	}
	refused(t, func() error { _, err := w.Start(bob, 100, w.time.Add(time.Hour), wire.FileQuota); return err }(), pb.Code_CODE_FULL)
	if got, err := w.read(kept); err != nil || len(got) != 3*wire.FileChunk {
		t.Errorf("another file on the full disk: %d bytes, %v", len(got), err)
	}
	w.reopen() // as after a crash: with half a chunk perhaps
	have, _, err := w.Status(context.Background(), alice, id)
	if err != nil || int(have) != n {
		t.Fatalf("%d chunks are there, of %d that were taken: %v", have, n, err)
	}
	if err := w.Drop(alice, first); err != nil {
		t.Fatal(err)
	}
	w.put(id, data, n, 5)
	sum := ID(sha256.Sum256(data))
	if err := w.Finish(context.Background(), alice, id, sum); err != nil {
		t.Fatal(err)
	}
	if got, err := w.read(sum); err != nil || !bytes.Equal(got, data) {
		t.Errorf("it came back other than it was: %v", err)
	}
}
