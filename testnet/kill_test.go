package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/device"
)

// buildBinary builds the program under test, with build tags if any.
func buildBinary(t *testing.T, tags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "entente")
	cmd := exec.Command("go", "build", "-tags", strings.Join(tags, ","), "-o", path, "./cmd/entente")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return path
}

func cycles(variable string, fallback int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return fallback
}

// ledger is what alice was told was sequenced, and how often bob was shown what.
type ledger struct {
	sequenced map[string]bool
	shown     map[string]int
}

func newLedger() *ledger {
	return &ledger{sequenced: make(map[string]bool), shown: make(map[string]int)}
}

// receive has bob fetch all that waits for him.
func (l *ledger) receive(ctx context.Context, bob *device.Device) error {
	unreadable := ""
	err := bob.Receive(ctx, false, func(s device.Shown) error {
		switch s.Event {
		case "message":
			l.shown[s.Text]++
		case "unreadable":
			unreadable = s.Reason
		}
		return nil
	})
	if err == nil && unreadable != "" {
		err = fmt.Errorf("unreadable: %s", unreadable)
	}
	return err
}

// broken lists what a node that lost nothing and repeated nothing would not show.
func (l *ledger) broken() (out []string) {
	for text := range l.sequenced {
		if l.shown[text] == 0 {
			out = append(out, fmt.Sprintf("lost: %q was sequenced", text))
		}
	}
	for text, n := range l.shown {
		if n > 1 {
			out = append(out, fmt.Sprintf("%q was shown %d times", text, n))
		}
	}
	return out
}

// killNode kills a node with SIGKILL at random moments while alice sends through it,
// and returns what was broken at bob's. The right build sets everything up: a wrong one
// may refuse a device for what it has not written yet, which is not what is looked for.
func killNode(t *testing.T, binary string, rounds int) (*ledger, []string) {
	t.Helper()
	root, l := t.TempDir(), newLedger()
	acme, err := NewOrganization(t.Context(), buildBinary(t), root, "acme.example", time.Hour)
	if err == nil {
		err = acme.raiseLimits()
	}
	if err == nil {
		err = acme.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(acme.Stop)
	alice, bob := openNew(t, acme, root, "alice"), openNew(t, acme, root, "bob")
	if err := l.settle(t.Context(), alice, bob); err != nil {
		t.Fatal(err)
	}
	acme.Stop()
	acme.binary = binary
	if err := acme.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for round := range rounds {
		n, err := sendUntilKilled(t, acme, alice, bob, l, sent)
		sent += n
		if err == nil {
			err = acme.Start(t.Context())
		}
		if err == nil && round%5 == 4 {
			err = l.receive(t.Context(), bob) // a mailbox takes 500 of one sender
		}
		if err != nil {
			return l, []string{fmt.Sprintf("after kill %d: %v", round+1, err)}
		}
		if round%25 == 24 {
			t.Logf("%d kills, %d messages sequenced", round+1, len(l.sequenced))
		}
	}
	if err := l.last(t.Context(), alice, bob); err != nil {
		return l, []string{err.Error()}
	}
	return l, l.broken()
}

// settle has the room made and written, whatever the node is like: the answer to the
// second message comes after the first one's writing.
func (l *ledger) settle(ctx context.Context, alice, bob *device.Device) error {
	return errors.Join(l.send(ctx, alice, bob, "the first one"), l.send(ctx, alice, bob, "the second one"))
}

// last sends one more message, and everything before it that waits, and receives all.
func (l *ledger) last(ctx context.Context, alice, bob *device.Device) error {
	if err := l.send(ctx, alice, bob, "the last one"); err != nil {
		return err
	}
	return l.receive(ctx, bob)
}

func (l *ledger) send(ctx context.Context, alice, bob *device.Device, text string) error {
	err := alice.Send(ctx, bob.Address(), text, device.SendOptions{}, func(device.Progress) {})
	if err == nil {
		l.sequenced[text] = true
	}
	return err
}

// TestNodeSurvivesKillsUnderLoad is P1 and P2 with a real node, devices and MLS: what
// was sequenced is shown to bob once; nothing is shown twice.
func TestNodeSurvivesKillsUnderLoad(t *testing.T) {
	rounds := cycles("ENTENTE_KILLS", 8)
	l, broken := killNode(t, buildBinary(t), rounds)
	for _, b := range broken {
		t.Error(b)
	}
	t.Logf("%d kills, %d messages sequenced, %d shown", rounds, len(l.sequenced), len(l.shown))
	if len(l.sequenced) < rounds {
		t.Errorf("only %d messages in %d rounds: this shows little", len(l.sequenced), rounds)
	}
}

// TestTheKillCheckCatchesANodeThatAnswersBeforeItWrites is its positive control.
func TestTheKillCheckCatchesANodeThatAnswersBeforeItWrites(t *testing.T) {
	binary := buildBinary(t, "answer_before_write")
	warnsOfItself(t, binary, "answers before it writes")
	l, broken := killNode(t, binary, 6)
	caught(t, l, broken)
}

// warnsOfItself checks that a wrong build cannot be taken for a right one.
func warnsOfItself(t *testing.T, binary, how string) {
	t.Helper()
	out, err := exec.Command(binary, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "NOT FOR USE") || !strings.Contains(string(out), how) {
		t.Errorf("its version is %q, %v", out, err)
	}
}

// caught checks that a wrong node was seen to lose what it had promised.
func caught(t *testing.T, l *ledger, broken []string) {
	t.Helper()
	for _, b := range broken {
		if strings.HasPrefix(b, "lost:") {
			t.Logf("%d sequenced, %d broken, for instance: %s", len(l.sequenced), len(broken), b)
			return
		}
	}
	t.Errorf("%d messages were sequenced and the check saw no loss: %q", len(l.sequenced), broken)
}

func openNew(t *testing.T, o *Organization, root, name string) *device.Device {
	t.Helper()
	made, err := o.NewDevice(t.Context(), root, name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := device.Open(made.Dir, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// sendUntilKilled sends one message after another until the node is killed, and
// writes down those that were sequenced.
func sendUntilKilled(t *testing.T, o *Organization, alice, bob *device.Device, l *ledger, first int) (n int, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		time.Sleep(time.Duration(20+rand.N(400)) * time.Millisecond) // the moment is what is random
		o.Kill()
		cancel()
	}()
	defer func() { <-killed }()
	sender, err := alice.Sender(ctx)
	if err != nil {
		return 0, err
	}
	defer sender.Close()
	for ctx.Err() == nil {
		text := fmt.Sprintf("message %d", first+n)
		n++
		if err := sender.Send(ctx, bob.Address(), text, device.SendOptions{}, func(device.Progress) {}); err == nil {
			l.sequenced[text] = true
		} else if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			t.Logf("sending: %v", err)
			break // the node is gone before we are told so
		}
	}
	return n, nil
}
