package node

import (
	"context"
	"strconv"
	"testing"
)

// A partner does not answer for certificates of its members. Another's are fetched meanwhile,
// and what is missed of the first is not asked for by everybody who comes.
func TestCertificatesOfOnePartnerDoNotWaitForAnother(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	a, slow, other := sites[0], sites[1], sites[2]
	miss := func(c *client) memberKey {
		k := memberKey{c.home.org.ID, c.member}
		if _, err := a.chains.get(k); err == nil {
			t.Fatal("it is known already")
		}
		return k
	}
	for i := range 12 {
		miss(slow.client("sam" + strconv.Itoa(i)))
	}
	ida := miss(other.client("ida"))
	slow.heads.mu.Lock() // its answers need that
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.fetchMissing(ctx)
	}()
	eventually(t, "ida's certificates", func() bool { _, err := a.chains.get(ida); return err == nil })
	late := miss(slow.client("late"))
	if a.fetchMissing(ctx) {
		t.Error("certificates came from the one that does not answer")
	}
	stop()
	slow.heads.mu.Unlock()
	<-ended
	eventually(t, "what was missed meanwhile", func() bool { a.fetchMissing(t.Context()); _, err := a.chains.get(late); return err == nil })
}
