package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// The fault checks run the store in a child process, which says on its standard
// output what it was promised; the parent keeps the ledger, ends the child and looks
// what is left.
const (
	childDir   = "ENTENTE_STORE_CHILD"
	childBase  = "ENTENTE_STORE_BASE"
	childWrong = "ENTENTE_STORE_WRONG" // "sync", "write": the wrong engines that must be caught
	lanes      = 8
)

func faultOptions(dir string) Options {
	return Options{Dir: dir, SealKey: [32]byte{3}, Bucket: time.Hour, TrustClock: true,
		SegmentSize: MinSegmentSize, Slack: 1 << 20, Reserve: -1}
}

// faultBody is what deposit id holds: anyone can check it.
func faultBody(id uint64) []byte {
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, id))
	return bytes.Repeat(sum[:], 1+int(id%40))
}

// childMain runs a child's work; it never returns in a child.
func childMain() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	o := faultOptions(dir)
	switch os.Getenv(childWrong) {
	case "sync":
		o.hooks.answerBeforeSync = true
	case "write":
		o.hooks.answerBeforeWrite = func() { time.Sleep(5 * time.Millisecond) }
	}
	fmt.Println("start")
	s, err := Open(context.Background(), o)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var base uint64
	fmt.Sscan(os.Getenv(childBase), &base)
	var out sync.Mutex
	say := func(what string, id uint64) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(os.Stdout, "%s %d\n", what, id)
	}
	var wg sync.WaitGroup
	for lane := range uint64(lanes) {
		wg.Go(func() { childLane(s, base, lane, say) })
	}
	wg.Wait()
	os.Exit(1) // only a refusal ends a lane
	return true
}

// childLane deposits, acknowledges some of what it deposited and counts in a row.
func childLane(s *Store, base, lane uint64, say func(string, uint64)) {
	type mine struct {
		id  uint64
		lsn LSN
	}
	var own []mine
	for n := uint64(1); ; n++ {
		id := base + n*lanes + lane
		var b Batch
		b.Deposit(Deposit{Body: faultBody(id), Meta: binary.LittleEndian.AppendUint64(nil, id),
			Deadline: time.Now().Add(10 * time.Hour), Queues: []QueueID{QueueID(lane), QueueID(100 + lane)}})
		b.Put(fmt.Appendf(nil, "lane/%d", lane), binary.LittleEndian.AppendUint64(nil, id))
		c, err := s.Commit(context.Background(), &b)
		if err != nil {
			say("refused", id)
			return
		}
		say("accepted", id)
		own = append(own, mine{id, c.LSNs[0]})
		for len(own) > 20 {
			i := rand.IntN(len(own))
			m := own[i]
			own = append(own[:i], own[i+1:]...)
			say("try", m.id)
			var b Batch
			b.Ack(QueueID(lane), m.lsn)
			b.Ack(QueueID(100+lane), m.lsn)
			if _, err := s.Commit(context.Background(), &b); err != nil {
				return
			}
			say("acked", m.id)
		}
	}
}

// ledger is what the parent knows of each deposit.
type ledger struct {
	state map[uint64]string
	rows  [lanes]uint64
}

func newLedger() *ledger { return &ledger{state: make(map[uint64]string)} }

func (l *ledger) take(line string) error {
	var what string
	var id uint64
	if n, _ := fmt.Sscan(line, &what, &id); n < 2 {
		if what == "error" {
			return fmt.Errorf("child: %s", line)
		}
		return nil
	}
	if what == "accepted" {
		l.rows[id%lanes] = id
	}
	if what == "refused" {
		return fmt.Errorf("child: %s", line)
	}
	l.state[id] = what
	return nil
}

// losses compares the ledger with what is on the disk. Acknowledged deposits may come
// back when redelivery is allowed.
func (l *ledger) losses(t tester, s *Store, redelivery bool) (lost []string) {
	t.Helper()
	there := make(map[uint64]int)
	for lane := range lanes {
		for _, q := range []int{lane, 100 + lane} {
			items, err := s.Fetch(QueueID(q), 0, 1<<30, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				if it.Err != nil {
					t.Fatalf("item: %v", it.Err)
				}
				id := binary.LittleEndian.Uint64(it.Meta)
				if !bytes.Equal(it.Body, faultBody(id)) {
					t.Fatalf("deposit %d: a wrong body", id)
				}
				there[id]++
			}
		}
		v, err := s.Get(fmt.Appendf(nil, "lane/%d", lane))
		if l.rows[lane] > 0 && (err != nil || binary.LittleEndian.Uint64(v) < l.rows[lane]) {
			lost = append(lost, fmt.Sprintf("row of lane %d (%v)", lane, err))
		}
	}
	for id, state := range l.state {
		switch n := there[id]; {
		case state == "accepted" && n != 2:
			lost = append(lost, fmt.Sprintf("deposit %d: %d of 2 references", id, n))
		case state == "acked" && n != 0 && !redelivery:
			lost = append(lost, fmt.Sprintf("deposit %d came back", id))
		}
		if state != "accepted" {
			delete(l.state, id)
		}
	}
	return lost
}

// child is a running child.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	out   *os.File
}

func startChild(t *testing.T, dir, wrong string, base uint64) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childWrong+"="+wrong, fmt.Sprintf("%s=%d", childBase, base))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return &child{cmd: cmd, lines: bufio.NewScanner(r), out: r}
}

// follow reads up to n lines, to the end when n is negative.
func (c *child) follow(t *testing.T, l *ledger, n int) {
	t.Helper()
	for ; n != 0 && c.lines.Scan(); n-- {
		if err := l.take(c.lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *child) kill(t *testing.T, l *ledger) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.follow(t, l, -1)
	_ = c.cmd.Wait()
	io.Copy(io.Discard, c.out)
	c.out.Close()
}
