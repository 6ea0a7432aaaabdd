package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// shortLog is a home node whose room log is gone.
type shortLog struct {
	ententev1connect.DeviceServiceClient
	infos int // GroupInfos that were asked for
}

func (s *shortLog) GetRoomLog(context.Context, *connect.Request[pb.GetRoomLogRequest]) (*connect.Response[pb.GetRoomLogResponse], error) {
	return connect.NewResponse(&pb.GetRoomLogResponse{}), nil
}

func (s *shortLog) GetGroupInfo(ctx context.Context, q *connect.Request[pb.GetGroupInfoRequest]) (*connect.Response[pb.GetGroupInfoResponse], error) {
	s.infos++
	return s.DeviceServiceClient.GetGroupInfo(ctx, q)
}

// reopen closes a device and opens its folder again.
func reopened(t *testing.T, d *Device) *Device {
	t.Helper()
	dir := folder(d)
	d.Close()
	n, err := Open(dir, testPass)
	must(t, err)
	t.Cleanup(n.Close)
	return n
}

// copyFolder copies a closed device's files.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.RemoveAll(to))
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// onlyRoom is the one room of a device.
func onlyRoom(t *testing.T, d *Device) (wire.RoomID, *room) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range d.rooms {
		return id, r
	}
	t.Fatal("no room")
	return wire.RoomID{}, nil
}

func hasState(state string) func(Shown) bool {
	return func(s Shown) bool { return s.State == state }
}

// talk sends a text each way and fails unless both are shown once.
func talk(t *testing.T, p *pair, n int) {
	t.Helper()
	there, back := fmt.Sprintf("there %d", n), fmt.Sprintf("back %d", n)
	send(t, p.alice, p.bob.Address(), there, SendOptions{})
	if got := texts(receiveUntil(t, p.bob, there, hasTexts(1))); !slices.Equal(got, []string{there}) {
		t.Errorf("bob was shown %q", got)
	}
	send(t, p.bob, p.alice.Address(), back, SendOptions{})
	if got := texts(receiveUntil(t, p.alice, back, hasTexts(1))); !slices.Equal(got, []string{back}) {
		t.Errorf("alice was shown %q", got)
	}
	eventually(t, "both are in the same epoch", func() error {
		receive(t, p.alice)
		receive(t, p.bob)
		if a, b := p.alice.Rooms()[0], p.bob.Rooms()[0]; a.Code != b.Code || a.ID != b.ID {
			return fmt.Errorf("%+v, %+v", a, b)
		}
		return nil
	})
}

// fallBehind sets a device's room back by two epochs, as if its Commits never came.
func fallBehind(t *testing.T, p *pair, of, other **Device) {
	t.Helper()
	d := *of
	dir, before := folder(d), filepath.Join(t.TempDir(), "before")
	d.Close()
	copyFolder(t, dir, before)
	_, r := onlyRoom(t, *other)
	epoch := r.state.Epoch()
	for n := range uint64(2) { // a message of the epoch before the last would still be taken
		must(t, commitNow(t.Context(), *other))
		eventually(t, "the Commit is ordered", func() error {
			receive(t, *other)
			if _, r := onlyRoom(t, *other); r.state.Epoch() != epoch+n+1 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	opened, err := Open(dir, testPass)
	must(t, err)
	id, _ := onlyRoom(t, opened)
	eventually(t, "the Commits come", func() error {
		receive(t, opened)
		if _, r := onlyRoom(t, opened); r.state.Epoch() != epoch+2 {
			return errors.New("not yet")
		}
		return nil
	})
	// The room's records of before go into the store of now.
	old, err := Open(before, testPass)
	must(t, err)
	must(t, opened.vault.update(func(tx *txn) error { return old.rooms[id].save(tx) }))
	old.Close()
	*of = reopened(t, opened)
	if _, r := onlyRoom(t, *of); r.state.Epoch() != epoch {
		t.Fatalf("epoch %d, wanted %d", r.state.Epoch(), epoch)
	}
}

func TestADeviceThatFellBehindComesBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		of       func(*pair) (behind, other **Device)
		shortLog bool
	}{
		{"by the room log, at the hub's organization", func(p *pair) (**Device, **Device) { return &p.alice, &p.bob }, false},
		{"by an external Commit, at the hub's organization", func(p *pair) (**Device, **Device) { return &p.alice, &p.bob }, true},
		{"by the room log, at a partner", func(p *pair) (**Device, **Device) { return &p.bob, &p.alice }, false},
		{"by an external Commit, at a partner", func(p *pair) (**Device, **Device) { return &p.bob, &p.alice }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			talk(t, p, 1)
			behind, other := c.of(p)
			fallBehind(t, p, behind, other)
			log := &shortLog{DeviceServiceClient: (*behind).home.Device}
			if c.shortLog {
				(*behind).home.Device = log
			}
			to := (*other).Address()
			// The first try may end while the hub elsewhere has not answered.
			err := (*behind).Send(t.Context(), to, "after all", SendOptions{Wait: patience}, func(Progress) {})
			must(t, err)
			if got := texts(receiveUntil(t, *other, "the message", hasTexts(1))); !slices.Equal(got, []string{"after all"}) {
				t.Errorf("shown: %q", got)
			}
			shown := receive(t, *behind)
			if slices.ContainsFunc(shown, hasState("resynced")) != c.shortLog {
				t.Errorf("shown: %+v", shown)
			}
			talk(t, p, 2)
			if c.shortLog && (log.infos < 1 || log.infos > maxFollows) {
				t.Errorf("%d GroupInfos were asked for", log.infos)
			}
		})
	}
}

func TestACommitThatCannotBeAppliedIsMendedWithoutSending(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	fallBehind(t, p, &p.bob, &p.alice)
	p.bob.home.Device = &shortLog{DeviceServiceClient: p.bob.home.Device}
	send(t, p.alice, p.bob.Address(), "of a later epoch", SendOptions{})
	shown := receiveUntil(t, p.bob, "bob comes back", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("resynced")) })
	if !slices.ContainsFunc(shown, func(s Shown) bool { return s.Event == "unreadable" }) {
		t.Errorf("what could not be read was not named: %+v", shown)
	}
	shown = receiveUntil(t, p.alice, "alice is told", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("came back")) })
	if slices.ContainsFunc(shown, hasState("device revoked")) {
		t.Errorf("shown: %+v", shown)
	}
	talk(t, p, 2)
	id, _ := onlyRoom(t, p.bob)
	p.bob.mu.Lock()
	p.bob.rooms[id].Behind = true
	err := p.bob.catchUp(t.Context(), id)
	p.bob.mu.Unlock()
	if wire.StatusOf(err).Code != pb.Code_CODE_RATE_LIMITED {
		t.Errorf("again within the hour: %v", err)
	}
	for _, refused := range []bool{false, true} { // once more, as after a restore; then not
		p.bob.mu.Lock()
		p.bob.rooms[id].Resynced = time.Time{} // a device that does not keep to it
		p.bob.rooms[id].Behind = true
		err = p.bob.catchUp(t.Context(), id)
		p.bob.mu.Unlock()
		must(t, err) // accepted at home; the hub's answer comes
		eventually(t, "the hub has answered", func() error {
			receive(t, p.bob)
			if _, r := onlyRoom(t, p.bob); r.Resyncing || r.Behind != refused {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	}
	// He is told when, which is an hour after the first time.
	back, now := p.bob.Rooms()[0].Back, p.bob.now()
	if !back.After(now.Add(50*time.Minute)) || !back.Before(now.Add(wire.ResyncPerRoom)) {
		t.Errorf("it is %s, and he may come back at %s", now, back)
	}
	p.bob.mu.Lock()
	err = p.bob.alter(id, func(r *room) { r.Lost = true })
	p.bob.mu.Unlock()
	must(t, err)
	text := "may come back at " + back.Local().Format("15:04")
	if r := p.bob.Rooms()[0]; !strings.Contains(r.Reason, text) {
		t.Errorf("the room says %q", r.Reason)
	}
	if err := p.bob.Send(t.Context(), p.alice.Address(), "when?", SendOptions{}, func(Progress) {}); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the message says %v", err)
	}
}

func TestADeviceRestoredFromABackupMakesNewKeysAndComesBack(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		t.Run(who, func(t *testing.T) {
			p := newPair(t)
			talk(t, p, 1)
			d, other := &p.alice, &p.bob
			if who == "bob" {
				d, other = other, d
			}
			dir, backup := folder(*d), filepath.Join(t.TempDir(), "backup")
			(*d).Close()
			copyFolder(t, dir, backup)
			var err error
			*d, err = Open(dir, testPass)
			must(t, err)
			talk(t, p, 2) // of which the backup knows nothing
			(*d).Close()
			copyFolder(t, backup, dir)
			*d, err = Open(dir, testPass)
			must(t, err)
			t.Cleanup((*d).Close)
			old := keyPackageRefs(t, *d)
			must(t, (*d).Send(t.Context(), (*other).Address(), "from the backup", SendOptions{Wait: patience}, func(Progress) {}))
			shown := receive(t, *d)
			for _, state := range []string{"restored", "resynced"} {
				if !slices.ContainsFunc(shown, hasState(state)) {
					t.Errorf("not told %s: %+v", state, shown)
				}
			}
			if got := texts(receiveUntil(t, *other, "the message", hasTexts(1))); !slices.Equal(got, []string{"from the backup"}) {
				t.Errorf("shown: %q", got)
			}
			for ref := range keyPackageRefs(t, *d) {
				if old[ref] {
					t.Error("a KeyPackage of the backup is still there")
				}
			}
			if a, err := (*d).Account(t.Context()); err != nil || int(a.KeyPackages) != pools[0].size {
				t.Errorf("KeyPackages at the node: %v, %v", a.GetKeyPackages(), err)
			}
			talk(t, p, 3)
			// What lies before its return is told by that; its own words of the lost time are no gap.
			past, err := (*d).History()
			must(t, err)
			if i := slices.IndexFunc(past, hasState("gap")); i >= 0 {
				t.Errorf("told of a gap: %+v", past[i])
			}
		})
	}
}

func TestADeviceThatCameBackWithinTheHourComesBackAfterARestoreToo(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run("from a copy made "+when+" it came back", func(t *testing.T) {
			p := newPair(t)
			talk(t, p, 1)
			dir, backup := folder(p.alice), filepath.Join(t.TempDir(), "backup")
			keep := func() {
				p.alice.Close()
				copyFolder(t, dir, backup)
				var err error
				p.alice, err = Open(dir, testPass)
				must(t, err)
				receive(t, p.alice)
			}
			if when == "before" {
				keep()
			}
			home := p.alice.home.Device
			p.alice.home.Device = &shortLog{DeviceServiceClient: home}
			id, _ := onlyRoom(t, p.alice)
			p.alice.mu.Lock()
			err := errors.Join(p.alice.alter(id, func(r *room) { r.Behind = true }), p.alice.catchUp(t.Context(), id))
			p.alice.mu.Unlock()
			must(t, err)
			if _, r := onlyRoom(t, p.alice); r.Resynced.IsZero() || r.Behind {
				t.Fatalf("%+v", r)
			}
			p.alice.home.Device = home
			if when == "after" {
				keep()
			}
			talk(t, p, 2) // of which the copy knows nothing
			p.alice.Close()
			copyFolder(t, backup, dir)
			p.alice, err = Open(dir, testPass)
			must(t, err)
			t.Cleanup(p.alice.Close)
			if err := p.alice.Send(t.Context(), p.bob.Address(), "from the copy", SendOptions{Wait: patience}, func(Progress) {}); err != nil {
				t.Fatalf("%v; shown: %+v", err, receive(t, p.alice))
			}
			shown := receive(t, p.alice)
			for _, s := range shown {
				if s.State == "resynced" && s.To != p.bob.Address().String() {
					t.Errorf("the room is not named: %+v", s)
				}
			}
			if !slices.ContainsFunc(shown, hasState("resynced")) {
				t.Errorf("shown: %+v", shown)
			}
			if got := texts(receiveUntil(t, p.bob, "the message", hasTexts(1))); !slices.Equal(got, []string{"from the copy"}) {
				t.Errorf("bob was shown %q", got)
			}
			talk(t, p, 3)
		})
	}
}

func keyPackageRefs(t *testing.T, d *Device) map[string]bool {
	t.Helper()
	refs := make(map[string]bool)
	must(t, d.vault.view(func(t *txn) error {
		return t.eachState(kpPrefix, func(k, _ []byte) error { refs[string(k)] = true; return nil })
	}))
	return refs
}

func TestARoomDoesNotExistForADeviceThatIsNotInIt(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, r := onlyRoom(t, p.alice)
	for _, stranger := range []*Device{p.acme.device("carol"), p.globex.device("dave")} {
		_, err := call(t.Context(), stranger.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:]})
		if wire.StatusOf(err).Code != pb.Code_CODE_UNKNOWN_ROOM {
			t.Errorf("%s got the GroupInfo: %v", stranger.Address(), err)
		}
		_, err = call(t.Context(), stranger.home.Device.GetRoomLog, &pb.GetRoomLogRequest{Hub: r.Hub[:], Room: id[:], FromEpoch: 1})
		if wire.StatusOf(err).Code != pb.Code_CODE_UNKNOWN_ROOM {
			t.Errorf("%s got the room log: %v", stranger.Address(), err)
		}
	}
	for _, member := range []*Device{p.alice, p.bob} {
		if _, err := call(t.Context(), member.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:]}); err != nil {
			t.Errorf("%s: %v", member.Address(), err)
		}
	}
}

func TestAResyncThatIsCutOffIsFinishedByTheNextStart(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	fallBehind(t, p, &p.bob, &p.alice)
	p.bob.home.Device = &shortLog{DeviceServiceClient: p.bob.home.Device}
	dir := folder(p.bob)
	stopAt(t, "resync-staged", func() error {
		return p.bob.Send(t.Context(), p.alice.Address(), "cut off", SendOptions{Wait: patience}, func(Progress) {})
	})
	p.bob.Close()
	var err error
	p.bob, err = Open(dir, testPass)
	must(t, err)
	t.Cleanup(p.bob.Close)
	if _, r := onlyRoom(t, p.bob); !r.Resyncing || r.Committing == 0 {
		t.Fatalf("not staged: %+v", r)
	}
	if got := texts(receiveUntil(t, p.alice, "what waited", func(all []Shown) bool {
		receive(t, p.bob)
		return hasTexts(1)(all)
	})); !slices.Equal(got, []string{"cut off"}) {
		t.Errorf("shown: %q", got)
	}
	talk(t, p, 2)
}

func TestComingBackIsNotOvertakenByWhatWentBefore(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	fallBehind(t, p, &p.bob, &p.alice)
	id, r := onlyRoom(t, p.bob)
	epoch, whole := r.state.Epoch(), p.bob.home.Device
	must(t, with(t, p.bob, func(s *Sender) error { return s.l.ready(t.Context()) }))
	// The log is not to be had, and the answer to the Commit that brings bob back is lost.
	p.bob.home.Device = &deaf{DeviceServiceClient: &shortLog{DeviceServiceClient: whole}}
	p.bob.mu.Lock()
	err := p.bob.catchUp(t.Context(), id)
	p.bob.home.Device = whole
	if !temporary(err) || p.bob.rooms[id].Committing == 0 {
		t.Fatalf("%v %+v", err, p.bob.rooms[id])
	}
	// Now the log comes, with all that was before it and with itself.
	for range 2 {
		_, err = p.bob.followLog(t.Context(), id)
	}
	p.bob.mu.Unlock()
	must(t, err)
	if r := p.bob.rooms[id]; r.Ended || r.state.Epoch() != epoch+3 || r.Committing != 0 {
		t.Fatalf("bob is at epoch %d of %d: %+v", r.state.Epoch(), epoch+3, r)
	}
	talk(t, p, 2)
}
