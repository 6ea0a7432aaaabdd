package home

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestACallWhoseTimeIsUpDoesNotWaitForAnothersSignIn(t *testing.T) {
	key, id := newKey(t)
	h, err := New(Options{URL: "https://node.example", Pin: id, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	h.auth.turn <- struct{}{} // somebody signs in, and the node does not answer
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := h.auth.token(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}
