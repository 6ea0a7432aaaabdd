package gate

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	"github.com/entente-im/entente/wire/session"
)

func TestConnectionsThatSayNothingAreBoundedPerAddressAndTheOldestGoes(t *testing.T) {
	l := limiter{open: make(map[string][]*quiet)}
	ended := 0
	enter := func(n int) (leave []func()) {
		for range n {
			leave = append(leave, l.enter("192.0.2.1", func() { ended++ }))
		}
		return leave
	}
	// An office comes back at once: nobody is ended who may be about to say Hello.
	office := enter(wire.MaxFreshPerAddr)
	if ended != 0 {
		t.Errorf("%d were ended within their time", ended)
	}
	oldest, second := l.open["192.0.2.1"][0], l.open["192.0.2.1"][1]
	oldest.end, second.end = func() { ended++ }, func() { t.Error("the second was ended in the place of the oldest") }
	enter(1)
	if ended != 1 {
		t.Errorf("%d were ended by one over the bound", ended)
	}
	for _, leave := range office {
		leave()
		leave()
	}
	if n := len(l.open["192.0.2.1"]); n != 1 {
		t.Fatalf("%d are left", n)
	}
	// Those that stay silent hold their number of places, and no more.
	enter(wire.MaxUnHelloedPerAddr - 1)
	for _, q := range l.open["192.0.2.1"] {
		q.since = q.since.Add(-2 * fresh)
	}
	enter(wire.MaxUnHelloedPerAddr)
	if n := len(l.open["192.0.2.1"]); n != wire.MaxUnHelloedPerAddr || ended != 1+wire.MaxUnHelloedPerAddr {
		t.Errorf("%d are left, %d were ended", n, ended)
	}
	l.enter("192.0.2.2", func() { t.Error("of another address") })
}

func TestASilentConnectionThatIsOneTooManyIsClosed(t *testing.T) {
	w := start(t, session.Timing{Hello: time.Hour})
	first, status := w.dial(t, "", session.Subprotocol)
	if first == nil {
		t.Fatalf("answered with %d", status)
	}
	for range wire.MaxUnHelloedPerAddr - 1 {
		w.dial(t, "", session.Subprotocol)
	}
	time.Sleep(fresh) // for real: the bound is about that
	w.dial(t, "", session.Subprotocol)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := first.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the oldest is still there: %v", err)
	}
}

// TestAnOfficeBehindOneAddressIsServed: two hundred devices come at once from one address,
// from which somebody holds as many silent connections as there may be, and goes on.
func TestAnOfficeBehindOneAddressIsServed(t *testing.T) {
	w := start(t, session.Timing{Hello: time.Hour})
	const office = 200
	stop := make(chan struct{})
	var silent, devices sync.WaitGroup
	for range 4 {
		silent.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
					w.dial(t, "", session.Subprotocol)
				}
			}
		})
	}
	for range wire.MaxUnHelloedPerAddr {
		w.dial(t, "", session.Subprotocol)
	}
	began := time.Now()
	for i := range office {
		devices.Go(func() {
			d := wire.DeviceID{byte(i), 1}
			c, status := w.dial(t, "", session.Subprotocol)
			if c == nil {
				t.Errorf("device %d was answered with %d", i, status)
				return
			}
			if f := hello(t, c, w.ticket(t, d, "", time.Hour)); f.GetWelcome() == nil {
				t.Errorf("device %d: %v", i, f)
			}
			_ = c.CloseNow()
		})
	}
	devices.Wait()
	close(stop)
	silent.Wait()
	t.Logf("%d devices in %s", office, time.Since(began))
}

func TestWhomARequestCountsFor(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16")}
	for _, c := range []struct {
		what, remote string
		forwarded    []string
		want         string
	}{
		{"no proxy", "192.0.2.1:1000", nil, "192.0.2.1"},
		{"a header of somebody who is no proxy", "192.0.2.1:1000", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a proxy", "10.0.0.1:1000", []string{"198.51.100.7"}, "198.51.100.7"},
		{"a proxy that says nothing", "10.0.0.1:1000", nil, "10.0.0.1"},
		{"a proxy that says nonsense", "10.0.0.1:1000", []string{"unknown"}, "10.0.0.1"},
		{"what the client has made up stands to the left", "10.0.0.1:1000", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		{"over several headers", "10.0.0.1:1000", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.1:1000", []string{"203.0.113.9, 198.51.100.7, 10.2.3.4"}, "198.51.100.7"},
		{"proxies alone", "10.0.0.1:1000", []string{"10.2.3.4"}, "10.2.3.4"},
		{"a subscriber of IPv6", "[2001:db8:1:2:3:4:5:6]:1000", nil, "2001:db8:1:2::/64"},
		{"the same through a proxy", "[fd00::1]:1000", []string{"2001:db8:1:2::9"}, "2001:db8:1:2::/64"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:1000", nil, "192.0.2.1"},
		{"no address", "pipe", nil, "pipe"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := clientAddress(r, proxies); got != c.want {
			t.Errorf("%s: counts for %s, want %s", c.what, got, c.want)
		}
	}
}
