package gate

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// Bounds of waiting tickets: all, and of one device.
const (
	maxTickets          = 100_000
	maxTicketsPerDevice = 4
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
	mu   sync.Mutex
	made map[[session.TicketLen]byte]ticket
	each map[wire.DeviceID]int
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
	if !g.tickets.add(value, t, now) {
		return nil, wire.Err(wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "too many sessions asked for at once"), wire.TicketLifetime))
	}
	return &pb.OpenSessionResponse{Ticket: value[:], ExpiresUnix: c.Expires.Unix(), Path: session.Path}, nil
}

func (ts *tickets) add(value [session.TicketLen]byte, t ticket, now time.Time) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.each == nil {
		ts.each = make(map[wire.DeviceID]int)
	}
	if ts.each[t.device] >= maxTicketsPerDevice || len(ts.made) >= maxTickets {
		for v, old := range ts.made {
			if !now.Before(old.expires) {
				ts.drop(v, old)
			}
		}
	}
	if ts.each[t.device] >= maxTicketsPerDevice || len(ts.made) >= maxTickets {
		return false
	}
	ts.made[value] = t
	ts.each[t.device]++
	return true
}

func (ts *tickets) drop(v [session.TicketLen]byte, t ticket) {
	delete(ts.made, v)
	if ts.each[t.device]--; ts.each[t.device] <= 0 {
		delete(ts.each, t.device)
	}
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
		g.tickets.drop(v, t)
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
