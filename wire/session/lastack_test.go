package session

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// What a device acknowledged with its goodbye is dropped at the node, so that it is
// not delivered again; a device that was revoked or replaced has no word left.
func TestTheNodeTakesTheLastAcknowledgementOfADeviceThatMaySpeak(t *testing.T) {
	for name, c := range map[string]struct {
		why   error
		ackTo uint64
		want  uint64 // what the Backend drops; 0: it is not asked
	}{
		"the device leaves":     {&CloseError{Code: CodeGoingAway}, 5, 5},
		"the connection is cut": {errors.New("reset"), 5, 5},
		"the sign-in ends":      {&CloseError{Code: CodeExpired}, 5, 5},
		"nothing new":           {&CloseError{Code: CodeGoingAway}, 3, 0},
		"revoked":               {&CloseError{Code: CodeRevoked}, 5, 0},
		"replaced":              {&CloseError{Code: CodeReplaced}, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			live, end := context.WithCancelCause(context.Background())
			b := &living{}
			s := &server{backend: b, o: ServeOptions{}.orDefault(), live: live, acked: 3, ackTo: c.ackTo, unread: []Unread{{4, false}}}
			end(c.why)
			if err := s.lastAck(); err != nil {
				t.Fatal(err)
			}
			if b.acked != c.want {
				t.Errorf("dropped up to %d, want %d", b.acked, c.want)
			}
			if c.want != 0 && !slices.Equal(b.unread, []Unread{{4, false}}) {
				t.Errorf("unreadable: %v", b.unread)
			}
		})
	}
}

// living is a backend that refuses a context that has ended, and one without end.
type living struct{ backend }

func (b *living) Ack(ctx context.Context, a Acked) error {
	if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
		return errors.New("a context that has ended, or never does")
	}
	return b.backend.Ack(ctx, a)
}

func TestADeviceThatLeavesAcknowledgesWhatItHasStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		o := h.options()
		o.Timing.AckDelay = time.Hour // it would not do so for long
		_, cancel, end := runClient(t, o)
		p, _ := h.accept(t, 64, 1<<20)
		p.send(deliver(3, 1), deliver(9, 1))
		synctest.Wait()
		cancel()
		if a := p.read().Frames[0].GetAck(); a.GetThrough() != 9 {
			t.Errorf("acknowledged %v", a)
		}
		if c := p.read().Frames[0].GetClose(); c.GetCode() != CodeGoingAway {
			t.Errorf("left with %v", c)
		}
		<-end
	})
}

func TestADeviceThatLeavesAcknowledgesNothingThatItHasNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		h.block = make(chan struct{})
		_, cancel, end := runClient(t, h.options())
		p, _ := h.accept(t, 64, 1<<20)
		p.send(deliver(3, 1))
		synctest.Wait()
		cancel()
		if f := p.read().Frames[0]; f.GetClose().GetCode() != CodeGoingAway {
			t.Errorf("said %v", f)
		}
		<-end
	})
}

// The node's copy is damaged: it says the number alone. The device goes on, and says
// that it could not read it, so that the sender learns of it.
func TestADeliveryThatTheNodeCannotReadIsAcknowledgedAsUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		o := h.options()
		store := o.Handler
		o.Handler = func(ctx context.Context, ds []*pb.Deliver) (unread []Unread, err error) {
			for _, d := range ds {
				if d.Envelope == nil {
					unread = append(unread, Unread{d.Seq, d.Ended != nil})
				}
			}
			_, err = store(ctx, ds)
			return unread, err
		}
		_, cancel, end := runClient(t, o)
		p, _ := h.accept(t, 64, 1<<20)
		p.send(deliver(1, 1), &pb.Frame{Frame: &pb.Frame_Deliver{Deliver: &pb.Deliver{Seq: 2}}}, deliver(3, 1),
			&pb.Frame{Frame: &pb.Frame_Deliver{Deliver: &pb.Deliver{Seq: 4, Ended: &pb.Ended{Seq: 1}}}})
		if a := p.read().Frames[0].GetAck(); a.GetThrough() != 4 || !slices.Equal(a.GetUnreadable(), []uint64{2, 4}) || !slices.Equal(a.GetExpired(), []uint64{4}) {
			t.Errorf("acknowledged %v", a)
		}
		cancel()
		<-end
	})
}

// The number of what could not be opened was lost with an Ack: it is said again with Hello,
// and the node hands it on before it welcomes the device.
func TestWhatADeviceCouldNotOpenIsSaidAgainWithHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHome()
		o := h.options()
		o.Unread = func() []Unread { return []Unread{{4, true}, {7, false}} }
		_, cancel, end := runClient(t, o)
		_, hello := h.accept(t, 64, 1<<20)
		if !slices.Equal(hello.Unreadable, []uint64{4, 7}) {
			t.Errorf("said %v", hello.Unreadable)
		}
		if !slices.Equal(hello.Expired, []uint64{4}) {
			t.Errorf("expired: %v", hello.Expired)
		}
		cancel()
		<-end
	})
	for name, h := range map[string]*pb.Hello{
		"above what is acknowledged": {AckedThrough: 6, Unreadable: []uint64{4, 7}},
		"not rising":                 {AckedThrough: 9, Unreadable: []uint64{7, 4}},
		"twice":                      {AckedThrough: 9, Unreadable: []uint64{4, 4}},
		"zero":                       {AckedThrough: 9, Unreadable: []uint64{0}},
		"expired and not unreadable": {AckedThrough: 9, Unreadable: []uint64{4}, Expired: []uint64{7}},
	} {
		h.Version, h.Ticket, h.WindowEnvelopes, h.WindowBytes = 1, make([]byte, TicketLen), 1, 1
		if _, err := checkHello(&pb.Batch{Frames: []*pb.Frame{{Frame: &pb.Frame_Hello{Hello: h}}}}); err == nil {
			t.Errorf("a Hello was taken with unreadable %s", name)
		}
	}
}
