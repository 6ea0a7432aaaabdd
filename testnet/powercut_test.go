package testnet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/entente-im/entente/device"
	"golang.org/x/sys/unix"
)

// disk is an ext4 file system in a file, mounted by a loop device: what the file
// holds at a moment is what a power cut would leave.
type disk struct {
	t     *testing.T
	image string
	at    string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("POWER CUTS ARE NOT TESTED: mounting needs root")
	}
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image-0"), at: filepath.Join(t.TempDir(), "disk")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 512<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("POWER CUTS ARE NOT TESTED: mkfs.ext4: %v %s", err, out)
	}
	if err := os.Mkdir(d.at, 0o700); err != nil {
		t.Fatal(err)
	}
	d.mount(true)
	t.Cleanup(func() { _ = exec.Command("umount", d.at).Run() })
	return d
}

func (d *disk) mount(maySkip bool) {
	d.t.Helper()
	out, err := exec.Command("mount", "-o", "loop", d.image, d.at).CombinedOutput()
	if err != nil && maySkip {
		d.t.Skipf("POWER CUTS ARE NOT TESTED: mount: %v %s", err, out)
	}
	if err != nil {
		d.t.Fatalf("mount: %v %s", err, out)
	}
}

// cut takes the image as it is while the node stands still, ends the node, and
// mounts the copy: what was only in the page cache is gone.
func (d *disk) cut(o *Organization, round int) {
	d.t.Helper()
	if err := o.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		d.t.Fatal(err)
	}
	next := filepath.Join(filepath.Dir(d.image), fmt.Sprintf("image-%d", round))
	if out, err := exec.Command("cp", "--sparse=always", d.image, next).CombinedOutput(); err != nil {
		d.t.Fatalf("cp: %v %s", err, out)
	}
	o.Kill()
	if out, err := exec.Command("umount", d.at).CombinedOutput(); err != nil {
		d.t.Fatalf("umount: %v %s", err, out)
	}
	_ = os.Remove(d.image)
	d.image = next
	d.mount(false)
}

// senderShare is how many undelivered messages of one sender a mailbox takes (FORMATS,
// Limits).
const senderShare = 500

// cutNode cuts the disk of a node off at random moments while alice sends through it,
// and returns what was broken at bob's.
func cutNode(t *testing.T, binary string, rounds int) (*ledger, []string) {
	t.Helper()
	d, root, l := newDisk(t), t.TempDir(), newLedger()
	acme, err := NewOrganization(t.Context(), binary, d.at, "acme.example", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	acme.Log = filepath.Join(root, "acme.log") // beside the disk, not on it
	if err := acme.raiseLimits(); err != nil {
		t.Fatal(err)
	}
	if err := acme.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(acme.Stop)
	alice, bob := openNew(t, acme, root, "alice"), openNew(t, acme, root, "bob")
	if err := l.settle(t.Context(), alice, bob); err != nil {
		t.Fatal(err)
	}
	unix.Sync() // of a node that does not: what is cut off is messages
	for round := range rounds {
		sendFor(t, time.Duration(200+100*round)*time.Millisecond, alice, bob, round, l, func() { d.cut(acme, round+1) })
		if err := acme.Start(t.Context()); err != nil {
			return l, []string{fmt.Sprintf("after cut %d: %v", round+1, err)}
		}
		if len(l.sequenced)-len(l.shown) > senderShare/2 {
			if err := l.receive(t.Context(), bob); err != nil {
				return l, []string{err.Error()}
			}
		}
	}
	if err := l.last(t.Context(), alice, bob); err != nil {
		return l, []string{err.Error()}
	}
	return l, l.broken()
}

// TestNodeSurvivesPowerCutsUnderLoad: what was sequenced before the disk was cut off
// is shown to bob once.
func TestNodeSurvivesPowerCutsUnderLoad(t *testing.T) {
	rounds := cycles("ENTENTE_POWERCUTS", 1)
	l, broken := cutNode(t, buildBinary(t), rounds)
	for _, b := range broken {
		t.Error(b)
	}
	t.Logf("%d power cuts, %d messages sequenced, %d shown", rounds, len(l.sequenced), len(l.shown))
}

// TestThePowerCutCheckCatchesANodeThatAnswersBeforeItSyncs is its positive control.
func TestThePowerCutCheckCatchesANodeThatAnswersBeforeItSyncs(t *testing.T) {
	binary := buildBinary(t, "answer_before_sync")
	warnsOfItself(t, binary, "answers before it syncs")
	l, broken := cutNode(t, binary, 1)
	caught(t, l, broken)
}

// sendFor sends until a time has passed, then cuts while the next message may be on
// its way.
func sendFor(t *testing.T, length time.Duration, alice, bob *device.Device, round int, l *ledger, cut func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sender, err := alice.Sender(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	accepted := make(chan string, 10_000)
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			text := fmt.Sprintf("round %d message %d", round, n)
			if sender.Send(ctx, bob.Address(), text, device.SendOptions{}, func(device.Progress) {}) == nil {
				accepted <- text
			}
		}
	}()
	time.Sleep(length) // the moment is what differs from round to round
	cut()
	cancel()
	<-done
	sender.Close()
	close(accepted)
	for text := range accepted {
		l.sequenced[text] = true
	}
}
