package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Handler takes deliveries, in order and from one goroutine. When it returns nil
// the device has stored what it could take of them, and all up to Mark are acknowledged;
// unread lists those that nobody reads there, each time that they are handed over. What lies
// above Mark is handed over again, after Timing.Again, unless it is Taken, and after each
// reconnect, also what it has taken if the node has not heard of that; never anything at or
// below Mark.
type Handler func(ctx context.Context, ds []*pb.Deliver) (unread []Unread, err error)

// ClientOptions are a device's side of the session.
type ClientOptions struct {
	// Dial opens a connection and fetches a ticket for it, signing in if it must.
	Dial func(ctx context.Context) (c Conn, ticket []byte, err error)
	// Ticket fetches one that rests on a fresh sign-in, to stay when the old ends.
	Ticket func(ctx context.Context) ([]byte, error)
	// Mark is the highest seq up to which the device has stored everything.
	Mark func() uint64
	// Taken, if set, reports whether the device has stored a delivery above Mark that it was
	// handed: it is acknowledged alone, and not handed over again.
	Taken func(seq uint64) bool
	// Unread, if set, lists, rising and none above Mark, what it has stored the numbers of and
	// nobody reads, as far as the node may not have heard it: wire.DeliverWindow at most.
	// Welcomed says that the node has.
	Unread  func() []Unread
	Handler Handler
	// GiveUp, if set, is Handler for what fills the window and was not taken: it takes these
	// deliveries, whatever becomes of them. Without it the mailbox stands still then.
	GiveUp Handler
	// Welcomed, if set, is called with the highest counter that the node has a result
	// for, and with its clock (zero: not said), before anything else of a connection is sent
	// or handled. An error ends Run.
	Welcomed func(submitMark uint64, clock time.Time) error
	// State, if set, is called from Run's goroutines: connected (nil) and each end or
	// failed attempt (why). It must not block.
	State func(connected bool, why error)
	// Drained, if set, is called when the mailbox was empty and all before it was handled.
	Drained         func()
	WindowEnvelopes int // 0: wire.DeliverWindow
	WindowBytes     int // 0: wire.DeliverWindowBytes
	Timing          Timing
	Clock           func() time.Time // nil: time.Now
}

// Client keeps one session with the home node, over as many connections as it
// takes. Create it with NewClient and run it with Run.
type Client struct {
	o ClientOptions

	mu      sync.Mutex
	pending []*submission // without a result, in the order of Submit
	link    *link         // nil: not connected
	bytes   int
	space   chan struct{} // closed and replaced when pending shrinks
	failed  error         // Run has ended
}

type submission struct {
	counter uint64
	core    []byte
	done    func(*pb.Status)
	n       uint64 // in the current connection; 0: not sent
}

// NewClient returns a client that has not yet connected.
func NewClient(o ClientOptions) *Client {
	if o.WindowEnvelopes <= 0 {
		o.WindowEnvelopes = wire.DeliverWindow
	}
	if o.WindowBytes <= 0 {
		o.WindowBytes = wire.DeliverWindowBytes
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.State == nil {
		o.State = func(bool, error) {}
	}
	if o.Welcomed == nil {
		o.Welcomed = func(uint64, time.Time) error { return nil }
	}
	if o.Taken == nil {
		o.Taken = func(uint64) bool { return false }
	}
	if o.Drained == nil {
		o.Drained = func() {}
	}
	o.Timing = o.Timing.orDefault()
	return &Client{o: o, space: make(chan struct{})}
}

// Submit queues one envelope core under the device's durable counter and returns
// once it has its place, waiting while a window's worth is without results. done is
// called once with the node's status, from a goroutine that it must not block; if
// Run ends first it is never called: whoever stored the submission sends it again. A
// counter that waits for its result already is not queued a second time, and the second
// done is not called.
func (c *Client) Submit(ctx context.Context, counter uint64, core []byte, done func(*pb.Status)) error {
	if len(core) > MaxEnvelope {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "an envelope of %d bytes: at most %d are allowed", len(core), MaxEnvelope)
	}
	for {
		c.mu.Lock()
		if c.failed != nil {
			defer c.mu.Unlock()
			return c.failed
		}
		if slices.ContainsFunc(c.pending, func(s *submission) bool { return s.counter == counter }) {
			c.mu.Unlock()
			return nil
		}
		if len(c.pending) < wire.SubmitWindow && c.bytes+len(core) <= wire.SubmitWindowBytes {
			c.pending = append(c.pending, &submission{counter: counter, core: core, done: done})
			c.bytes += len(core)
			if c.link != nil {
				poke(c.link.kick)
			}
			c.mu.Unlock()
			return nil
		}
		space := c.space
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-space:
		}
	}
}

// Run connects, and connects again with full jitter, until ctx ends or the node
// says that this device is revoked or was replaced by a newer session of its own.
func (c *Client) Run(ctx context.Context) error {
	attempt := 0
	var err error
	for {
		var welcomed bool
		welcomed, err = c.once(ctx)
		if ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		c.o.State(false, err)
		if final(err) {
			break
		}
		if welcomed {
			attempt = 0
		}
		wait := backoff(attempt, rand.Float64())
		var ce *CloseError
		if errors.As(err, &ce) {
			wait += min(max(ce.Retry, 0), maxRetry)
		}
		attempt++
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
	c.pending, c.bytes = nil, 0
	close(c.space)
	return err
}

// maxRetry bounds how long a node can send a device away.
const maxRetry = 5 * time.Minute

// backoff is full jitter between the floor and a doubling ceiling; r is in [0, 1).
func backoff(attempt int, r float64) time.Duration {
	top := min(wire.ReconnectFloor<<min(attempt+1, 20), wire.ReconnectCeiling)
	return wire.ReconnectFloor + time.Duration(r*float64(top-wire.ReconnectFloor))
}

// final reports whether trying again cannot help.
func final(err error) bool {
	var ce *CloseError
	if errors.As(err, &ce) {
		return ce.Code == CodeRevoked || ce.Code == CodeReplaced
	}
	var se *wire.StatusError
	if !errors.As(err, &se) {
		var he *handlerError
		return errors.As(err, &he)
	}
	return se.Status.Code == pb.Code_CODE_REVOKED
}

// once runs one connection. welcomed says that the node took the session.
func (c *Client) once(ctx context.Context) (welcomed bool, err error) {
	conn, ticket, err := c.o.Dial(ctx)
	if err != nil {
		return false, err
	}
	l := newLink(c, conn)
	if err = l.greet(ctx, ticket); err != nil {
		conn.Close(CodeGoingAway, "")
		return false, err
	}
	c.mu.Lock()
	for _, s := range c.pending {
		s.n = 0
	}
	c.link = l
	c.mu.Unlock()
	c.o.State(true, nil)
	err = l.run(ctx)
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	return true, err
}

// take returns unsent submissions that the node's window allows and numbers them.
func (c *Client) take(p *packer, l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open, bytes := 0, 0
	for _, s := range c.pending {
		if s.n == 0 {
			if open >= l.submitWindow || bytes+len(s.core) > l.submitBytes || !p.fits(len(s.core)) || p.room() == 0 {
				return
			}
			l.lastN++
			s.n = l.lastN
			p.add(&pb.Frame{Frame: &pb.Frame_Submit{Submit: &pb.Submit{N: s.n, Counter: s.counter, Envelope: s.core}}}, len(s.core))
		}
		open++
		bytes += len(s.core)
	}
}

// settle removes what a Result answers and calls back.
func (c *Client) settle(r *pb.Result, lastN uint64) error {
	if r.N == 0 || r.Through < r.N || r.Through > lastN || r.Status == nil {
		return malformed("a result of nothing")
	}
	c.mu.Lock()
	var answered []*submission
	kept := make([]*submission, 0, len(c.pending))
	for _, s := range c.pending {
		if s.n >= r.N && s.n <= r.Through {
			answered = append(answered, s)
			c.bytes -= len(s.core)
		} else {
			kept = append(kept, s)
		}
	}
	c.pending = kept
	if len(answered) > 0 {
		close(c.space)
		c.space = make(chan struct{})
	}
	c.mu.Unlock()
	for _, s := range answered {
		s.done(r.Status)
	}
	return nil
}

// sentN returns the highest n of this connection.
func (c *Client) sentN(l *link) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.lastN
}
