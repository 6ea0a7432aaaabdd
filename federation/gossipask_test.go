package federation

import (
	"bytes"
	"slices"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// The network drops for up to a minute and a half what it has passed on once: who comes
// then would not hear of it.
func TestWhoComesLateHearsAtOnceWhatWasToldBefore(t *testing.T) {
	a, b, c := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	befriend(t, a, b)
	befriend(t, b, c)
	befriend(t, a, c)
	b.linked(c)
	c.halt()
	a.linked(b)
	a.told(a.head(4, 1), func() bool { return slices.Contains(b.ears.sizes(a), 4) })
	if err := b.fed.TellHead(a.head(4, 1)); err != nil { // as it does when it has recomputed it
		t.Fatal(err)
	}
	a.halt() // it could tell its head itself
	c.start()
	c.linked(b)
	until(t, "who came late hears", func() bool { return slices.Contains(c.ears.sizes(a), 4) })
}

func TestAllThatANodeTellsIsAskedForPageByPage(t *testing.T) {
	a := newNode(t, "acme.example")
	for i := range 3*toldPage + 1 {
		other := a.org.ID
		other[0], other[1] = byte(i), byte(i>>8)
		data, err := sealGossip(other, gossipHead, []byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		a.fed.gossip.mu.Lock()
		a.fed.gossip.rumourLocked(other).tellings[0] = telling{data: data}
		a.fed.gossip.mu.Unlock()
	}
	var got [][]byte
	q := &pb.ToldQuery{}
	for range 5 {
		answer, err := a.fed.gossip.toldAnswer(q)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, answer.GetTold().Messages...)
		if q.After = answer.GetTold().Last; len(q.After) == 0 {
			break
		}
	}
	slices.SortFunc(got, bytes.Compare)
	if n := len(slices.CompactFunc(got, bytes.Equal)); n != 3*toldPage+1 || len(got) != n {
		t.Errorf("%d messages, %d different ones, of %d", len(got), n, 3*toldPage+1)
	}
	if _, err := a.fed.gossip.toldAnswer(&pb.ToldQuery{After: make([]byte, 1<<10)}); err == nil {
		t.Error("a place of 1 KiB was taken")
	}
}
