package device

import (
	"context"
	"errors"
	"strings"
	"testing"
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
