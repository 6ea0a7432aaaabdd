package gate

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
	"golang.org/x/time/rate"
)

// Bounds of waiting tickets. A device needs one at a time: more wait only when
// sessions did not come about, so the newest push the oldest of the same device
// out, and what bounds the calls is their rate.
const (
	maxTickets          = 100_000 // of all devices
	maxTicketsPerDevice = 4
	ticketRate          = 1 // a second and device
	ticketBurst         = 30
)

// ticket is what a device trades for a session (docs/protocol.md 6.1). Lookup is by
// the whole value in a hash map with a random seed, so timing tells nothing of it.
type ticket struct {
	device  wire.DeviceID
	origin  string
	auth    time.Time // when the sign-in behind it ends
	expires time.Time
}

type tickets struct {
	mu    sync.Mutex
	made  map[[session.TicketLen]byte]ticket
	each  map[wire.DeviceID]*ofDevice
	swept time.Time // when the expired ones were last looked for
}

// ofDevice is what one device has asked for, oldest first. It stays while there are
// tickets or the rate remembers anything, so the table is bounded by the directory.
type ofDevice struct {
	waiting [][session.TicketLen]byte
	rate    *rate.Limiter
}

// OpenSession makes a ticket for a caller; origin is the web origin that the
// session's upgrade will carry, empty for programs. It is the whole of
// DeviceService.OpenSession.
func (g *Gate) OpenSession(c Caller, origin string) (*pb.OpenSessionResponse, error) {
	now := g.o.Clock()
	if len(origin) > 255 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an origin of %d bytes", len(origin))
	}
	var value [session.TicketLen]byte
	if _, err := rand.Read(value[:]); err != nil {
		return nil, err
	}
	t := ticket{device: c.Device, origin: origin, auth: c.Expires, expires: now.Add(wire.TicketLifetime)}
	if wait := g.tickets.add(value, t, now); wait > 0 {
		return nil, wire.Err(wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "too many sessions asked for at once"), wait))
	}
	return &pb.OpenSessionResponse{Ticket: value[:], ExpiresUnix: c.Expires.Unix(), Path: session.Path}, nil
}

// add keeps a ticket, in the place of the device's oldest if it has its share. It
// returns how long to wait when it keeps nothing, and then it has pushed nothing out.
func (ts *tickets) add(value [session.TicketLen]byte, t ticket, now time.Time) time.Duration {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	d := ts.each[t.device]
	if d == nil {
		d = &ofDevice{rate: rate.NewLimiter(ticketRate, ticketBurst)}
		ts.each[t.device] = d
	}
	if r := d.rate.ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait := r.DelayFrom(now)
		r.CancelAt(now)
		return wait
	}
	if len(d.waiting) >= maxTicketsPerDevice {
		ts.drop(d.waiting[0])
	} else if len(ts.made) >= maxTickets && !ts.sweep(now) {
		return wire.TicketLifetime
	}
	ts.made[value] = t
	d.waiting = append(d.waiting, value)
	return 0
}

// sweep drops expired tickets and reports whether there is room after it. It looks
// at all of them once a second at most.
func (ts *tickets) sweep(now time.Time) bool {
	if now.Sub(ts.swept) < time.Second {
		return false
	}
	ts.swept = now
	for v, t := range ts.made {
		if !now.Before(t.expires) {
			ts.drop(v)
		}
	}
	for id, d := range ts.each {
		if len(d.waiting) == 0 && d.rate.TokensAt(now) >= ticketBurst {
			delete(ts.each, id)
		}
	}
	return len(ts.made) < maxTickets
}

func (ts *tickets) drop(v [session.TicketLen]byte) {
	d := ts.each[ts.made[v].device]
	delete(ts.made, v)
	d.waiting = slices.DeleteFunc(d.waiting, func(w [session.TicketLen]byte) bool { return w == v })
}

// redeem takes a ticket out: a second use finds nothing.
func (g *Gate) redeem(value []byte, origin string) (ticket, error) {
	refused := wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, "")
	if len(value) != session.TicketLen {
		return ticket{}, refused
	}
	v, now := [session.TicketLen]byte(value), g.o.Clock()
	g.tickets.mu.Lock()
	t, ok := g.tickets.made[v]
	if ok {
		g.tickets.drop(v)
	}
	g.tickets.mu.Unlock()
	if !ok || t.origin != origin || !now.Before(t.expires) || !now.Before(t.auth) {
		return ticket{}, refused
	}
	if _, active := g.o.Directory.ByDevice(t.device); !active {
		return ticket{}, wire.Refuse(pb.Code_CODE_REVOKED, "")
	}
	return t, nil
}
