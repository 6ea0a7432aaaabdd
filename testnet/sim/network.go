package sim

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// errLost is what a dialler gets whose packets nobody answers.
var errLost = errors.New("sim: no route")

// network joins places (nodes and devices) by links and keeps every byte that crosses
// them, for the search for plaintext.
type network struct {
	seed uint64

	mu        sync.Mutex
	listeners map[string]*listener // by address
	links     map[[2]string]*link
	tap       []byte
}

func newNetwork(seed uint64) *network {
	return &network{seed: seed, listeners: make(map[string]*listener), links: make(map[[2]string]*link)}
}

// link is the way between two places. Its delays and losses come from a source of its
// own, seeded by the run's seed and the places' names.
type link struct {
	n *network

	mu     sync.Mutex
	rng    *rand.Rand
	down   bool
	slow   time.Duration // the longest delay of one write
	loss   float64       // probability that a write ends its connection instead
	held   time.Time     // nothing arrives before: who is at one end is paused
	live   map[*end]bool
	conns  map[*conn]bool
	writes int
}

// between returns the link of two places, in either order.
func (n *network) between(a, b string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]string{min(a, b), max(a, b)}
	l := n.links[key]
	if l == nil {
		h := fnv.New64a()
		h.Write([]byte(key[0] + "\x00" + key[1]))
		l = &link{n: n, rng: rand.New(rand.NewPCG(n.seed, h.Sum64())), slow: 20 * time.Millisecond,
			live: make(map[*end]bool), conns: make(map[*conn]bool)}
		n.links[key] = l
	}
	return l
}

// delay is how long the next thing takes.
func (l *link) delay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delayLocked()
}

func (l *link) delayLocked() time.Duration {
	return max(0, time.Until(l.held)) + time.Millisecond + time.Duration(l.rng.Int64N(int64(l.slow)))
}

// carry takes what is written and says when it arrives, or that the connection is lost.
func (l *link) carry(b []byte, _ bool) (time.Duration, error) {
	l.n.mu.Lock()
	l.n.tap = append(l.n.tap, b...)
	l.n.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	if l.down || l.loss > 0 && l.rng.Float64() < l.loss {
		return 0, errLost
	}
	return l.delayLocked(), nil
}

// hold has nothing arrive over the link for a while. Its connections stay, as those of a
// process that is stopped and goes on later.
func (l *link) hold(length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = time.Now().Add(length)
}

// setDown cuts the link, with everything that is on its way, or restores it.
func (l *link) setDown(down bool) {
	l.mu.Lock()
	l.down = down
	l.mu.Unlock()
	if down {
		l.sever()
	}
}

// setLoss sets the probability that a write ends its connection, and the longest delay.
func (l *link) setLoss(loss float64, slow time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loss, l.slow = loss, slow
}

// sever ends all connections over the link; new ones may be made.
func (l *link) sever() {
	l.mu.Lock()
	ends := make([]*end, 0, len(l.live))
	for e := range l.live {
		ends = append(ends, e)
	}
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, e := range ends {
		e.sever()
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// connect makes both ends of a connection and has them counted among the link's.
func (l *link) connect(from, to string) (dialled, accepted *end) {
	a, b := connection(l, from, to)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range []*end{a, b} {
		l.live[e] = true
		e.gone = func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.live, e)
		}
	}
	return a, b
}

// reaches waits as long as a packet takes; it fails when the link is down.
func (l *link) reaches(ctx context.Context) error {
	timer := time.NewTimer(l.delay())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return errLost
	}
	return nil
}

// listener is a node's door.
type listener struct {
	n       *network
	place   string
	address string
	arrived chan net.Conn
	done    chan struct{}
	once    sync.Once
}

// listen opens a door of a place.
func (n *network) listen(place, addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{n: n, place: place, address: addr, arrived: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// dial connects a place to a door.
func (n *network) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	n.mu.Lock()
	door := n.listeners[addr]
	n.mu.Unlock()
	if door == nil {
		return nil, errors.New("sim: connection refused")
	}
	l := n.between(from, door.place)
	if err := l.reaches(ctx); err != nil {
		return nil, err
	}
	ours, theirs := l.connect(from, addr)
	select {
	case door.arrived <- theirs:
		return ours, nil
	case <-door.done:
	case <-ctx.Done():
	}
	ours.sever()
	theirs.sever()
	return nil, errors.New("sim: connection refused")
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrived:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listeners[l.address] == l {
			delete(l.n.listeners, l.address)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.address) }

// isolate closes a place's doors and ends its connections: nobody reaches what runs
// there any more.
func (n *network) isolate(place string) {
	n.mu.Lock()
	var doors []*listener
	for _, l := range n.listeners {
		if l.place == place {
			doors = append(doors, l)
		}
	}
	n.mu.Unlock()
	for _, l := range doors {
		_ = l.Close()
	}
	n.mu.Lock()
	var list []*link
	for key, l := range n.links {
		if key[0] == place || key[1] == place {
			list = append(list, l)
		}
	}
	n.mu.Unlock()
	for _, l := range list {
		l.sever()
	}
}
