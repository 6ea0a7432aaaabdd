package group

import (
	"fmt"
	"runtime"
	"testing"
)

// The figures of RESULTS.md as far as they do not depend on the machine: what a
// message allocates, the encoding of the record to store included.
func TestAMessageAllocatesLittle(t *testing.T) {
	for _, n := range []int{2, 64} {
		first, second := benchRoom(t, n)
		if n > 2 { // the longest record
			everybodyHasSent(t, first, n)
			everybodyHasSent(t, second, n)
		}
		data := make([]byte, 200)
		const runs = 20
		var sent [][]byte
		send := testing.AllocsPerRun(runs, func() {
			next, msg, err := first.st.Encrypt(nil, data, 0)
			must(t, err)
			next.Records(first.st)
			first.st, sent = next, append(sent, msg)
		})
		receive := testing.AllocsPerRun(runs, func() {
			next, _, err := second.st.Decrypt(sent[0])
			must(t, err)
			next.Records(second.st)
			second.st, sent = next, sent[1:]
		})
		if send > 40 || receive > 40 {
			t.Errorf("%d members: %.0f allocations to send, %.0f to receive, want at most 40", n, send, receive)
		}
	}
}

// A Welcome costs by the number of those who are added, not by its square, and
// not by the group's size.
func TestAWelcomeGrowsWithItsNewcomersOnly(t *testing.T) {
	founder := newClient(t, "founder")
	founder.create()
	var kps [][]byte
	for i := range 160 {
		kps = append(kps, newClient(t, fmt.Sprint("n", i)).kp)
	}
	added := func(c *client, kps [][]byte) (size, allocated int) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, st, err := c.st.Stage(CommitParams{Adds: kps})
		must(t, err)
		runtime.ReadMemStats(&after)
		return len(st.Welcome), int(after.TotalAlloc - before.TotalAlloc)
	}
	size, few := added(founder, kps[:20])
	bigger, many := added(founder, kps)
	if bigger > 8*size || many > 10*few {
		t.Errorf("20 newcomers: %d bytes, %d allocated; 160: %d and %d", size, few, bigger, many)
	}
	newcomer := newClient(t, "newcomer").kp
	small, _ := added(founder, [][]byte{newcomer})
	founder.commit(CommitParams{Adds: kps})
	if inBig, _ := added(founder, [][]byte{newcomer}); inBig > small+128 {
		t.Errorf("one newcomer to 1 member: %d bytes, to 161: %d", small, inBig)
	}
}
