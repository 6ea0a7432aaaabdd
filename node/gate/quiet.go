package gate

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
)

// limiter bounds the connections of one address that have not said Hello: those that are silent
// for longer than fresh, and all together. One more ends the oldest, so that who holds many
// silent ones, behind the same address as an office, locks nobody out who says Hello at once.
type limiter struct {
	mu   sync.Mutex
	open map[string][]*quiet // the oldest first
}

type quiet struct {
	since time.Time
	end   func()
}

// fresh is the time within which an honest device has said Hello, over a slow way too.
const fresh = 2 * time.Second

// enter counts a connection that end closes; the caller calls leave when it has said Hello, or
// is over.
func (l *limiter) enter(addr string, end func()) (leave func()) {
	now := time.Now()
	q := &quiet{now, end}
	var over *quiet
	l.mu.Lock()
	list := append(l.open[addr], q)
	if n := len(list); n > wire.MaxFreshPerAddr || n > wire.MaxUnHelloedPerAddr && now.Sub(list[0].since) > fresh {
		over = list[0]
		list = slices.Delete(list, 0, 1)
	}
	l.open[addr] = list
	l.mu.Unlock()
	if over != nil {
		over.end()
	}
	return sync.OnceFunc(func() { l.leave(addr, q) })
}

func (l *limiter) leave(addr string, q *quiet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.DeleteFunc(l.open[addr], func(x *quiet) bool { return x == q })
	if len(list) == 0 {
		delete(l.open, addr)
		return
	}
	l.open[addr] = list
}

// clientAddress is whom a request counts for: the address that it comes from, or the one that
// trusted proxies say it comes from. Of X-Forwarded-For only what they have added counts, from
// the right. An IPv6 address counts with its /64, which is one subscriber.
func clientAddress(r *http.Request, proxies []netip.Prefix) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr := at.Addr().Unmap().WithZone("")
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(said) - 1; i >= 0 && trusted(addr, proxies); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(said[i]))
		if err != nil {
			break // what a proxy does not say counts for the proxy
		}
		addr = next.Unmap().WithZone("")
	}
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

func trusted(addr netip.Addr, proxies []netip.Prefix) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}
