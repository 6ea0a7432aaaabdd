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

func TestTwoRevocationsInARowCostAnAbsentDeviceNothing(t *testing.T) {
	w := newTrio(t)
	phone, tablet := linkDevice(t, w.alice), linkDevice(t, w.alice)
	// One room is ordered by the organization that revokes, the other one by another.
	var rooms []wire.RoomID
	for founder, others := range map[*Device][]wire.Address{
		w.alice: {w.bob.Address(), w.claire.Address()},
		w.bob:   {w.alice.Address(), w.claire.Address()},
	} {
		must(t, with(t, founder, func(s *Sender) error {
			id, err := s.CreateRoom(t.Context(), "of "+founder.Address().Name, RoomOptions{Members: others})
			rooms = append(rooms, id)
			return err
		}))
	}
	for _, id := range rooms {
		agreeing(t, id, w.alice, w.bob, w.claire, phone, tablet)
	}
	for _, lost := range []*Device{phone, tablet} {
		must(t, w.alice.Revoke(t.Context(), lost.ID()))
		eventually(t, "the device is out of the rooms", func() error {
			nothingLost(t, receive(t, w.alice))
			if w.alice.sees(rooms[0], lost) || w.alice.sees(rooms[1], lost) {
				return errors.New("not yet")
			}
			return nil
		})
	}
	for _, id := range rooms {
		sendRoom(t, w.alice, id, "just us")
	}
	for _, d := range []*Device{w.bob, w.claire} {
		shown := receiveUntil(t, d, "the messages", hasTexts(2))
		nothingLost(t, shown)
		if got := texts(shown); !slices.Equal(got, []string{"just us", "just us"}) {
			t.Errorf("%s was shown %q", d.Address(), got)
		}
	}
	for _, id := range rooms {
		agreeing(t, id, w.alice, w.bob, w.claire)
	}
}

// sees reports whether another device has a leaf in a room.
func (d *Device) sees(id wire.RoomID, other *Device) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := other.ID()
	_, in := leafKeys(d.rooms[id].state)[string(key[:])]
	return in
}

// chainless is a home node that cannot ask for certificates.
type chainless struct {
	ententev1connect.DeviceServiceClient
}

func (chainless) Chain(context.Context, *connect.Request[pb.ChainRequest]) (*connect.Response[pb.ChainResponse], error) {
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("the partner is away"))
}

func TestCertificatesThatCouldNotBeFetchedAreNotTheLastWord(t *testing.T) {
	p := newPair(t)
	home := p.alice.home.Device
	ask := func() error { return p.alice.chains.ask(askedFor{p.alice.ownKey(), [32]byte{1}}) }
	p.alice.home.Device = chainless{home}
	for range 2 {
		if err := p.alice.withChains(t.Context(), ask); !temporary(err) {
			t.Errorf("nobody has answered, and: %v", err)
		}
	}
	p.alice.home.Device = home
	if err := p.alice.withChains(t.Context(), ask); err != nil { // the answer bears nothing out, and is taken for that
		t.Error(err)
	}
}
