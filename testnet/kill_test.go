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
	"testing"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/node"
)

// buildBinary builds the program under test once.
func buildBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "entente")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/entente")
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

var raised = node.LimitConfig{DeviceRate: 1e6, DeviceBurst: 1e6, PartnerRate: 1e6, PartnerBurst: 1e6, PartnerBytes: 1 << 30}

// TestNodeSurvivesKillsUnderLoad is P1 and P2 with a real node, devices and MLS: a
// node is killed with SIGKILL at random moments while alice sends through it. What
// was sequenced is shown to bob once; nothing is shown twice.
func TestNodeSurvivesKillsUnderLoad(t *testing.T) {
	binary, root := buildBinary(t), t.TempDir()
	acme, err := NewOrganization(t.Context(), binary, root, "acme.example", time.Hour)
	if err == nil {
		err = acme.setLimits(raised)
	}
	if err == nil {
		err = acme.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(acme.Stop)
	alice, bob := openNew(t, acme, root, "alice"), openNew(t, acme, root, "bob")
	ledger, shown := make(map[string]bool), make(map[string]int)
	receive := func() {
		err := bob.Receive(t.Context(), false, func(s device.Shown) error {
			if s.Event == "message" {
				shown[s.Text]++
			} else if s.Event == "unreadable" {
				t.Errorf("unreadable: %s", s.Reason)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	rounds := cycles("ENTENTE_KILLS", 8)
	for round := range rounds {
		sent += sendUntilKilled(t, acme, alice, bob, ledger, sent)
		if err := acme.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if round%5 == 4 {
			receive() // a mailbox takes 500 of one sender
		}
		if round%25 == 24 {
			t.Logf("%d kills, %d messages sequenced", round+1, len(ledger))
		}
	}
	send(t.Context(), t, alice, bob, "the last one", ledger) // and everything before it that waits
	receive()
	for text := range ledger {
		if shown[text] == 0 {
			t.Errorf("lost: %q was sequenced", text)
		}
	}
	for text, n := range shown {
		if n > 1 {
			t.Errorf("%q was shown %d times", text, n)
		}
	}
	t.Logf("%d kills, %d messages sequenced, %d shown", rounds, len(ledger), len(shown))
	if len(ledger) < rounds {
		t.Errorf("only %d messages in %d rounds: this shows little", len(ledger), rounds)
	}
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
func sendUntilKilled(t *testing.T, o *Organization, alice, bob *device.Device, ledger map[string]bool, first int) (n int) {
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
	sender, err := alice.Sender(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		text := fmt.Sprintf("message %d", first+n)
		n++
		if err := sender.Send(ctx, bob.Address(), text, device.SendOptions{}, func(device.Progress) {}); err == nil {
			ledger[text] = true
		} else if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			t.Logf("sending: %v", err)
			break // the node is gone before we are told so
		}
	}
	sender.Close()
	<-killed
	return n
}

func send(ctx context.Context, t *testing.T, from, to *device.Device, text string, ledger map[string]bool) {
	t.Helper()
	if err := from.Send(ctx, to.Address(), text, device.SendOptions{}, func(device.Progress) {}); err != nil {
		t.Fatal(err)
	}
	ledger[text] = true
}
