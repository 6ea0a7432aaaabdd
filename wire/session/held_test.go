package session

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// picky is a device that cannot take some numbers yet. Only its session's goroutine uses it
// while it runs.
type picky struct {
	*home
	not    map[uint64]bool // cannot be taken
	taken  []uint64        // each time that a number was handed over and taken
	mark   uint64
	unread []uint64
	given  []uint64 // given up
}

func newPicky(not ...uint64) *picky {
	p := &picky{home: newHome(), not: make(map[uint64]bool)}
	for _, n := range not {
		p.not[n] = true
	}
	return p
}

func (p *picky) options() ClientOptions {
	o := p.home.options()
	o.Timing.AckDelay = time.Millisecond
	o.Mark = func() uint64 {
		mark := p.mark
		for n := range p.not {
			if n <= p.mark {
				mark = min(mark, n-1)
			}
		}
		return mark
	}
	o.Taken = func(seq uint64) bool { return seq <= p.mark && !p.not[seq] }
	o.Handler = func(_ context.Context, ds []*pb.Deliver) (unread []Unread, err error) {
		for _, d := range ds {
			p.mark = max(p.mark, d.Seq)
			if !p.not[d.Seq] {
				p.taken = append(p.taken, d.Seq)
			}
			if slices.Contains(p.unread, d.Seq) {
				unread = append(unread, Unread{Seq: d.Seq})
			}
		}
		return unread, nil
	}
	o.GiveUp = func(_ context.Context, ds []*pb.Deliver) (unread []Unread, err error) {
		for _, d := range ds {
			if p.not[d.Seq] {
				delete(p.not, d.Seq)
				p.given = append(p.given, d.Seq)
				unread = append(unread, Unread{Seq: d.Seq})
			}
		}
		return unread, nil
	}
	return o
}

// acks reads what is acknowledged until the device is silent.
func (p *peer) acks() (all []*pb.Ack) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		b, err := p.conn.Read(ctx)
		cancel()
		if err != nil {
			return all
		}
		batch, err := DecodeBatch(b)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, f := range batch.Frames {
			if a := f.GetAck(); a != nil {
				all = append(all, a)
			}
		}
	}
}

// What waits is not acknowledged, and nothing else is kept back by it: what comes after it is
// acknowledged by number, and said to be unread with that.
func TestWhatComesAfterWhatWaitsIsAcknowledgedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPicky(3)
		h.unread = []uint64{2, 5}
		_, cancel, end := runClient(t, h.options())
		p, _ := h.accept(t, 64, 1<<20)
		p.send(deliver(1, 1), deliver(2, 1), deliver(3, 1), deliver(5, 1), deliver(6, 1))
		acks := p.acks()
		if len(acks) != 1 || acks[0].Through != 2 || !slices.Equal(acks[0].Above, []uint64{5, 6}) || !slices.Equal(acks[0].Unreadable, []uint64{2, 5}) {
			t.Fatalf("acknowledged %v", acks)
		}
		p.send(deliver(8, 1))
		if acks = p.acks(); len(acks) != 1 || acks[0].Through != 2 || !slices.Equal(acks[0].Above, []uint64{8}) || len(acks[0].Unreadable) > 0 {
			t.Fatalf("acknowledged %v", acks)
		}
		p.send(&pb.Frame{Frame: &pb.Frame_Drained{Drained: &pb.Drained{Seq: 8}}})
		synctest.Wait()
		delete(h.not, 3) // its partner is back
		acks = nil
		for began := time.Now(); len(acks) == 0 && time.Since(began) < 31*time.Second; {
			acks = p.acks()
		}
		if len(acks) != 1 || acks[0].Through != 8 || len(acks[0].Above)+len(acks[0].Unreadable) > 0 {
			t.Errorf("acknowledged %v", acks)
		}
		if len(h.given) > 0 {
			t.Errorf("given up: %v", h.given)
		}
		if !slices.Equal(h.taken, []uint64{1, 2, 5, 6, 8, 3}) {
			t.Errorf("taken: %v", h.taken)
		}
		cancel()
		<-end
	})
}

// A device comes back where it has acknowledged to, and gets what waits again.
func TestADeviceComesBackBelowWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPicky(2)
		_, cancel, end := runClient(t, h.options())
		p, _ := h.accept(t, 64, 1<<20)
		p.send(deliver(1, 1), deliver(2, 1), deliver(3, 1)) // the acknowledgement of 3 is lost
		p.acks()
		p.conn.Close(CodeGoingAway, "")
		p, hello := h.accept(t, 64, 1<<20)
		if hello.AckedThrough != 1 {
			t.Errorf("Hello acknowledges %d", hello.AckedThrough)
		}
		p.send(deliver(2, 1), deliver(3, 1), deliver(4, 1))
		if acks := p.acks(); len(acks) != 1 || acks[0].Through != 1 || !slices.Equal(acks[0].Above, []uint64{3, 4}) {
			t.Errorf("acknowledged %v", acks)
		}
		cancel()
		<-end
	})
}

// A window that is full of what waits is made room in: the older
// quarter is given up, and no more than that.
func TestAWindowThatIsFullIsMadeRoomIn(t *testing.T) {
	for name, c := range map[string]struct {
		not   []uint64
		size  int
		count uint64
		given []uint64
		ack   uint64
	}{
		"by one":             {[]uint64{1}, 1, 8, nil, 0},
		"by many":            {[]uint64{1, 2, 3, 4, 5, 6, 7, 8}, 1, 8, []uint64{1, 2}, 2},
		"not full":           {[]uint64{1, 2}, 1, 7, nil, 0},
		"by the last":        {[]uint64{8}, 1, 8, nil, 7},
		"by one that is big": {[]uint64{1}, 5000, 1, []uint64{1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPicky(c.not...)
				o := h.options()
				o.WindowEnvelopes, o.WindowBytes = 8, 1000
				_, cancel, end := runClient(t, o)
				p, _ := h.accept(t, 64, 1<<20)
				var fs []*pb.Frame
				for n := range c.count {
					fs = append(fs, deliver(n+1, c.size))
				}
				p.send(fs...)
				last := uint64(0)
				for _, a := range p.acks() {
					last = a.Through
				}
				if !slices.Equal(h.given, c.given) || last != c.ack {
					t.Errorf("given up %v, acknowledged %d", h.given, last)
				}
				cancel()
				<-end
			})
		})
	}
}

// A node that has more, which does not fit into what is left of the window, says nothing; a device
// finds that out by its pings. One that has said that the mailbox is empty has no more.
func TestALargeDeliveryBehindWhatWaitsIsMadeRoomFor(t *testing.T) {
	for name, drained := range map[string]bool{"there is more": false, "there is none": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPicky(1)
				_, cancel, end := runClient(t, h.options())
				p, _ := h.accept(t, 64, 1<<20)
				p.send(deliver(1, 1), deliver(2, 1))
				if drained {
					p.send(&pb.Frame{Frame: &pb.Frame_Drained{Drained: &pb.Drained{Seq: 2}}})
				}
				acked := uint64(0)
				for began := time.Now(); time.Since(began) < 2*time.Minute; {
					for _, f := range p.read().Frames {
						if f.GetPing() != nil {
							p.send(&pb.Frame{Frame: &pb.Frame_Pong{Pong: &pb.Pong{}}})
						}
						if a := f.GetAck(); a != nil {
							acked = a.Through
						}
					}
					if since := time.Since(began); acked > 0 && since < 40*time.Second {
						t.Fatalf("given up after %s", since)
					}
				}
				if want := map[bool]uint64{false: 2, true: 0}[drained]; acked != want {
					t.Errorf("acknowledged %d, wanted %d", acked, want)
				}
				cancel()
				<-end
			})
		})
	}
}

// A device that leaves while it takes deliveries has not taken them, and gets none of those that
// come after them: it would have a mark above what it never took.
func TestNothingIsHandedOverAfterWhatCouldNotBeTaken(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			h := newHome()
			o := h.options()
			var handed []uint64
			o.Handler = func(ctx context.Context, ds []*pb.Deliver) ([]Unread, error) {
				handed = append(handed, ds[0].Seq)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			_, cancel, end := runClient(t, o)
			p, _ := h.accept(t, 64, 1<<20)
			p.send(deliver(1, 1))
			synctest.Wait()
			p.send(deliver(2, 1))
			synctest.Wait()
			cancel()
			<-end
			if !slices.Equal(handed, []uint64{1}) {
				t.Errorf("handed over: %v", handed)
			}
		})
	}
}
