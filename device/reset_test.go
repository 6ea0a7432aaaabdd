package device

import (
	"fmt"
	"slices"
	"testing"

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
