package gate

import (
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// A device whose sessions do not come about (a proxy, a bad line) gets its next
// ticket at once; its oldest is worth nothing then.
func TestNewTicketTakesThePlaceOfTheDevicesOldest(t *testing.T) {
	w := start(t, session.Timing{})
	d := wire.DeviceID{9}
	other := w.ticket(t, wire.DeviceID{8}, "", time.Hour)
	var values [][]byte
	for range maxTicketsPerDevice + 3 {
		values = append(values, w.ticket(t, d, "", time.Hour))
	}
	if n := len(w.tickets.made); n != maxTicketsPerDevice+1 {
		t.Errorf("%d tickets wait", n)
	}
	for i, v := range values {
		_, err := w.redeem(v, "")
		if stands := i >= 3; (err == nil) != stands {
			t.Errorf("ticket %d of %d: %v", i+1, len(values), err)
		}
	}
	if _, err := w.redeem(other, ""); err != nil {
		t.Errorf("another device's ticket went with them: %v", err)
	}
	if n := len(w.tickets.made); n != 0 {
		t.Errorf("%d tickets wait at the end", n)
	}
}

// The rate, not the number waiting, bounds who asks without end; a refusal says a
// wait of about a second and takes no ticket from the device.
func TestTicketsOfOneDeviceAreRateLimited(t *testing.T) {
	w := start(t, session.Timing{})
	d := wire.DeviceID{9}
	var last []byte
	for range ticketBurst {
		last = w.ticket(t, d, "", time.Hour)
	}
	for range 1000 {
		_, err := w.OpenSession(Caller{Device: d, Expires: w.clock.Now().Add(time.Hour)}, "")
		st := wire.StatusOf(err)
		if st.Code != pb.Code_CODE_RATE_LIMITED || st.RetryMs <= 0 || st.RetryMs > 1000/ticketRate {
			t.Fatalf("one too many: %v", err)
		}
	}
	if _, err := w.redeem(last, ""); err != nil {
		t.Errorf("the refusals cost the device its last ticket: %v", err)
	}
	w.ticket(t, wire.DeviceID{8}, "", time.Hour)
	w.clock.add(time.Second / ticketRate)
	w.ticket(t, d, "", time.Hour)
}

// Expired tickets of devices that never came back make room for others, and nothing
// of those devices stays.
func TestFullTableForgetsExpiredTickets(t *testing.T) {
	w := start(t, session.Timing{})
	now := w.clock.Now()
	for i := range maxTickets {
		v := [session.TicketLen]byte{byte(i), byte(i >> 8), byte(i >> 16)}
		d := wire.DeviceID{1, byte(i), byte(i >> 8), byte(i >> 16)}
		if wait := w.tickets.add(v, ticket{device: d, expires: now.Add(wire.TicketLifetime)}, now); wait > 0 {
			t.Fatalf("ticket %d is refused", i)
		}
	}
	c := Caller{Device: wire.DeviceID{9}, Expires: now.Add(time.Hour)}
	if _, err := w.OpenSession(c, ""); wire.StatusOf(err).Code != pb.Code_CODE_RATE_LIMITED {
		t.Errorf("one above the table: %v", err)
	}
	w.clock.add(wire.TicketLifetime)
	if _, err := w.OpenSession(c, ""); err != nil {
		t.Errorf("after all have expired: %v", err)
	}
	if n, m := len(w.tickets.made), len(w.tickets.each); n != 1 || m != 1 {
		t.Errorf("%d tickets of %d devices stay", n, m)
	}
}
