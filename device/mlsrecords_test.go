package device

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// mlsRecords are the sealed records of a room's MLS state as they lie in the file.
func mlsRecords(t *testing.T, d *Device, id wire.RoomID) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	must(t, d.vault.view(func(x *txn) error {
		c := x.tx.Bucket(stateBucket).Cursor()
		for _, prefix := range []string{groupPrefix, headPrefix, partPrefix} {
			p := roomKey(prefix, id)
			for k, v := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = c.Next() {
				out[string(k)] = bytes.Clone(v)
			}
		}
		return nil
	}))
	return out
}

// putRaw puts sealed records back as a thief would who has copied them.
func putRaw(t *testing.T, d *Device, id wire.RoomID, records map[string][]byte) {
	t.Helper()
	must(t, d.vault.update(func(x *txn) error {
		if err := x.deleteStates(string(roomKey(partPrefix, id))); err != nil {
			return err
		}
		for k, v := range records {
			if err := x.tx.Bucket(stateBucket).Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	}))
}

func TestWhatAMessageWritesIsSmall(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receive(t, p.bob)
	send(t, p.alice, p.bob.Address(), "second", SendOptions{})
	id, _ := onlyRoom(t, p.bob)
	before := mlsRecords(t, p.bob, id)
	receive(t, p.bob)
	changed, size := 0, 0
	for k, v := range mlsRecords(t, p.bob, id) {
		if !bytes.Equal(before[k], v) {
			changed, size = changed+1, size+len(v)
		}
	}
	if changed != 2 || size > 800 {
		t.Fatalf("%d records with %d bytes were written", changed, size)
	}
}

func TestAnOlderCopyOfARoomsRecordsIsNotUsedAndTheRoomComesBack(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receive(t, p.bob)
	id, _ := onlyRoom(t, p.bob)
	old := mlsRecords(t, p.bob, id)
	send(t, p.bob, p.alice.Address(), "uses a key", SendOptions{})
	receive(t, p.alice)
	if maps.EqualFunc(old, mlsRecords(t, p.bob, id), bytes.Equal) {
		t.Fatal("nothing was written")
	}
	putRaw(t, p.bob, id, old)
	p.bob = reopened(t, p.bob)
	if !p.bob.rooms[id].Lost {
		t.Fatal("an older copy was taken")
	}
	epoch := p.bob.rooms[id].state.Epoch()
	receiveUntil(t, p.bob, "it comes back", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("resynced")) })
	if r := p.bob.rooms[id]; r.Lost || r.state.Epoch() <= epoch {
		t.Fatalf("lost %v in epoch %d after %d", r.Lost, r.state.Epoch(), epoch)
	}
	send(t, p.bob, p.alice.Address(), "back", SendOptions{})
	receiveUntil(t, p.alice, "the message arrives", func(all []Shown) bool { return slices.Contains(texts(all), "back") })
}

func TestRecordsOfTwoStatesStopOneRoomOnly(t *testing.T)      { damagedRoom(t, false) }
func TestARecordThatDoesNotOpenStopsOneRoomOnly(t *testing.T) { damagedRoom(t, true) }

func damagedRoom(t *testing.T, flipped bool) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receive(t, p.bob)
	id, _ := onlyRoom(t, p.bob)
	var head []byte
	must(t, p.bob.vault.view(func(x *txn) (err error) { head, err = x.state(mlsKey(id, "r")); return err }))
	must(t, commitNow(t.Context(), p.alice))
	receiveUntil(t, p.bob, "the Commit", func([]Shown) bool { _, r := onlyRoom(t, p.bob); return r.state.Epoch() == 2 })
	must(t, p.bob.vault.update(func(x *txn) error {
		if flipped {
			b := bytes.Clone(x.tx.Bucket(stateBucket).Get(mlsKey(id, "r")))
			b[len(b)-1] ^= 1
			return x.tx.Bucket(stateBucket).Put(mlsKey(id, "r"), b)
		}
		return x.putState(mlsKey(id, "r"), head)
	}))
	p.bob = reopened(t, p.bob)
	if r := p.bob.rooms[id]; r.state != nil || r.Stopped != unreadableState {
		t.Fatalf("a state of two halves: %v, %q", r.state != nil, r.Stopped)
	}
	send(t, p.alice, p.bob.Address(), "nobody reads this", SendOptions{})
	for _, s := range receive(t, p.bob) {
		if s.Text != "" {
			t.Errorf("shown %q", s.Text)
		}
	}
	if infos := p.bob.Rooms(); len(infos) != 1 || infos[0].State != "stopped" || infos[0].Reason != unreadableState {
		t.Errorf("rooms: %+v", infos)
	}
	var other wire.RoomID
	must(t, with(t, p.bob, func(s *Sender) (err error) {
		other, err = s.CreateRoom(t.Context(), "Other", RoomOptions{})
		return err
	}))
	if r := p.bob.rooms[other]; r == nil || r.state == nil {
		t.Error("no other room works")
	}
}

func TestOldMLSKeysGoThoughNothingArrives(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "first", SendOptions{})
	receive(t, p.bob)
	must(t, commitNow(t.Context(), p.alice))
	receiveUntil(t, p.bob, "the Commit", func([]Shown) bool { _, r := onlyRoom(t, p.bob); return r.state.Epoch() == 2 })
	id, _ := onlyRoom(t, p.bob)
	parts := func() (past int) {
		for k := range mlsRecords(t, p.bob, id) {
			key := []byte(k)[len(roomKey(partPrefix, id)):]
			if bytes.HasPrefix([]byte(k), []byte(partPrefix)) && key[8] == 1 { // of epoch 1
				past++
			}
		}
		return past
	}
	if parts() == 0 {
		t.Fatal("nothing is kept of the past epoch")
	}
	must(t, p.bob.renewKeys())
	if parts() == 0 {
		t.Fatal("dropped at once")
	}
	later := func() time.Time { return time.Now().Add(25 * time.Hour) }
	p.bob.now, p.bob.vault.now = later, later
	generation := p.bob.vault.generation
	must(t, p.bob.renewKeys())
	if n := parts(); n > 0 {
		t.Fatalf("%d records of the past epoch after a day", n)
	}
	if p.bob.vault.generation == generation {
		t.Fatal("the key that opens the old records is still there")
	}
	p.bob = reopened(t, p.bob)
	send(t, p.alice, p.bob.Address(), "second", SendOptions{})
	receiveUntil(t, p.bob, "it goes on", hasTexts(1))
}
