package group

import (
	"fmt"
	"testing"

	"github.com/entente-im/entente/mls"
)

var benchSizes = []int{2, 100, 500}

// benchRoom joins the first two members only: the others are leaves.
func benchRoom(b testing.TB, n int) (first, second *client) {
	b.Helper()
	first, second = newClient(b, "first"), newClient(b, "second")
	first.create()
	kps := [][]byte{second.kp}
	for i := 2; i < n; i++ {
		kps = append(kps, newClient(b, fmt.Sprint(i)).kp)
	}
	st := first.commit(CommitParams{Adds: kps})
	second.join(st)
	return first, second
}

func BenchmarkSend(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			first, _ := benchRoom(b, n)
			data := make([]byte, 200)
			b.ReportAllocs()
			for b.Loop() {
				next, _, err := first.st.Encrypt(nil, data, 0)
				must(b, err)
				next.Records(first.st)
				first.st = next
			}
		})
	}
}

func BenchmarkReceive(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			first, second := benchRoom(b, n)
			data := make([]byte, 200)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				next, msg, err := first.st.Encrypt(nil, data, 0)
				must(b, err)
				first.st = next
				b.StartTimer()
				next, _, err = second.st.Decrypt(msg)
				must(b, err)
				next.Records(second.st)
				second.st = next
			}
		})
	}
}

func BenchmarkWelcomeForAll(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newClient(b, "first")
			c.create()
			var kps [][]byte
			for i := 1; i < n; i++ {
				kps = append(kps, newClient(b, fmt.Sprint(i)).kp)
			}
			b.ReportAllocs()
			for b.Loop() {
				c.commitAs(CommitParams{Adds: kps})
			}
		})
	}
}

func BenchmarkJoin(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			first, _ := benchRoom(b, n)
			x := newClient(b, "x")
			st := first.commit(CommitParams{Adds: [][]byte{x.kp}})
			b.ReportAllocs()
			for b.Loop() {
				x.join(st)
			}
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range benchSizes {
		first, second := benchRoom(b, n)
		b.Run(fmt.Sprintf("create/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				first.commitAs(CommitParams{})
			}
		})
		st := first.commitAs(CommitParams{})
		b.Run(fmt.Sprintf("process/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := second.st.Process(st.Commit)
				must(b, err)
			}
		})
	}
}

// BenchmarkAllHaveSent is the dearest case of a message: everybody in the room has
// sent in this epoch, and each has a record of its own.
func BenchmarkAllHaveSent(b *testing.B) {
	for _, n := range []int{100, 500, 2000} {
		first, second := benchRoom(b, n)
		everybodyHasSent(b, first, n)
		everybodyHasSent(b, second, n)
		data := make([]byte, 200)
		b.Run(fmt.Sprintf("receive/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				next, msg, err := first.st.Encrypt(nil, data, 0)
				must(b, err)
				first.st = next
				b.StartTimer()
				next, _, err = second.st.Decrypt(msg)
				must(b, err)
				next.Records(second.st)
				second.st = next
			}
		})
		b.Run(fmt.Sprintf("send/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				next, _, err := first.st.Encrypt(nil, data, 0)
				must(b, err)
				next.Records(first.st)
				first.st = next
			}
		})
	}
}

// everybodyHasSent expands the ratchets of all others.
func everybodyHasSent(b testing.TB, c *client, n int) {
	b.Helper()
	st := *c.st
	for l := range mls.LeafIndex(n) {
		if l != st.priv.leaf {
			t, err := st.tree.expand(l)
			must(b, err)
			st.tree = t
		}
	}
	c.st = &st
}
