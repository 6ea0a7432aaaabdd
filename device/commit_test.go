package device

import (
	"context"
	"errors"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// deaf is a home node whose answer to a Commit is lost on the way.
type deaf struct {
	ententev1connect.DeviceServiceClient
	asked []uint64 // the counters that came
}

func (d *deaf) SubmitCommit(ctx context.Context, q *connect.Request[pb.SubmitCommitRequest]) (*connect.Response[pb.SubmitCommitResponse], error) {
	d.asked = append(d.asked, q.Msg.Counter)
	if _, err := d.DeviceServiceClient.SubmitCommit(ctx, q); err != nil {
		return nil, err
	}
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("the connection broke"))
}

// commitNow commits in a device's only room.
func commitNow(ctx context.Context, d *Device) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.rooms {
		return d.commitRoom(ctx, id)
	}
	return errors.New("no room")
}

// nothingLost fails when a visit named a gap or something unreadable.
func nothingLost(t *testing.T, shown []Shown) {
	t.Helper()
	for _, s := range shown {
		if s.Event == "unreadable" || s.State == "gap" || s.State == "forked" || s.State == "resynced" {
			t.Errorf("lost on the way: %+v", s)
		}
	}
}

func TestMessagesSurviveACommitOfOnesOwn(t *testing.T) {
	p, whole := newPair(t), t
	to, from := p.bob.Address(), p.alice.Address()
	send(t, p.alice, to, "first", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	waits := func(text string) {
		t.Helper()
		send(t, p.bob, from, text, SendOptions{})
		eventually(t, "it waits for alice", func() error {
			if p.acme.waiting(from) == 0 {
				return errors.New("her mailbox is empty")
			}
			return nil
		})
	}
	// bobTakes lets bob take the Commit, answer in the new epoch, and alice read it.
	bobTakes := func(t *testing.T, epoch uint64, want []string) {
		t.Helper()
		eventually(t, "bob takes the Commit", func() error {
			nothingLost(t, receive(t, p.bob))
			if p.bob.Rooms()[0].Epoch != epoch {
				return errors.New("not yet")
			}
			return nil
		})
		send(t, p.bob, from, "after it", SendOptions{})
		want = append(want, "after it")
		shown := receiveUntil(t, p.alice, "all of it", hasTexts(len(want)))
		nothingLost(t, shown)
		if got := texts(shown); !slices.Equal(got, want) {
			t.Errorf("shown: %q", got)
		}
		if a, b := p.alice.Rooms()[0], p.bob.Rooms()[0]; a.Epoch != epoch || a.Code != b.Code {
			t.Errorf("epoch %d: %+v, %+v", epoch, a, b)
		}
	}
	t.Run("what was sequenced before it and comes after it is shown", func(t *testing.T) {
		waits("just before it")
		epoch := p.alice.Rooms()[0].Epoch
		must(t, commitNow(t.Context(), p.alice))
		bobTakes(t, epoch+1, []string{"just before it"})
	})
	t.Run("a lost answer is asked for again, under the same counter, after a crash too", func(t *testing.T) {
		epoch := p.alice.Rooms()[0].Epoch
		lost := &deaf{DeviceServiceClient: p.alice.home.Device}
		p.alice.home.Device = lost
		if err := commitNow(t.Context(), p.alice); err == nil {
			t.Fatal("the answer was not lost")
		}
		dir := folder(p.alice)
		p.alice.Close()
		var err error
		p.alice, err = Open(dir, testPass)
		must(t, err)
		whole.Cleanup(p.alice.Close)
		again := &counting{DeviceServiceClient: p.alice.home.Device}
		p.alice.home.Device = again
		bobTakes(t, epoch+1, nil)
		// Unless what bob says in the new epoch comes first: then the room log has shown
		// alice her own Commit, and there is nothing left to ask.
		if len(again.asked) > 0 && !slices.Equal(again.asked, lost.asked) {
			t.Errorf("counters: %v, then %v", lost.asked, again.asked)
		}
	})
	t.Run("one's own Commit in the room log is taken, when its answer is still to come", func(t *testing.T) {
		epoch := p.alice.Rooms()[0].Epoch
		lost := &deaf{DeviceServiceClient: p.alice.home.Device}
		honest := p.alice.home.Device
		p.alice.home.Device = lost
		if err := commitNow(t.Context(), p.alice); err == nil {
			t.Fatal("the answer was not lost")
		}
		p.alice.home.Device = honest
		p.alice.mu.Lock()
		var id wire.RoomID
		for id = range p.alice.rooms {
		}
		err := p.alice.catchUp(t.Context(), id)
		p.alice.mu.Unlock()
		must(t, err)
		bobTakes(t, epoch+1, nil)
	})
}

// counting is a home node that notes the Commits that it is handed.
type counting struct {
	ententev1connect.DeviceServiceClient
	asked []uint64
}

func (c *counting) SubmitCommit(ctx context.Context, q *connect.Request[pb.SubmitCommitRequest]) (*connect.Response[pb.SubmitCommitResponse], error) {
	c.asked = append(c.asked, q.Msg.Counter)
	return c.DeviceServiceClient.SubmitCommit(ctx, q)
}
