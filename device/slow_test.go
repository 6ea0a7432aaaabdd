package device

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// letting is a home node whose partner takes questions and lets them run out.
type letting struct {
	ententev1connect.DeviceServiceClient
	partner []byte
	asked   atomic.Int64
}

func (l *letting) Chain(ctx context.Context, q *connect.Request[pb.ChainRequest]) (*connect.Response[pb.ChainResponse], error) {
	if bytes.Equal(q.Msg.Organization, l.partner) {
		l.asked.Add(1)
		time.Sleep(slowFrom + 100*time.Millisecond)
	}
	return l.DeviceServiceClient.Chain(ctx, q)
}

// A partner that lets questions run out holds the device's mail up by one of them, not by one
// each time that something is handed over; what waits for it comes when it is asked again.
func TestAPartnerThatLetsQuestionsRunOutIsNotAskedEachTime(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	l := &letting{DeviceServiceClient: w.adam.home.Device, partner: w.claire.account.Organization[:]}
	w.adam.home.Device = l
	ds := lying(t, w.adam, w.adam.mark(), 5)
	for range 4 {
		_, err := w.adam.handle(t.Context(), ds, nothing)
		must(t, err)
	}
	if n := l.asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	w.hooli.start()
	eventually(t, "the room goes on", func() error {
		_, err := w.adam.handle(t.Context(), ds, nothing)
		must(t, err)
		if n := w.adam.waitingIn(both); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	var shown []Shown
	shown = append(shown, shownNew(t, w.adam)...)
	if got := texts(shown); !slices.Equal(got, []string{"before", "to the office", "one", "two"}) {
		t.Errorf("adam reads %q", got)
	}
}
