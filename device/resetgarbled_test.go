package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/mls"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// garbler is a member's device that resets a room as it should and makes an invitation that
// some of the others cannot open: no hub can look into one.
type garbler struct {
	ententev1connect.DeviceServiceClient
	t       *testing.T
	victims []*Device
	key     *Device // who signs another external key as the room's, too
}

func (g *garbler) SubmitCommit(ctx context.Context, r *connect.Request[pb.SubmitCommitRequest]) (*connect.Response[pb.SubmitCommitResponse], error) {
	if r.Msg.Bundle.Founding != nil {
		m, err := mls.ParseMessage(r.Msg.Bundle.Welcome)
		must(g.t, err)
		for i, s := range m.Welcome.Secrets {
			if slices.ContainsFunc(g.victims, func(d *Device) bool { return d.hasKeyPackage(s.NewMember) }) {
				m.Welcome.Secrets[i].Secrets.Ciphertext[0] ^= 1
			}
		}
		r.Msg.Bundle.Welcome = m.Encode()
		if g.key != nil {
			r.Msg.Bundle.GroupInfo = otherExternalKey(g.t, g.key, r.Msg.Bundle.GroupInfo)
		}
	}
	return g.DeviceServiceClient.SubmitCommit(ctx, r)
}

// hasKeyPackage reports whether a KeyPackage is one of this device's.
func (d *Device) hasKeyPackage(ref []byte) bool {
	return d.vault.view(func(t *txn) error { _, err := t.state(append([]byte(kpPrefix), ref...)); return err }) == nil
}

func TestWhoseInvitationIntoAResetRoomIsGarbledComesBackWithoutItAndTheHubIsNotBlamed(t *testing.T) {
	w := newTrio(t)
	id := brokenRoom(t, w, w.adam, w.bob, w.claire)
	receive(t, w.bob)
	w.bob.home.Device = &garbler{DeviceServiceClient: w.bob.home.Device, t: t, victims: []*Device{w.claire}}
	receive(t, w.claire) // complains, too
	generation(t, id, 1, w.bob, w.adam)
	stopAt(t, "reset-entered", func() error { // a crash on the way
		s, err := w.claire.Sender(t.Context())
		if err == nil {
			defer s.Close()
			err = s.SendRoom(t.Context(), id, "cut off", SendOptions{}, func(Progress) {})
		}
		return err
	})
	w.claire = reopened(t, w.claire)
	if r := w.claire.rooms[id]; !r.Resyncing || r.Uninvited == nil || r.Uninvited.By != "bob@globex.example" {
		t.Fatalf("not staged: %+v", r)
	}
	generation(t, id, 1, w.claire)
	agreeing(t, id, w.adam, w.bob, w.claire)
	past, err := w.claire.History()
	must(t, err)
	if slices.ContainsFunc(past, hasState("forked")) || w.claire.rooms[id].Stopped != "" {
		t.Errorf("claire blames the hub: %q, %+v", w.claire.rooms[id].Stopped, past)
	}
	if !slices.ContainsFunc(past, func(s Shown) bool { return s.State == "resynced" && strings.Contains(s.Reason, "bob@globex.example") }) {
		t.Errorf("claire is not told whose invitation it was: %+v", past)
	}
	if !slices.ContainsFunc(past, func(s Shown) bool { return s.State == "reset" && strings.Contains(s.Reason, "alice@acme.example") }) {
		t.Errorf("claire is not told of the reset: %+v", past)
	}
	sendRoom(t, w.claire, id, "here all the same")
	for _, d := range []*Device{w.adam, w.bob} {
		receiveUntil(t, d, "claire's words", hasTexts(1))
	}
	sendRoom(t, w.adam, id, "good")
	receiveUntil(t, w.claire, "adam's words", hasTexts(1))
}

func TestWhoGarblesAnInvitationAndTheRoomsKeyThrowsNobodyOutButItself(t *testing.T) {
	w := newTrio(t)
	w.acme.resetAfter = time.Second
	w.acme.halt()
	w.acme.start()
	id := brokenRoom(t, w, w.adam, w.bob, w.claire)
	receive(t, w.bob)
	w.bob.home.Device = &garbler{DeviceServiceClient: w.bob.home.Device, t: t, victims: []*Device{w.claire}, key: w.bob}
	generation(t, id, 1, w.bob)
	generation(t, id, 2, w.claire, w.adam)
	agreeing(t, id, w.claire, w.adam)
	past, err := w.adam.History()
	must(t, err)
	for _, s := range past {
		if s.State == "complaint" && strings.Contains(s.Reason, "claire") {
			t.Errorf("adam reads %q", s.Reason)
		}
	}
	if why := w.adam.rooms[id].Why; !strings.Contains(why, "could not apply a Commit of bob@globex.example (the room's published key is not the room's)") {
		t.Errorf("the room was reset because %q", why)
	}
	sendRoom(t, w.claire, id, "without him")
	receiveUntil(t, w.adam, "claire's words", hasTexts(1))
}

// A room is reset again before the victim of a garbled invitation is back: whether it was away
// all the time or had its Commit into the generation in between on the way.
func TestWhoseInvitationIsGarbledComesIntoARoomThatWasResetAgain(t *testing.T) {
	for _, way := range []string{"away", "staged", "handed over"} {
		t.Run(way, func(t *testing.T) {
			w := newTrio(t)
			w.acme.resetAfter = time.Second
			w.acme.halt()
			w.acme.start()
			id := groupOf(t, w.alice, w.adam, w.bob, w.claire)
			sendRoom(t, w.adam, id, "before")
			if st := breakRoom(t, w.alice, id); st.Code != pb.Code_CODE_SEQUENCED {
				t.Fatalf("the hub answers %v", st)
			}
			w.bob.home.Device = &garbler{DeviceServiceClient: w.bob.home.Device, t: t, victims: []*Device{w.claire}}
			generation(t, id, 1, w.bob, w.adam)
			if way != "away" {
				eventually(t, "claire has the invitation", func() (err error) {
					ds := lying(t, w.claire, w.claire.mark(), 1)
					if _, err = w.claire.handle(t.Context(), ds, nothing); err == nil && w.claire.rooms[id].Uninvited == nil {
						err = errors.New("not yet")
					}
					return err
				})
				stopAt(t, "reset-entered", func() error {
					w.claire.mu.Lock()
					defer w.claire.mu.Unlock()
					return w.claire.comeInto(t.Context(), id)
				})
				if r := w.claire.rooms[id]; !r.Resyncing || r.into() != 1 {
					t.Fatalf("not staged: %+v", r)
				}
				if way == "handed over" { // the answer is lost with the device
					r := w.claire.rooms[id]
					staged, err := w.claire.staged(id)
					must(t, err)
					_, err = w.claire.submitCommit(t.Context(), r, r.Committing, staged)
					must(t, err)
					eventually(t, "claire is back, and does not know", func() error {
						receive(t, w.adam)
						if e := w.adam.rooms[id].state.Epoch(); e < 2 {
							return fmt.Errorf("epoch %d", e)
						}
						return nil
					})
					agreeing(t, id, w.adam, w.bob)
				}
				w.claire = reopened(t, w.claire)
			}
			breakRoom(t, w.bob, id)
			generation(t, id, 2, w.adam)
			sendRoom(t, w.adam, id, "in the third generation")
			generation(t, id, 2, w.claire)
			agreeing(t, id, w.adam, w.claire)
			past, err := w.claire.History()
			must(t, err)
			if slices.ContainsFunc(past, hasState("forked")) || w.claire.rooms[id].Stopped != "" {
				t.Errorf("claire blames the hub: %q, %+v", w.claire.rooms[id].Stopped, past)
			}
			if !slices.ContainsFunc(past, func(s Shown) bool {
				return s.State == "resynced" && strings.Contains(s.Reason, "bob@globex.example") && strings.Contains(s.Reason, "reset again") == (way != "handed over")
			}) {
				t.Errorf("claire is not told whose invitation it was: %+v", past)
			}
			want := []string{"before"}
			if way == "handed over" { // its invitation into the third is of use
				want = append(want, "in the third generation")
			}
			if got := texts(past); !slices.Equal(got, want) {
				t.Errorf("claire has read %q", got)
			}
			sendRoom(t, w.claire, id, "here all the same")
			receiveUntil(t, w.adam, "claire's words", hasTexts(1))
			sendRoom(t, w.adam, id, "good")
			receiveUntil(t, w.claire, "adam's words", hasTexts(1))
		})
	}
}
