package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// half is one direction of a connection: bytes that are on their way and bytes that
// have arrived. Reading waits on a channel, so that a bubble's clock can go on.
type half struct {
	mu      sync.Mutex
	flights []flight
	ready   []byte
	closed  bool // the writer has ended: what is on its way still comes
	broken  bool // the link is gone: nothing comes any more
	changed chan struct{}
	last    time.Time // nothing overtakes within one stream
}

// flight is what one Write sent, and when it arrives.
type flight struct {
	at    time.Time
	bytes []byte
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

// signal wakes all who wait; h.mu is held.
func (h *half) signal() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *half) send(b []byte, delay time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.broken {
		return io.ErrClosedPipe
	}
	at := time.Now().Add(delay)
	if at.Before(h.last) {
		at = h.last
	}
	h.last = at
	h.flights = append(h.flights, flight{at, append([]byte(nil), b...)})
	h.signal()
	return nil
}

// receive returns what has arrived; deadline is a channel that closes when it is over.
func (h *half) receive(b []byte, deadline <-chan struct{}) (int, error) {
	for {
		h.mu.Lock()
		var wait <-chan time.Time
		var timer *time.Timer
		for len(h.flights) > 0 && !h.broken {
			left := time.Until(h.flights[0].at)
			if left > 0 {
				timer = time.NewTimer(left)
				wait = timer.C
				break
			}
			h.ready = append(h.ready, h.flights[0].bytes...)
			h.flights = h.flights[1:]
		}
		if len(h.ready) > 0 && !h.broken {
			n := copy(b, h.ready)
			h.ready = h.ready[n:]
			h.mu.Unlock()
			if timer != nil {
				timer.Stop()
			}
			return n, nil
		}
		changed, broken, ended := h.changed, h.broken, h.closed && len(h.flights) == 0
		h.mu.Unlock()
		switch {
		case broken:
			return 0, net.ErrClosed
		case ended:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-wait:
		case <-deadline:
			if timer != nil {
				timer.Stop()
			}
			return 0, os.ErrDeadlineExceeded
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

func (h *half) end(broken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed, h.broken = true, h.broken || broken
	h.signal()
}

// expiry is a read deadline that can be moved while somebody reads.
type expiry struct {
	mu    sync.Mutex
	over  chan struct{}
	timer *time.Timer
	shut  bool
}

func newExpiry() *expiry { return &expiry{over: make(chan struct{})} }

func (e *expiry) channel() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.over
}

func (e *expiry) set(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if e.shut {
		e.over, e.shut = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	over := e.over
	expire := func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.over == over && !e.shut {
			e.shut = true
			close(over)
		}
	}
	if left := time.Until(t); left > 0 {
		e.timer = time.AfterFunc(left, expire)
		return
	}
	e.shut = true
	close(over)
}

func (e *expiry) stop() { e.set(time.Time{}) }

// end is one side of a connection: a net.Conn. Writing never blocks; what is written
// arrives after the delay that the link has then, in order.
type end struct {
	link     *link
	in, out  *half
	read     *expiry
	outgoing bool // written by the side that dialled
	local    address
	remote   address
	once     sync.Once
	gone     func() // told once, when this side closes
}

type address string

func (a address) Network() string { return "sim" }
func (a address) String() string  { return string(a) }

// connection makes both ends of a connection over a link.
func connection(l *link, from, to string) (dialled, accepted *end) {
	a, b := newHalf(), newHalf()
	dialled = &end{link: l, in: b, out: a, read: newExpiry(), outgoing: true, local: address(from), remote: address(to)}
	accepted = &end{link: l, in: a, out: b, read: newExpiry(), local: address(to), remote: address(from)}
	return dialled, accepted
}

func (e *end) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return e.in.receive(b, e.read.channel())
}

func (e *end) Write(b []byte) (int, error) {
	delay, err := e.link.carry(b, e.outgoing)
	if err != nil {
		e.sever()
		return 0, err
	}
	if err := e.out.send(b, delay); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close ends both directions: what was written still arrives.
func (e *end) Close() error {
	e.out.end(false)
	e.in.end(true)
	e.left()
	return nil
}

// CloseWrite ends the direction from here.
func (e *end) CloseWrite() error {
	e.out.end(false)
	return nil
}

// sever drops the connection and all that is on its way.
func (e *end) sever() {
	e.out.end(true)
	e.in.end(true)
	e.left()
}

func (e *end) left() {
	e.once.Do(func() {
		e.read.stop()
		if e.gone != nil {
			e.gone()
		}
	})
}

func (e *end) LocalAddr() net.Addr                { return e.local }
func (e *end) RemoteAddr() net.Addr               { return e.remote }
func (e *end) SetReadDeadline(t time.Time) error  { e.read.set(t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { return nil } // writing never blocks
func (e *end) SetDeadline(t time.Time) error      { return e.SetReadDeadline(t) }
