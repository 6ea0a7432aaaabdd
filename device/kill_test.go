package device

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// What a killed process is told.
const (
	killDir  = "ENTENTE_KILL_DIR"  // the device's folder
	killAt   = "ENTENTE_KILL_AT"   // the failpoint that ends it; empty: the parent does
	killTo   = "ENTENTE_KILL_TO"   // address to send to; empty: receive
	killText = "ENTENTE_KILL_TEXT" // what to send
	killLink = "ENTENTE_KILL_LINK" // enrol with it
	killFile = "ENTENTE_KILL_FILE" // to send, or where to save that of the message killText
	killRuns = "ENTENTE_KILLS"     // how many kills, 20 when empty
)

// TestDeviceProcess is a device in a process of its own, for the tests that kill it.
func TestDeviceProcess(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("started by other tests only")
	}
	failpoint = func(at string) {
		if at == os.Getenv(killAt) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing is done after the point
		}
	}
	if link := os.Getenv(killLink); link != "" {
		d, err := Enroll(t.Context(), dir, testPass, link)
		must(t, err)
		d.Close()
		return
	}
	d, err := Open(dir, testPass)
	must(t, err)
	defer d.Close()
	fmt.Println("open")
	if to := os.Getenv(killTo); to != "" {
		address, err := wire.ParseAddress(to)
		must(t, err)
		if path := os.Getenv(killFile); path != "" {
			must(t, d.sendFile(t, address, path, SendOptions{}, noStep))
			return
		}
		send(t, d, address, os.Getenv(killText), SendOptions{})
		return
	}
	if out := os.Getenv(killFile); out != "" {
		id, err := ParseMessageID(os.Getenv(killText))
		must(t, err)
		_, err = d.GetFile(t.Context(), id, out, false, noStep)
		must(t, err)
		return
	}
	receive(t, d)
}

// runKilled runs a device until a failpoint ends it or, without one, until a moment
// of the parent's choice. It reports whether the process was killed.
func runKilled(t *testing.T, dir, at, to, text string, more ...string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDeviceProcess$", "-test.count=1")
	c.Env = append(os.Environ(), killDir+"="+dir, killAt+"="+at, killTo+"="+to, killText+"="+text)
	c.Env = append(c.Env, more...)
	out, err := c.StdoutPipe()
	must(t, err)
	var said bytes.Buffer
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if lines.Text() == "open" && at == "" {
			process := c.Process
			// Windows of several sizes: a visit takes a few milliseconds, or with the
			// race detector hundreds.
			windows := []time.Duration{5, 20, 80, 320}
			time.AfterFunc(rand.N(windows[rand.N(len(windows))]*time.Millisecond), func() { _ = process.Kill() })
		}
	}
	err = c.Wait()
	if ctx.Err() != nil {
		t.Fatalf("the device hangs:\n%s", said.String())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("the device failed: %v\n%s", err, said.String())
	}
	return false
}

// counters remembers which bytes each counter stands for.
type counters map[uint64][32]byte

// look checks what waits in a device's folder against what waited before.
func (c counters) look(t *testing.T, dir string) {
	t.Helper()
	v, err := openVault(dir, testPass, time.Now)
	must(t, err)
	defer v.close()
	waiting, err := (&Device{vault: v}).waiting()
	must(t, err)
	var last uint64
	must(t, v.view(func(x *txn) (err error) { last, err = x.number(counterName); return err }))
	for _, o := range waiting {
		if o.Counter == 0 {
			continue
		}
		if o.Counter > last {
			t.Errorf("counter %d is out, the next one would be %d", o.Counter, last+1)
		}
		hash := sha256.Sum256(o.Core)
		if before, ok := c[o.Counter]; ok && before != hash {
			t.Errorf("counter %d is used for other bytes", o.Counter)
		}
		c[o.Counter] = hash
	}
}

// killWorld is who takes part: alice lives, bob is killed while he receives and carol
// while she sends, both at bob's address.
type killWorld struct {
	*pair
	sender          *Sender
	bobDir          string
	carolDir        string
	bobAt           wire.Address
	seen            counters
	sent            []string // by alice
	atPoints        int      // kills at failpoints
	random, escaped int      // kills at random moments, and processes that ended before theirs
}

func newKillWorld(t *testing.T) *killWorld {
	w := &killWorld{pair: newPair(t), seen: make(counters)}
	carol := w.acme.device("carol")
	w.bobAt = w.bob.Address()
	send(t, carol, w.bobAt, "carol begins", SendOptions{})
	send(t, w.alice, w.bobAt, "alice begins", SendOptions{})
	w.sent = append(w.sent, "alice begins")
	receiveUntil(t, w.bob, "both rooms", hasTexts(2))
	w.bobDir, w.carolDir = folder(w.bob), folder(carol)
	w.bob.Close()
	carol.Close()
	var err error
	w.sender, err = w.alice.Sender(t.Context())
	must(t, err)
	t.Cleanup(w.sender.Close)
	return w
}

// cycle kills one device once.
func (w *killWorld) cycle(t *testing.T, i int) {
	kinds := []struct {
		at   string
		send bool
	}{{"before-store", false}, {"before-submit", true}, {"after-store", false}, {"", true}, {"", false}}
	k := kinds[i%len(kinds)]
	var killed bool
	if k.send {
		killed = runKilled(t, w.carolDir, k.at, w.bobAt.String(), fmt.Sprintf("carol %d", i))
		w.seen.look(t, w.carolDir)
	} else {
		for n := range 2 {
			text := fmt.Sprintf("alice %d.%d", i, n)
			must(t, w.sender.Send(t.Context(), w.bobAt, text, SendOptions{}, func(Progress) {}))
			w.sent = append(w.sent, text)
		}
		eventually(t, "the mailbox fills", func() error {
			if w.globex.waiting(w.bobAt) == 0 {
				return errors.New("it is empty")
			}
			return nil
		})
		killed = runKilled(t, w.bobDir, k.at, "", "")
	}
	if !killed && k.at != "" {
		t.Errorf("cycle %d: %s was not reached", i, k.at)
	}
	switch {
	case killed && k.at != "":
		w.atPoints++
	case killed:
		w.random++
	default:
		w.escaped++
	}
}

func TestKilledDevicesStoreEachMessageOnce(t *testing.T) {
	runs := 20
	if s := os.Getenv(killRuns); s != "" {
		var err error
		runs, err = strconv.Atoi(s)
		must(t, err)
	}
	w := newKillWorld(t)
	for i := 0; w.atPoints+w.random < runs; i++ {
		if i == 2*runs {
			t.Fatalf("%d kills in %d cycles", w.atPoints+w.random, i)
		}
		w.cycle(t, i)
	}
	carol, err := Open(w.carolDir, testPass)
	must(t, err)
	defer carol.Close()
	send(t, carol, w.bobAt, "carol ends", SendOptions{}) // and whatever waited before it
	var queued []string
	eventually(t, "everything of carol's is sequenced", func() error {
		receive(t, carol)
		sent, err := carol.Sent()
		must(t, err)
		queued = nil
		for _, s := range sent {
			queued = append(queued, s.Text)
			if s.Seq == 0 {
				return fmt.Errorf("%q is %s", s.Text, s.State)
			}
		}
		return nil
	})
	bob, err := Open(w.bobDir, testPass)
	must(t, err)
	defer bob.Close()
	want := append(queued, w.sent...)
	var have []string
	eventually(t, "bob has everything", func() error {
		receive(t, bob)
		history, err := bob.History()
		must(t, err)
		for _, s := range history {
			if s.Event == "unreadable" || s.State == "gap" || s.State == "restored" {
				t.Fatalf("lost on the way: %+v", s)
			}
		}
		if have = texts(history); len(have) < len(want) {
			return fmt.Errorf("%d of %d messages", len(have), len(want))
		}
		return nil
	})
	count := make(map[string]int)
	for _, s := range have {
		count[s]++
	}
	for _, s := range want {
		if count[s] != 1 {
			t.Errorf("%q is stored %d times", s, count[s])
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d messages are stored, %d were sent", len(have), len(want))
	}
	t.Logf("%d cycles: %d killed at failpoints, %d at random moments, %d ended before theirs; %d messages sent, %d stored; %d counters seen waiting",
		runs, w.atPoints, w.random, w.escaped, len(want), len(have), len(w.seen))
}
