package device

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// knowing waits until a device's room has proposals that it has to commit.
func knowing(t *testing.T, d *Device, id wire.RoomID) {
	t.Helper()
	eventually(t, d.Address().String()+" knows of the proposal", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if r := d.rooms[id]; r == nil || !r.mustCommit() {
			return errors.New("not yet")
		}
		return nil
	})
}

// leaving is a room of three at bob's organization, of which claire has proposed to leave;
// alice and bob know it, over sessions that stay open.
func leaving(t *testing.T) (w *trio, id wire.RoomID, alice, bob *Sender) {
	t.Helper()
	w = newTrio(t)
	must(t, with(t, w.bob, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Leaving", RoomOptions{Members: []wire.Address{w.alice.Address(), w.claire.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.claire)
	open := func(d *Device) *Sender {
		s, err := d.Sender(t.Context())
		must(t, err)
		return s
	}
	alice, bob = open(w.alice), open(w.bob)
	must(t, with(t, w.claire, func(s *Sender) error { return s.Leave(t.Context(), id) }))
	knowing(t, w.alice, id)
	knowing(t, w.bob, id)
	return w, id, alice, bob
}

func TestAMessageWaitsForTheCommitOfWhatWasProposedAndNoLonger(t *testing.T) {
	w, id, alice, bob := leaving(t)
	defer alice.Close()
	defer bob.Close()
	began := time.Now()
	must(t, alice.SendRoom(t.Context(), id, "claire does not read this", SendOptions{Wait: patience}, func(Progress) {}))
	t.Logf("sent after %v", time.Since(began))
	w.alice.mu.Lock()
	state := w.alice.rooms[id].state
	w.alice.mu.Unlock()
	for _, m := range state.Members() {
		if string(m.Node.SignatureKey) == string(w.claire.account.DeviceKey[32:]) {
			t.Error("claire is in the room still")
		}
	}
	for _, s := range receive(t, w.claire) {
		if s.Text != "" {
			t.Errorf("claire reads %q", s.Text)
		}
	}
}

func TestTwoWhoHaveToCommitFirstAndSendAtOnceLoseNothing(t *testing.T) {
	w, id, alice, bob := leaving(t)
	done := make(chan error, 2)
	for i, s := range []*Sender{alice, bob} {
		go func() {
			done <- s.SendRoom(t.Context(), id, fmt.Sprintf("word %d", i), SendOptions{Wait: patience}, func(Progress) {})
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	alice.Close()
	bob.Close()
	agreeing(t, id, w.alice, w.bob)
	for d, want := range map[*Device]string{w.alice: "word 1", w.bob: "word 0"} {
		history, err := d.History()
		must(t, err)
		nothingLost(t, history)
		if got := texts(history); !slices.Equal(got, []string{want}) {
			t.Errorf("%s has %q", d.Address(), got)
		}
	}
	if got := w.alice.rooms[id].state.Epoch(); got != w.bob.rooms[id].state.Epoch() {
		t.Errorf("two epochs")
	}
}
