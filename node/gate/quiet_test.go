package gate

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
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
	var again atomic.Int64
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
			// A device that a slow machine lets wait for longer than fresh comes again, as
			// devices do.
			err := w.greet(wire.DeviceID{byte(i), 1})
			for tries := 1; err != nil && tries < 4; tries++ {
				again.Add(1)
				err = w.greet(wire.DeviceID{byte(i), 1})
			}
			if err != nil {
				t.Errorf("device %d: %v", i, err)
			}
		})
	}
	devices.Wait()
	close(stop)
	silent.Wait()
	t.Logf("%d devices in %s, %d times again", office, time.Since(began), again.Load())
}

// greet is one visit of a device: it says Hello with a ticket and is welcomed.
func (w *world) greet(d wire.DeviceID) error {
	r, err := w.OpenSession(Caller{Device: d, Expires: w.clock.Now().Add(time.Hour)}, "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://"+w.addr+session.Path, &websocket.DialOptions{HTTPClient: w.http, Subprotocols: []string{session.Subprotocol}})
	if err != nil {
		return err
	}
	defer c.CloseNow()
	c.SetReadLimit(session.MaxMessage)
	b, err := session.EncodeBatch([]*pb.Frame{{Frame: &pb.Frame_Hello{Hello: &pb.Hello{Version: 1, Ticket: r.Ticket, WindowEnvelopes: 256, WindowBytes: 1 << 20}}}})
	if err == nil {
		err = c.Write(ctx, websocket.MessageBinary, b)
	}
	if err == nil {
		_, b, err = c.Read(ctx)
	}
	if err != nil {
		return err
	}
	batch, err := session.DecodeBatch(b)
	if err != nil {
		return err
	}
	if len(batch.Frames) == 0 || batch.Frames[0].GetWelcome() == nil {
		return fmt.Errorf("no Welcome: %v", batch)
	}
	return nil
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
