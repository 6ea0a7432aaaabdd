package device

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// breakRoom has a hostile device commit with a confirmation tag that no hub can check and
// that nobody's secrets bear out (RFC 9420 §16.12). It returns the hub's first answer.
func breakRoom(t *testing.T, d *Device, id wire.RoomID) *pb.Status {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	_, staged, err := r.state.Stage(group.CommitParams{})
	must(t, err)
	spoilTag(t, d, staged)
	return handCommit(t, d, r, staged)
}

// spoilTag changes a Commit's confirmation tag, in its GroupInfo too.
func spoilTag(t *testing.T, d *Device, staged *group.Staged) {
	t.Helper()
	m, err := mls.ParseMessage(staged.Commit)
	must(t, err)
	m.PublicMessage.Content.ConfirmationTag[0] ^= 1
	staged.Commit = m.PublicMessage.Encode()
	i, err := mls.ParseMessage(staged.GroupInfo)
	must(t, err)
	i.GroupInfo.ConfirmationTag[0] ^= 1
	suite, err := mls.LookupSuite(Suite)
	must(t, err)
	must(t, i.GroupInfo.Sign(suite, d.account.DeviceKey))
	staged.GroupInfo = i.GroupInfo.Encode()
}

// handCommit submits a Commit as it is; the device's lock is held.
func handCommit(t *testing.T, d *Device, r *room, staged *group.Staged) *pb.Status {
	t.Helper()
	var counter uint64
	must(t, d.vault.update(func(x *txn) (err error) { counter, err = x.nextCounter(); return err }))
	st, err := d.submitCommit(t.Context(), r, counter, staged)
	must(t, err)
	return st
}

// brokenRoom is a room of alice's, its administrator, with the others, after a Commit of
// hers that nobody can apply.
func brokenRoom(t *testing.T, w *trio, with_ ...*Device) wire.RoomID {
	t.Helper()
	id := groupOf(t, w.alice, with_...)
	if st := breakRoom(t, w.alice, id); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatalf("the hub answers %v", st)
	}
	return id
}

// groupOf is a room that a device made with others.
func groupOf(t *testing.T, by *Device, others ...*Device) (id wire.RoomID) {
	t.Helper()
	var list []wire.Address
	for _, d := range others {
		list = append(list, d.Address())
	}
	must(t, with(t, by, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: list})
		return err
	}))
	agreeing(t, id, append([]*Device{by}, others...)...)
	return id
}

// generation waits until devices are in a generation of a room.
func generation(t *testing.T, id wire.RoomID, n uint32, list ...*Device) {
	t.Helper()
	eventually(t, fmt.Sprintf("all are in generation %d", n), func() error {
		for _, d := range list {
			receive(t, d)
		}
		for _, d := range list {
			if r := d.rooms[id]; r.Generation != n || r.state.Epoch() == 0 || r.Behind {
				return fmt.Errorf("%s is in generation %d, epoch %d, behind %v, stopped %q, accuses %+v", d.Address(), r.Generation, r.state.Epoch(), r.Behind, r.Stopped, r.Accuse)
			}
		}
		return nil
	})
}

func TestARoomIsResetWithoutWhoMadeACommitThatNobodyCanApply(t *testing.T) {
	w := newTrio(t)
	id := brokenRoom(t, w, w.adam, w.bob, w.claire)
	before := receive(t, w.bob)
	if slices.ContainsFunc(before, hasState("resynced")) {
		t.Errorf("bob came back alone: %+v", before)
	}
	generation(t, id, 1, w.bob, w.claire, w.adam)
	agreeing(t, id, w.bob, w.claire, w.adam)
	for i, from := range []*Device{w.adam, w.bob, w.claire} {
		text := fmt.Sprintf("word %d after it", i)
		sendRoom(t, from, id, text)
		for _, d := range []*Device{w.adam, w.bob, w.claire} {
			if d != from {
				if got := texts(receiveUntil(t, d, text, hasTexts(1))); !slices.Equal(got, []string{text}) {
					t.Errorf("%s was shown %q", d.Address(), got)
				}
			}
		}
	}
	shown := receiveUntil(t, w.alice, "alice is told", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("reset")) })
	if got := texts(shown); len(got) > 0 || !w.alice.rooms[id].Ended {
		t.Errorf("alice reads %q after the reset, or stays in the room", got)
	}
}

func TestADeviceWhoseOwnStateIsAtFaultComesBackAndNobodyIsThrownOut(t *testing.T) {
	w := newTrio(t)
	id := groupOf(t, w.alice, w.adam, w.bob, w.claire)
	w.claire.mu.Lock() // goes over to a Commit that the hub never had
	r := *w.claire.rooms[id]
	_, staged, err := r.state.Stage(group.CommitParams{})
	must(t, err)
	r.state, err = staged.Apply(r.state)
	must(t, err)
	w.claire.rooms[id] = &r
	w.claire.mu.Unlock()
	empty := func(*room) (group.CommitParams, error) { return group.CommitParams{}, nil }
	for _, d := range []*Device{w.alice, w.bob} {
		must(t, with(t, d, func(s *Sender) error { return s.change(t.Context(), id, empty) }))
		receive(t, w.bob)
	}
	receive(t, w.claire)
	if a := w.claire.rooms[id].Accuse; a == nil || a.Accused.Device != w.bob.ID() || !a.Sent {
		t.Fatalf("claire does not complain: %+v", a)
	}
	agreeing(t, id, w.alice, w.adam, w.bob, w.claire)
	must(t, with(t, w.bob, func(s *Sender) error { return s.change(t.Context(), id, empty) })) // bob is heard again
	agreeing(t, id, w.alice, w.adam, w.bob, w.claire)
	for _, d := range []*Device{w.alice, w.adam, w.bob, w.claire} {
		if r := d.rooms[id]; r.Generation != 0 || len(r.people()) != 4 || r.Accuse != nil || r.Vouch != nil {
			t.Errorf("%s: generation %d, %d people, accuses %+v", d.Address(), r.Generation, len(r.people()), r.Accuse)
		}
	}
}

func TestWhatWasWrittenBeforeAResetIsReadAfterIt(t *testing.T) {
	w := newTrio(t)
	id := brokenRoom(t, w, w.adam, w.bob, w.claire)
	sendRoom(t, w.bob, id, "while it stands still") // in the epoch that everybody is in
	generation(t, id, 1, w.bob, w.claire)
	s, err := w.adam.Sender(t.Context()) // has heard of nothing yet
	must(t, err)
	err = s.SendRoom(t.Context(), id, "written for the generation before", SendOptions{}, func(Progress) {})
	s.Close()
	if err != nil && !temporary(err) {
		t.Fatal(err)
	}
	shown := receiveUntil(t, w.adam, "adam's invitation", func(all []Shown) bool { return w.adam.rooms[id].Generation == 1 })
	if got := texts(shown); !slices.Equal(got, []string{"while it stands still"}) {
		t.Errorf("adam was shown %q", got)
	}
	receive(t, w.adam)
	for _, d := range []*Device{w.bob, w.claire} {
		want := []string{"written for the generation before"}
		if got := texts(receiveUntil(t, d, "adam's words", hasTexts(1))); !slices.Equal(got, want) {
			t.Errorf("%s was shown %q", d.Address(), got)
		}
	}
}

func TestOneComplaintResetsARoomInWhichNobodyElseIsThere(t *testing.T) {
	w := newTrio(t)
	w.acme.resetAfter = time.Second
	w.acme.halt()
	w.acme.start()
	id := brokenRoom(t, w, w.bob, w.claire)
	generation(t, id, 1, w.bob)
	if n := len(w.bob.rooms[id].people()); n != 2 {
		t.Errorf("%d people", n)
	}
	generation(t, id, 1, w.claire) // who cannot apply it either, and takes one member's word
	sendRoom(t, w.claire, id, "here again")
	receiveUntil(t, w.bob, "claire's words", hasTexts(1))
	if got := roles(t, w.bob, id); len(got) != 2 || got["bob@globex.example"] == got["claire@hooli.example"] {
		t.Errorf("one of them is an administrator now: %v", got)
	}
}

// spoilExternalKey has a hostile device commit rightly and publish another external key with
// it, which no hub can check: whoever comes back by it makes a Commit that nobody can apply.
func spoilExternalKey(t *testing.T, d *Device, id wire.RoomID) *pb.Status {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	_, staged, err := r.state.Stage(group.CommitParams{})
	must(t, err)
	staged.GroupInfo = otherExternalKey(t, d, staged.GroupInfo)
	return handCommit(t, d, r, staged)
}

// otherExternalKey puts another external key into a GroupInfo, and has a device sign it.
func otherExternalKey(t *testing.T, d *Device, info []byte) []byte {
	t.Helper()
	m, err := mls.ParseMessage(info)
	must(t, err)
	for i, x := range m.GroupInfo.Extensions {
		if x.Type == mls.ExtensionExternalPub {
			m.GroupInfo.Extensions[i] = mls.ExternalPubExtension(mls.Random(32))
		}
	}
	suite, err := mls.LookupSuite(Suite)
	must(t, err)
	must(t, m.GroupInfo.Sign(suite, d.account.DeviceKey))
	return m.GroupInfo.Encode()
}

func TestAWrongExternalKeyIsHeldAgainstWhoPublishedItAndNotAgainstWhoCameBackByIt(t *testing.T) {
	w := newTrio(t)
	id := groupOf(t, w.alice, w.adam, w.bob, w.claire)
	if st := spoilExternalKey(t, w.alice, id); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatalf("the hub answers %v", st)
	}
	receive(t, w.bob)
	receive(t, w.adam)
	w.claire.mu.Lock()
	lost := *w.claire.rooms[id]
	lost.Lost = true
	w.claire.rooms[id] = &lost
	w.claire.mu.Unlock()
	receive(t, w.claire) // comes back by what alice has published
	three := []*Device{w.adam, w.bob, w.claire}
	eventually(t, "the three are in one epoch", func() error {
		for _, d := range three {
			receive(t, d)
		}
		for _, d := range three {
			if r := d.rooms[id]; r.Generation != w.bob.rooms[id].Generation || r.state.Epoch() != w.bob.rooms[id].state.Epoch() || r.Behind || r.Stopped != "" || r.Accuse != nil {
				return fmt.Errorf("%s is in epoch %d, behind %v, stopped %q, accuses %+v", d.Address(), r.state.Epoch(), r.Behind, r.Stopped, r.Accuse)
			}
		}
		return nil
	})
	agreeing(t, id, three...)
	sendRoom(t, w.claire, id, "back again")
	for _, d := range []*Device{w.adam, w.bob} {
		receiveUntil(t, d, "back again", hasTexts(1))
	}
	// Who has done it comes back no more: the hub takes no Commit of alice's device.
	shown := receive(t, w.alice)
	if !slices.ContainsFunc(shown, func(s Shown) bool { return s.State == "not resynced" && strings.Contains(s.Reason, "forbidden") }) {
		t.Errorf("alice: %+v", shown)
	}
	past, err := w.bob.History()
	must(t, err)
	for _, s := range past {
		if s.State == "complaint" && s.Reason != "cannot apply a Commit of alice@acme.example: the room's published key is not the room's" {
			t.Errorf("bob read %q", s.Reason)
		}
	}
	if !slices.ContainsFunc(past, hasState("complaint")) {
		t.Errorf("bob was told of no complaint: %+v", past)
	}
}
