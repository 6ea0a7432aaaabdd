package device

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestASendWithoutAnAnswerSaysThatTheMessageWaitsAndItGoesOutLater(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	alice, bob := o.device("alice"), o.device("bob")
	ctx, cancel := context.WithCancel(t.Context())
	atFailpoint(t, "before-submit", cancel)
	err := alice.Send(ctx, bob.Address(), "later, then", SendOptions{}, func(Progress) {})
	var waits *WaitingError
	if !errors.As(err, &waits) || !errors.Is(err, context.Canceled) || waits.Accepted || !strings.Contains(err.Error(), "waits on this device") {
		t.Fatalf("the send ended with %v", err)
	}
	receive(t, alice)
	if got := texts(receiveUntil(t, bob, "what waited", hasTexts(1))); len(got) != 1 || got[0] != "later, then" {
		t.Errorf("bob was shown %q", got)
	}
}

func TestARevokedDeviceIsNotToldThatItsMessageGoesOutLater(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	alice, bob := o.device("alice"), o.device("bob")
	send(t, alice, bob.Address(), "a beginning", SendOptions{})
	receiveUntil(t, bob, "the room", hasTexts(1))
	tablet := linkDevice(t, bob)
	receiveUntil(t, tablet, "the room", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("joined")) })
	must(t, bob.Revoke(t.Context(), tablet.ID()))
	id, _ := onlyRoom(t, tablet)
	err := with(t, tablet, func(s *Sender) error {
		return s.SendRoom(t.Context(), id, "never", SendOptions{}, func(Progress) {})
	})
	var waits *WaitingError
	if errors.As(err, &waits) || wire.StatusOf(err).Code != pb.Code_CODE_REVOKED {
		t.Errorf("the send ended with %v", err)
	}
}
