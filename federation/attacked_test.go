package federation

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// attacked is acme while somebody attacks its node: globex, an honest partner of it, goes
// on, and what acme's process holds is measured.
type attacked struct {
	a, c       *node
	heap, peak int64
	goroutines int
	size       uint64
}

// underAttack measures acme at rest; both are linked.
func underAttack(a, c *node) *attacked {
	x := &attacked{a: a, c: c, size: 4}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	x.heap, x.goroutines = int64(m.HeapAlloc), runtime.NumGoroutine()
	return x
}

// goes has a message and a head pass from globex to acme, and returns how long they took.
func (x *attacked) goes(t testing.TB) time.Duration {
	t.Helper()
	began := time.Now()
	n := x.c.sends(x.a, 1, "meanwhile")
	x.c.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	x.size++
	x.c.told(x.c.head(x.size, 1), func() bool { return slices.Contains(x.a.ears.sizes(x.c), x.size) })
	return time.Since(began)
}

// streams is how many streams a peer holds at acme.
func (x *attacked) streams(p peer.ID) (n int) {
	_ = x.a.fed.host.Network().ResourceManager().ViewPeer(p, func(s network.PeerScope) error {
		n = s.Stat().NumStreamsInbound
		return nil
	})
	return n
}

// looks notes how much memory is in use while the attack goes on.
func (x *attacked) looks() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	x.peak = max(x.peak, int64(m.HeapAlloc))
}

// endured checks what is left when the attack is over.
func (x *attacked) endured(t testing.TB, took time.Duration) {
	t.Helper()
	var m runtime.MemStats
	goroutines := 0
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if goroutines = runtime.NumGoroutine(); goroutines < x.goroutines+50 || time.Now().After(end) {
			break
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	grown := int64(m.HeapAlloc) - x.heap
	t.Logf("honest mail and heads in %s; memory %+d KiB, %+d KiB at most, goroutines %+d", took, grown>>10, (x.peak-x.heap)>>10, goroutines-x.goroutines)
	if x.peak-x.heap > 64<<20 {
		t.Errorf("the attack has taken %d MiB", (x.peak-x.heap)>>20)
	}
	if took > 15*time.Second {
		t.Errorf("honest mail and heads took %s", took)
	}
	if grown > 24<<20 {
		t.Errorf("the attack has left %d MiB", grown>>20)
	}
	if goroutines >= x.goroutines+50 {
		t.Errorf("the attack has left %d goroutines", goroutines-x.goroutines)
	}
}
