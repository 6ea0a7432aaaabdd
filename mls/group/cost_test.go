package group

import "testing"

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
