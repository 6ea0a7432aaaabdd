package store

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// killCycles kills a child again and again and returns what was lost.
func killCycles(t *testing.T, cycles int, wrong string) (lost []string, accepted int) {
	t.Helper()
	dir := t.TempDir()
	l := newLedger()
	for cycle := range cycles {
		c := startChild(t, dir, wrong, uint64(cycle+1)<<32)
		if cycle%5 == 4 { // somewhere in Open
			c.follow(t, l, 1)
			time.Sleep(time.Duration(rand.IntN(15_000)) * time.Microsecond)
		} else {
			c.follow(t, l, 1+rand.IntN(3_000))
		}
		c.kill(t, l)
		accepted += len(l.state)
		s, err := Open(context.Background(), faultOptions(dir))
		if err != nil {
			t.Fatalf("cycle %d: %v", cycle, err)
		}
		if wrong == "" {
			healthy(t, s)
		}
		lost = append(lost, l.losses(t, s, false)...)
		var b Batch // what lives would only grow
		for lane := range lanes {
			if rand.IntN(2) == 0 {
				continue
			}
			for id := range l.state {
				if id%lanes == uint64(lane) {
					delete(l.state, id)
				}
			}
			for _, q := range []QueueID{QueueID(lane), QueueID(100 + lane)} {
				items, err := s.Peek(q, 0, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				for _, it := range items {
					b.Ack(q, it.LSN)
				}
			}
		}
		if b.Len() > 0 {
			commit(t, s, &b)
		}
		closeStore(t, s)
		if wrong != "" && len(lost) > 0 {
			return lost, accepted
		}
	}
	return lost, accepted
}

func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// P1. ENTENTE_KILLS=200 for the long run.
func TestNothingAcceptedIsLostWhenTheProcessIsKilled(t *testing.T) {
	cycles := envInt("ENTENTE_KILLS", 15)
	lost, accepted := killCycles(t, cycles, "")
	if len(lost) > 0 {
		t.Fatalf("%d losses, the first: %s", len(lost), lost[0])
	}
	t.Logf("%d kills, %d deposits checked, none lost", cycles, accepted)
}

func TestTheKillCheckCatchesAnEngineThatAnswersBeforeItWrites(t *testing.T) {
	lost, _ := killCycles(t, 30, "write")
	if len(lost) == 0 {
		t.Fatal("the check found nothing")
	}
	t.Logf("found: %s", lost[0])
}

// A wrong engine must go on until it is caught: nobody waits for what reclaim moves.
func TestAnEngineThatAnswersBeforeItWritesStillReclaims(t *testing.T) {
	o := testOptions(t.TempDir(), newTestClock())
	o.hooks.answerBeforeWrite = func() {}
	s := openStore(t, o)
	deposit(t, s, "survivor", time.Hour, 1)
	filler := strings.Repeat("f", 64<<10)
	for range 200 {
		lsn := deposit(t, s, filler, time.Hour, 3)
		var b Batch
		b.Ack(3, lsn)
		commit(t, s, &b)
	}
	waitFor(t, "reclaim", func() bool { return s.Status().Bytes <= 4<<20 })
	closeStore(t, s)
}
