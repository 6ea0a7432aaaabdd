package store

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// disk is an ext4 filesystem in a file, mounted through a loop device.
type disk struct{ image, mount string }

func mountDisk(t *testing.T, image string) *disk {
	t.Helper()
	d := &disk{image: image, mount: t.TempDir()}
	if out, err := exec.Command("mount", "-o", "loop", image, d.mount).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, no power cut was tried: mount needs root and a loop device: %s", out)
	}
	t.Cleanup(d.unmount)
	return d
}

func (d *disk) unmount() { _ = exec.Command("umount", d.mount).Run() }

func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, no power cut was tried: not root")
	}
	image := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(256 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, no power cut was tried: mkfs.ext4: %v %s", err, out)
	}
	return mountDisk(t, image)
}

// powerCut stops a child in its work, takes what has reached the disk by then, and
// returns what the ledger misses on it.
func powerCut(t *testing.T, wrong string, lines int) (lost []string, accepted int) {
	t.Helper()
	d := newDisk(t)
	l := newLedger()
	c := startChild(t, filepath.Join(d.mount, "store"), wrong, 1<<32)
	c.follow(t, l, lines)
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	after := filepath.Join(t.TempDir(), "after")
	copyFile(t, d.image, after) // what the machine's memory holds is not in it
	c.kill(t, l)                // what was still in the pipe was promised before the stop
	d.unmount()
	cut := mountDisk(t, after)
	s, err := Open(context.Background(), faultOptions(filepath.Join(cut.mount, "store")))
	if err != nil {
		if wrong != "" {
			return []string{err.Error()}, len(l.state)
		}
		t.Fatal(err)
	}
	defer closeStore(t, s)
	if wrong == "" {
		healthy(t, s)
	}
	accepted = len(l.state)
	return l.losses(t, s, true), accepted
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// P1. ENTENTE_POWERCUTS=5 for the long run.
func TestNothingAcceptedIsLostAtAPowerCut(t *testing.T) {
	for i := range envInt("ENTENTE_POWERCUTS", 1) {
		lost, accepted := powerCut(t, "", 4_000+1_777*i)
		if len(lost) > 0 {
			t.Fatalf("cut %d: %d losses, the first: %s", i, len(lost), lost[0])
		}
		t.Logf("cut %d: %d deposits checked, none lost", i, accepted)
	}
}

func TestThePowerCutCheckCatchesAnEngineThatAnswersBeforeItSyncs(t *testing.T) {
	lost, _ := powerCut(t, "sync", 4_000)
	if len(lost) == 0 {
		t.Fatal("the check found nothing")
	}
	t.Logf("found: %s", lost[0])
}

func TestAFullDiskRefusesDepositsAndServesTheRest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, no full disk was tried: not root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, no full disk was tried: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	for _, reserve := range []int64{4 << 20, -1} { // with the watermark, and against the wall
		o := testOptions(filepath.Join(dir, "store"), newTestClock())
		o.Reserve = reserve
		s := openStore(t, o)
		n := fillUntilFull(t, s)
		if n < 20 {
			t.Fatalf("full after %d deposits", n)
		}
		want(t, "served", len(bodies(t, s, 1)), n)
		if err := s.EraseQueue(context.Background(), 1); err != nil {
			t.Fatalf("acknowledging on a full disk: %v", err)
		}
		waitFor(t, "space", func() bool {
			var b Batch
			b.Put([]byte("again"), []byte("yes"))
			_, err := s.Commit(context.Background(), &b)
			return err == nil
		})
		healthy(t, s)
		closeStore(t, s)
		os.RemoveAll(o.Dir)
	}
}
