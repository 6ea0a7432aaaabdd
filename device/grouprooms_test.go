package device

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// trio is three organizations, each partner of the others, with a member at each and a
// second one at the first.
type trio struct {
	acme, globex, hooli      *organization
	alice, adam, bob, claire *Device
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	return newTrioWith(t, defaultBucket)
}

func newTrioWith(t *testing.T, bucket time.Duration) *trio {
	t.Helper()
	w := &trio{acme: newOrganization(t, "acme.example", bucket), globex: newOrganization(t, "globex.example", bucket), hooli: newOrganization(t, "hooli.example", bucket)}
	agree(t, w.acme, w.globex)
	agree(t, w.acme, w.hooli)
	agree(t, w.globex, w.hooli)
	w.alice, w.adam, w.bob, w.claire = w.acme.device("alice"), w.acme.device("adam"), w.globex.device("bob"), w.hooli.device("claire")
	return w
}

// with runs f over a session of a device.
func with(t *testing.T, d *Device, f func(*Sender) error) error {
	t.Helper()
	s, err := d.Sender(t.Context())
	must(t, err)
	defer s.Close()
	return f(s)
}

func sendRoom(t *testing.T, d *Device, id wire.RoomID, text string) {
	t.Helper()
	must(t, with(t, d, func(s *Sender) error {
		return s.SendRoom(t.Context(), id, text, SendOptions{Wait: patience}, func(Progress) {})
	}))
}

// agreeing waits until devices are in one epoch of a room, visiting each.
func agreeing(t *testing.T, id wire.RoomID, list ...*Device) {
	t.Helper()
	eventually(t, "all are in one epoch", func() error {
		codes, in := make(map[string][]string), 0
		for _, d := range list {
			receive(t, d)
			for _, r := range d.Rooms() {
				if r.ID == id.String() {
					in++
					codes[r.Code] = append(codes[r.Code], fmt.Sprintf("%s %d %s", d.Address(), r.Epoch, r.State))
				}
			}
		}
		if len(codes) != 1 || in != len(list) {
			return fmt.Errorf("%v", codes)
		}
		return nil
	})
}

func roles(t *testing.T, d *Device, id wire.RoomID) map[string]string {
	t.Helper()
	list, err := d.RoomMembers(id)
	must(t, err)
	out := make(map[string]string)
	for _, m := range list {
		out[m.Address] = m.Role
	}
	return out
}

func TestARoomAcrossThreeOrganizations(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Harbour", RoomOptions{Members: []wire.Address{w.bob.Address()}})
		return err
	}))
	shown := receiveUntil(t, w.bob, "the room and its name", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("named")) })
	if !slices.ContainsFunc(shown, func(s Shown) bool { return s.State == "joined" && s.From == "alice@acme.example" }) {
		t.Errorf("bob was shown %+v", shown)
	}
	if got, err := w.bob.FindRoom("Harbour"); err != nil || got != id {
		t.Errorf("bob finds %v, %v", got, err)
	}
	sendRoom(t, w.bob, id, "before claire")
	receiveUntil(t, w.alice, "bob's words", hasTexts(1))

	t.Run("members invite people of a third organization", func(t *testing.T) {
		must(t, with(t, w.bob, func(s *Sender) error { return s.Invite(t.Context(), id, w.claire.Address(), wire.RoleGuest) }))
		shown := receiveUntil(t, w.claire, "the invitation", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("named")) })
		if got := texts(shown); len(got) > 0 {
			t.Errorf("claire reads what was said before: %q", got)
		}
		agreeing(t, id, w.alice, w.bob, w.claire)
		want := map[string]string{"alice@acme.example": "admin", "bob@globex.example": "member", "claire@hooli.example": "guest"}
		if got := roles(t, w.alice, id); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("roles: %v", got)
		}
	})
	t.Run("everybody reads everybody", func(t *testing.T) {
		for i, from := range []*Device{w.alice, w.bob, w.claire} {
			text := fmt.Sprintf("word %d", i)
			sendRoom(t, from, id, text)
			for _, d := range []*Device{w.alice, w.bob, w.claire} {
				if d == from {
					continue
				}
				if got := texts(receiveUntil(t, d, text, hasTexts(1))); !slices.Equal(got, []string{text}) {
					t.Errorf("%s was shown %q", d.Address(), got)
				}
			}
		}
	})
	t.Run("roles are kept by the device", func(t *testing.T) {
		for name, f := range map[string]func() error{
			"a guest invites": func() error {
				claims := &claimCounter{DeviceServiceClient: w.claire.home.Device}
				defer func(was ententev1connect.DeviceServiceClient) {
					if w.claire.home.Device = was; claims.n > 0 {
						t.Error("who is not to be invited was asked for KeyPackages")
					}
				}(w.claire.home.Device)
				w.claire.home.Device = claims
				return with(t, w.claire, func(s *Sender) error { return s.Invite(t.Context(), id, w.adam.Address(), wire.RoleMember) })
			},
			"a guest removes": func() error {
				return with(t, w.claire, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.bob.Address()) })
			},
			"a member removes": func() error {
				return with(t, w.bob, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.claire.Address()) })
			},
			"a member makes itself admin": func() error {
				return with(t, w.bob, func(s *Sender) error { return s.SetRole(t.Context(), id, w.bob.Address(), wire.RoleAdmin) })
			},
			"a member ends the room": func() error { return with(t, w.bob, func(s *Sender) error { return s.EndRoom(t.Context(), id) }) },
			"the last admin gives up": func() error {
				return with(t, w.alice, func(s *Sender) error { return s.SetRole(t.Context(), id, w.alice.Address(), wire.RoleMember) })
			},
			"the last admin leaves": func() error { return with(t, w.alice, func(s *Sender) error { return s.Leave(t.Context(), id) }) },
			"somebody is invited twice": func() error {
				return with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), id, w.bob.Address(), wire.RoleMember) })
			},
			"somebody who is not in it": func() error {
				return with(t, w.alice, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.adam.Address()) })
			},
		} {
			if err := f(); err == nil || wire.ClassOf(wire.StatusOf(err).Code) == wire.Success {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("and by the hub, for devices that do not keep them", func(t *testing.T) {
		receive(t, w.claire)
		w.claire.mu.Lock()
		_, staged, err := w.claire.rooms[id].state.Stage(group.CommitParams{Removes: w.claire.rooms[id].leavesOf(memberKey{w.bob.account.Organization, w.bob.account.Member})})
		r := w.claire.rooms[id]
		w.claire.mu.Unlock()
		must(t, err)
		var counter uint64
		must(t, w.claire.vault.update(func(x *txn) (err error) { counter, err = x.nextCounter(); return err }))
		st, err := w.claire.submitCommit(t.Context(), r, counter, staged)
		must(t, err)
		if st.Code != pb.Code_CODE_ACCEPTED { // by hooli; acme orders the room
			t.Fatalf("at home: %v", st)
		}
		sendRoom(t, w.claire, id, "after it") // taken, so the hub has decided before
		receiveUntil(t, w.bob, "bob is still there", hasTexts(1))
		receiveUntil(t, w.alice, "alice too", hasTexts(1))
	})
	t.Run("an administrator removes, and the removed read nothing more", func(t *testing.T) {
		must(t, with(t, w.alice, func(s *Sender) error { return s.RemoveMember(t.Context(), id, w.claire.Address()) }))
		sendRoom(t, w.alice, id, "without claire")
		receiveUntil(t, w.bob, "bob reads it", hasTexts(1))
		shown := receiveUntil(t, w.claire, "claire is told", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("removed")) })
		if got := texts(shown); len(got) > 0 {
			t.Errorf("claire reads %q", got)
		}
		if err := with(t, w.claire, func(s *Sender) error { return s.SendRoom(t.Context(), id, "hello?", SendOptions{}, func(Progress) {}) }); err == nil {
			t.Error("claire still speaks")
		}
	})
	t.Run("a member leaves and another device commits it", func(t *testing.T) {
		must(t, with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), id, w.adam.Address(), wire.RoleMember) }))
		agreeing(t, id, w.alice, w.bob, w.adam)
		must(t, with(t, w.bob, func(s *Sender) error { return s.Leave(t.Context(), id) }))
		eventually(t, "bob is out", func() error {
			receive(t, w.alice)
			shown := receive(t, w.bob)
			if !slices.ContainsFunc(shown, hasState("removed")) {
				return fmt.Errorf("%+v", w.bob.Rooms())
			}
			return nil
		})
		agreeing(t, id, w.alice, w.adam)
	})
	t.Run("an ended room takes nothing more", func(t *testing.T) {
		must(t, with(t, w.alice, func(s *Sender) error { return s.EndRoom(t.Context(), id) }))
		receiveUntil(t, w.adam, "adam is told", func(all []Shown) bool { return slices.ContainsFunc(all, hasState("ended")) })
		for _, d := range []*Device{w.alice, w.adam} {
			if err := with(t, d, func(s *Sender) error { return s.SendRoom(t.Context(), id, "still?", SendOptions{}, func(Progress) {}) }); err == nil {
				t.Errorf("%s speaks in a room that has ended", d.Address())
			}
		}
	})
}

func TestCommitsThatRaceEndInOneOrder(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Race", RoomOptions{Members: []wire.Address{w.bob.Address(), w.claire.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.claire)
	for round := range 3 {
		devices := []*Device{w.alice, w.bob, w.claire}
		done := make(chan error, len(devices))
		for i, d := range devices {
			go func() {
				s, err := d.Sender(t.Context())
				if err == nil {
					defer s.Close()
					err = s.change(t.Context(), id, func(*room) (group.CommitParams, error) { return group.CommitParams{}, nil })
				}
				if err == nil {
					err = s.SendRoom(t.Context(), id, fmt.Sprintf("round %d of %d", round, i), SendOptions{Wait: patience}, func(Progress) {})
				}
				done <- err
			}()
		}
		for range devices {
			if err := <-done; err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		agreeing(t, id, devices...)
	}
	for _, d := range []*Device{w.alice, w.bob, w.claire} {
		history, err := d.History()
		must(t, err)
		nothingLost(t, history)
		if got := texts(history); len(got) != 6 {
			t.Errorf("%s has %q", d.Address(), got)
		}
	}
}

func TestLeavingARoomThatMovedOnMeanwhile(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.bob, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Moving", RoomOptions{Members: []wire.Address{w.alice.Address(), w.claire.Address()}})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.claire)
	for _, leaver := range []*Device{w.claire, w.alice} {
		must(t, with(t, w.bob, func(s *Sender) error {
			return s.change(t.Context(), id, func(*room) (group.CommitParams, error) { return group.CommitParams{}, nil })
		}))
		// The leaver has not seen that Commit; one visit is enough all the same.
		must(t, with(t, leaver, func(s *Sender) error { return s.Leave(t.Context(), id) }))
		receiveUntil(t, w.bob, leaver.Address().String()+" is gone", func(all []Shown) bool {
			return slices.ContainsFunc(all, func(s Shown) bool { return s.State == "left" && s.From == leaver.Address().String() })
		})
	}
}

func TestTheNodesAnswerAfterTheHubsResultChangesNothing(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "hello", SendOptions{})
	id, _ := onlyRoom(t, p.alice)
	mid, err := p.alice.queueRoom(id, "again", SendOptions{Expires: time.Hour})
	must(t, err)
	_, o, err := p.alice.sent(mid)
	must(t, err)
	for _, code := range []pb.Code{pb.Code_CODE_SEQUENCED, pb.Code_CODE_ACCEPTED, pb.Code_CODE_UNREACHABLE} {
		must(t, p.alice.vault.update(func(t *txn) error {
			_, err := p.alice.settled(t, mid, o.Counter, wire.Status(code, ""))
			return err
		}))
		s, left, err := p.alice.sent(mid)
		if err != nil || left != nil || s.State != "sequenced" {
			t.Fatalf("after %v: %+v %v %v", code, s, left, err)
		}
	}
}

func TestACommitAgainstTheRulesStopsTheRoom(t *testing.T) {
	w := newTrio(t)
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Rules", RoomOptions{Members: []wire.Address{w.bob.Address(), w.adam.Address()}, AdminInvite: true})
		return err
	}))
	agreeing(t, id, w.alice, w.bob, w.adam)
	// adam, a plain member, makes a Commit that removes bob, and a hub that is with him
	// would send it on: alice is handed it as such a hub would.
	w.adam.mu.Lock()
	r := w.adam.rooms[id]
	_, staged, err := r.state.Stage(group.CommitParams{Removes: r.leavesOf(memberKey{w.bob.account.Organization, w.bob.account.Member})})
	w.adam.mu.Unlock()
	must(t, err)
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT, Room: id[:], Epoch: r.state.Epoch(), Body: staged.Commit})
	must(t, err)
	w.alice.mu.Lock()
	seq := w.alice.rooms[id].Seq
	mark := w.alice.mark()
	w.alice.mu.Unlock()
	_, err = w.alice.handle(t.Context(), []*pb.Deliver{{Seq: mark + 1, Envelope: &pb.Envelope{Core: core, Seq: seq + 1, AcceptedMs: time.Now().UnixMilli()}}}, nothing)
	must(t, err)
	_, stopped := w.alice.rooms[id], w.alice.rooms[id].Stopped
	if stopped == "" || w.alice.rooms[id].Behind {
		t.Fatalf("alice goes on: %+v", w.alice.rooms[id])
	}
	if rules, err := policy.Of(w.alice.rooms[id].state.Extensions()); err != nil || rules.Roles == nil || len(w.alice.rooms[id].people()) != 3 {
		t.Errorf("alice took the Commit: %v", err)
	}
	if err := with(t, w.alice, func(s *Sender) error {
		return s.SendRoom(t.Context(), id, "to whom?", SendOptions{}, func(Progress) {})
	}); err == nil {
		t.Error("alice still sends")
	}
}

func TestAHubThatShowsAnotherOrderIsFoundOut(t *testing.T) {
	p := newPair(t)
	for i := range 3 {
		send(t, p.alice, p.bob.Address(), fmt.Sprint(i), SendOptions{})
	}
	shown := receiveUntil(t, p.bob, "the messages", hasTexts(3))
	nothingLost(t, shown)
	id, r := onlyRoom(t, p.bob)
	if r.HeadSeq == 0 || r.HeadSeq != r.Seq {
		t.Fatalf("the order was not followed: %+v", r)
	}
	deliver := func(previous []byte) []Shown {
		core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
			Room: id[:], Epoch: 1, Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte("of another order")})
		must(t, err)
		p.bob.mu.Lock()
		seq, mark := p.bob.rooms[id].Seq, p.bob.mark()
		p.bob.mu.Unlock()
		_, err = p.bob.handle(t.Context(), []*pb.Deliver{{Seq: mark + 1, Envelope: &pb.Envelope{Core: core, Seq: seq + 1, Previous: previous, AcceptedMs: time.Now().UnixMilli()}}}, nothing)
		must(t, err)
		var out []Shown
		out = append(out, shownNew(t, p.bob)...)
		return out
	}
	p.bob.mu.Lock()
	honest := p.bob.rooms[id].Head
	p.bob.mu.Unlock()
	if slices.ContainsFunc(deliver(honest), hasState("forked")) {
		t.Error("an entry that names the one before it is taken for a fork")
	}
	if !slices.ContainsFunc(deliver(make([]byte, 32)), hasState("forked")) {
		t.Error("an entry that names another order goes unnoticed")
	}
}

func TestARoomOfEachCipherSuite(t *testing.T) {
	w := newTrio(t)
	for _, name := range SuiteNames() {
		suite, err := SuiteNamed(name)
		must(t, err)
		var id wire.RoomID
		must(t, with(t, w.alice, func(s *Sender) (err error) {
			id, err = s.CreateRoom(t.Context(), name, RoomOptions{Members: []wire.Address{w.bob.Address()}, Suite: suite})
			return err
		}))
		must(t, with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), id, w.claire.Address(), wire.RoleMember) }))
		agreeing(t, id, w.alice, w.bob, w.claire)
		sendRoom(t, w.claire, id, "in "+name)
		if got := texts(receiveUntil(t, w.bob, name, hasTexts(1))); got[0] != "in "+name {
			t.Errorf("bob was shown %q", got)
		}
		for _, d := range []*Device{w.alice, w.bob, w.claire} {
			i := slices.IndexFunc(d.Rooms(), func(r RoomInfo) bool { return r.ID == id.String() })
			if got := d.Rooms()[i].Suite; got != name {
				t.Errorf("%s has a room of %q", d.Address(), got)
			}
		}
	}
	if _, err := SuiteNamed("rot13"); err == nil {
		t.Error("rot13")
	}
}

type claimCounter struct {
	ententev1connect.DeviceServiceClient
	n int
}

func (c *claimCounter) ClaimKeyPackages(ctx context.Context, q *connect.Request[pb.ClaimKeyPackagesRequest]) (*connect.Response[pb.ClaimKeyPackagesResponse], error) {
	c.n++
	return c.DeviceServiceClient.ClaimKeyPackages(ctx, q)
}
