package device

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
)

// parted is a trio in which adam has not read that claire came into a room of three, what was
// said there afterwards, and what was said elsewhere; and claire's organization is away.
func parted(t *testing.T, bucket, expires time.Duration) (w *trio, both, office wire.RoomID) {
	t.Helper()
	w = newTrioWith(t, bucket)
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		if both, err = s.CreateRoom(t.Context(), "Both", RoomOptions{Members: []wire.Address{w.bob.Address(), w.adam.Address()}}); err != nil {
			return err
		}
		office, err = s.CreateRoom(t.Context(), "Office", RoomOptions{Members: []wire.Address{w.adam.Address()}})
		return err
	}))
	agreeing(t, both, w.alice, w.adam, w.bob)
	agreeing(t, office, w.alice, w.adam)
	say := func(room wire.RoomID, text string) {
		must(t, with(t, w.alice, func(s *Sender) error {
			return s.SendRoom(t.Context(), room, text, SendOptions{Expires: expires, Wait: patience}, func(Progress) {})
		}))
	}
	say(both, "before")
	must(t, with(t, w.alice, func(s *Sender) error { return s.Invite(t.Context(), both, w.claire.Address(), wire.RoleMember) }))
	say(both, "one")
	say(office, "to the office")
	say(both, "two")
	w.hooli.halt()
	return w, both, office
}

func nothing(uint64) bool { return false }

func (d *Device) waitingIn(room wire.RoomID) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.untaken {
		if u.room == room {
			n++
		}
	}
	return n
}

// lying fetches what the node has for a device above a number, without taking it.
func lying(t *testing.T, d *Device, after uint64, atLeast int) (ds []*pb.Deliver) {
	t.Helper()
	eventually(t, "it lies there", func() error {
		a, err := d.home.Device.Fetch(t.Context(), connect.NewRequest(&pb.FetchRequest{After: after, Envelopes: 64, Bytes: 1 << 19}))
		if err != nil {
			return err
		}
		if ds = a.Msg.Deliveries; len(ds) < atLeast {
			return fmt.Errorf("%d", len(ds))
		}
		return nil
	})
	return ds
}

// states are what the members of an organization are told to have done with a text.
func states(t *testing.T, d *Device, text string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	list, err := d.Sent()
	must(t, err)
	for _, s := range list {
		for _, m := range s.Members {
			if s.Text == text {
				out[m.Address] = m.State
			}
		}
	}
	return out
}

// A partner that cannot be reached keeps back what is said in the rooms that its new members
// came into, and nothing else; when it is back, nothing of that is missing.
func TestAPartnerThatIsAwayHoldsUpNoOtherRoom(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	shown := receive(t, w.adam)
	if got := texts(shown); !slices.Equal(got, []string{"before", "to the office"}) {
		t.Errorf("adam reads %q", got)
	}
	waits := func(s Shown) bool { return s.State == "waits" && s.Room == both.String() }
	if !slices.ContainsFunc(shown, waits) {
		t.Errorf("adam is not told that the room waits: %+v", shown)
	}
	if w.acme.waiting(w.adam.Address()) < 3 {
		t.Error("the node has not kept what waits")
	}
	for _, i := range w.adam.Rooms() {
		if (i.State == "behind") != (i.ID == both.String()) || i.State == "behind" && i.Reason == "" {
			t.Errorf("adam lists %+v", i)
		}
	}
	eventually(t, "alice is told what adam has read, also what came after what waits", func() error {
		receive(t, w.alice)
		for _, text := range []string{"before", "to the office"} {
			if got := states(t, w.alice, text)[w.adam.Address().String()]; got != "acknowledged" {
				return fmt.Errorf("%q: %s", text, got)
			}
		}
		return nil
	})
	must(t, with(t, w.adam, func(s *Sender) error {
		err := s.SendRoom(t.Context(), both, "when it is back", SendOptions{}, func(Progress) {})
		if wire.StatusOf(err).Code != pb.Code_CODE_UNREACHABLE {
			t.Errorf("sending meanwhile: %v", err)
		}
		return nil
	}))
	dir := folder(w.adam) // it is stored
	w.adam.Close()
	var err error
	w.adam, err = Open(dir, testPass)
	must(t, err)
	t.Cleanup(w.adam.Close)
	if shown = receive(t, w.adam); len(shown) > 0 {
		t.Errorf("shown, and hooli is away: %+v", shown)
	}
	w.acme.halt() // the node's numbers are others from now on
	w.acme.start()
	if shown = receive(t, w.adam); len(texts(shown)) > 0 {
		t.Errorf("shown, and hooli is away: %+v", shown)
	}
	w.hooli.start()
	shown = receiveUntil(t, w.adam, "what waited", func(all []Shown) bool { return len(texts(all)) >= 2 })
	if got := texts(shown); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("adam reads %q", got)
	}
	for _, s := range shown {
		if s.State == "gap" || s.State == "resynced" || s.Event == "unreadable" {
			t.Errorf("shown: %+v", s)
		}
	}
	sendRoom(t, w.adam, both, "here again")
	if n := w.adam.waitingIn(both); n > 0 || w.adam.acknowledged() != w.adam.mark() {
		t.Errorf("%d wait", n)
	}
	eventually(t, "the node has nothing more for adam", func() error {
		receive(t, w.adam)
		if n := w.acme.waiting(w.adam.Address()); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	eventually(t, "alice is told what adam has", func() error {
		receive(t, w.alice)
		for _, text := range []string{"before", "one", "two", "to the office"} {
			if got := states(t, w.alice, text)[w.adam.Address().String()]; got != "acknowledged" {
				return fmt.Errorf("%q: %s", text, got)
			}
		}
		return nil
	})
}

// What waits ends at the node when it says, and its sender is told.
func TestWhatWaitsEndsAtItsDeadline(t *testing.T) {
	w, both, _ := parted(t, 5*time.Second, 15*time.Second)
	receive(t, w.adam)
	if n := w.adam.waitingIn(both); n < 3 {
		t.Fatalf("%d deliveries wait, wanted the Commit, two messages and what names the room", n)
	}
	w.acme.halt() // it keeps what it has handed out a moment longer
	w.acme.start()
	eventually(t, "alice is told that they have ended", func() error {
		receive(t, w.alice)
		if got := states(t, w.alice, "one")[w.adam.Address().String()]; got != "expired" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	for _, text := range []string{"before", "to the office"} { // read, and said so before it ended
		if got := states(t, w.alice, text)[w.adam.Address().String()]; got != "acknowledged" {
			t.Errorf("alice is told %q of %q, which adam has read", got, text)
		}
	}
	receive(t, w.adam)
	w.hooli.start()
	shown := receiveUntil(t, w.adam, "the room goes on", func([]Shown) bool { return w.adam.waitingIn(both) == 0 })
	if got := texts(shown); len(got) > 0 {
		t.Errorf("adam reads %q, which has ended", got)
	}
}

// A device that stays keeps what waits, and reads none of it when it has ended.
func TestADeviceThatStaysReadsNothingThatHasEndedWhileItWaited(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	_, err := w.adam.handle(t.Context(), ds, nothing)
	must(t, err)
	w.hooli.start()
	w.adam.mu.Lock()
	w.adam.ahead = 8 * 24 * time.Hour
	w.adam.mu.Unlock()
	var shown []Shown
	eventually(t, "the room goes on", func() error {
		unread, err := w.adam.handle(t.Context(), ds, nothing)
		must(t, err)
		if n := w.adam.waitingIn(both); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		if len(unread) < 2 || slices.ContainsFunc(unread, func(u session.Unread) bool { return !u.Expired }) {
			t.Errorf("unread: %+v", unread)
		}
		return nil
	})
	shown = append(shown, shownNew(t, w.adam)...)
	if got := texts(shown); !slices.Equal(got, []string{"before", "to the office"}) {
		t.Errorf("adam reads %q", got)
	}
}

// Whoever is away stops a room for three days, not for ever; a room whose Commit was given up goes on by its hub's log.
func TestWhatHasWaitedForThreeDaysIsGivenUp(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	_, err := w.adam.handle(t.Context(), ds, nothing)
	must(t, err)
	for _, c := range []struct {
		after time.Duration
		waits bool
	}{{0, true}, {wire.DeliverPatience - time.Minute, true}, {wire.DeliverPatience + time.Minute, false}} {
		w.adam.mu.Lock()
		w.adam.ahead = c.after
		w.adam.mu.Unlock()
		_, err := w.adam.handle(t.Context(), ds, nothing)
		must(t, err)
		if got := w.adam.waitingIn(both) > 0 || w.adam.acknowledged() < w.adam.mark(); got != c.waits {
			t.Errorf("after %s: waits %v, acknowledged %d of %d", c.after, got, w.adam.acknowledged(), w.adam.mark())
		}
	}
	w.adam.mu.Lock()
	behind := w.adam.rooms[both].Behind
	w.adam.ahead = 0
	w.adam.mu.Unlock()
	if !behind {
		t.Error("the room does not know that it missed a Commit")
	}
	w.hooli.start()
	agreeing(t, both, w.alice, w.adam, w.bob, w.claire)
	sendRoom(t, w.claire, both, "back")
	receiveUntil(t, w.adam, "claire's words", func(all []Shown) bool { return slices.Contains(texts(all), "back") })
}

// What is delivered again because something before it waits is shown once, and said to be
// unread each time, until the acknowledgement passes it.
func TestWhatIsDeliveredAgainAboveTheAcknowledgementIsShownOnce(t *testing.T) {
	w, both, office := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	for _, x := range ds {
		if orderOf(x) == office { // nobody can read it
			core, err := wire.ParseCore(x.Envelope.Core)
			must(t, err)
			core.Body[len(core.Body)-1] ^= 1
			x.Envelope.Core, err = wire.EncodeCore(core)
			must(t, err)
		}
	}
	first := uint64(0)
	for range 3 {
		unread, err := w.adam.handle(t.Context(), ds, nothing)
		must(t, err)
		if len(unread) != 1 || first != 0 && unread[0].Seq != first {
			t.Fatalf("unread: %v", unread)
		}
		if first = unread[0].Seq; first <= w.adam.acknowledged() {
			t.Fatalf("%d is acknowledged, and %d unread", w.adam.acknowledged(), first)
		}
	}
	l := &link{d: w.adam}
	if said := l.unreported(); len(said) != 0 {
		t.Errorf("Hello says %v above what it acknowledges", said)
	}
	var shown []Shown
	shown = append(shown, shownNew(t, w.adam)...)
	count := make(map[string]int)
	for _, s := range shown {
		count[s.Event+" "+s.State+s.Text]++
	}
	if count["message before"] != 1 || count["unreadable message"] != 1 || count["room waits"] != 1 {
		t.Errorf("shown: %v", count)
	}
	// Given up, they are unreadable as well, and all can be acknowledged.
	unread, err := w.adam.giveUpWaiting(t.Context(), ds)
	must(t, err)
	if len(unread) < 3 || w.adam.acknowledged() != w.adam.mark() || w.adam.waitingIn(both) > 0 {
		t.Errorf("unread %v, %d of %d acknowledged", unread, w.adam.acknowledged(), w.adam.mark())
	}
	if said := l.unreported(); !slices.Equal(said, unread) {
		t.Errorf("Hello says %v, wanted %v", said, unread)
	}
}

// Numbers that the node has nothing under any more, because it has ended or the node has
// numbers of a new start, keep no acknowledgement back.
func TestNumbersThatTheNodePassesOverWaitNoLonger(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	_, err := w.adam.handle(t.Context(), ds, nothing)
	must(t, err)
	n := w.adam.waitingIn(both)
	l := &link{d: w.adam, settled: make(chan struct{}, 1)}
	l.begins(time.Time{})
	at := slices.IndexFunc(ds, func(x *pb.Deliver) bool { return x.Seq > w.adam.acknowledged() })
	_, err = l.handle(t.Context(), ds[at+1:]) // without the first of it
	must(t, err)
	if got := w.adam.waitingIn(both); got != n-1 {
		t.Errorf("%d wait, wanted %d", got, n-1)
	}
	l.begins(time.Time{})
	l.emptied()
	if got := w.adam.waitingIn(both); got != 0 || w.adam.acknowledged() != w.adam.mark() {
		t.Errorf("%d wait", got)
	}
}

// A node that has started anew brings what waits under other numbers. Until these are stored
// the old ones keep the acknowledgement back: all that waits would be acknowledged with them.
func TestNumbersOfANodesLastStartWaitUntilWhatTheyStoodForHasCome(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	_, err := w.adam.handle(t.Context(), ds, nothing)
	must(t, err)
	acked, n := w.adam.acknowledged(), w.adam.waitingIn(both)
	l := &link{d: w.adam, settled: make(chan struct{}, 1)}
	l.begins(time.Time{})
	var anew []*pb.Deliver
	for _, x := range ds {
		if x.Seq > acked {
			anew = append(anew, &pb.Deliver{Seq: x.Seq + 1<<20, Envelope: x.Envelope})
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = l.handle(ctx, anew); err == nil {
		t.Fatal("taken by a device that leaves")
	}
	if got := w.adam.acknowledged(); got != acked {
		t.Fatalf("%d is acknowledged, wanted %d", got, acked)
	}
	_, err = l.handle(t.Context(), anew)
	must(t, err)
	if got := w.adam.acknowledged(); got != anew[0].Seq-1 || w.adam.waitingIn(both) != n {
		t.Errorf("%d is acknowledged, wanted %d; %d wait, wanted %d", got, anew[0].Seq-1, w.adam.waitingIn(both), n)
	}
}

func TestNoMoreThanAWindowWaits(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, _ := onlyRoom(t, p.bob)
	core := p.alice.unsent(t, id, "x")
	b := p.bob.newBatch(context.Background())
	kept := 0
	for seq := range uint64(2 * wire.DeliverWindow) {
		if b.wait(&pb.Deliver{Seq: seq + 1, Envelope: &pb.Envelope{Core: core, Seq: seq + 10}}) {
			kept++
		}
	}
	must(t, b.commit(2*wire.DeliverWindow))
	if kept != wire.DeliverWindow || p.bob.waitingIn(id) != kept {
		t.Errorf("%d wait, wanted %d", kept, wire.DeliverWindow)
	}
}

// What follows in a room's order waits for what waits there, although it could be taken by
// itself; nothing else does.
func TestOnlyWhatFollowsInARoomWaitsWithWhatWaits(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, _ := onlyRoom(t, p.bob)
	said := func(seq uint64, kind pb.Kind, room wire.RoomID) *pb.Deliver {
		core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: kind, Room: room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte("x")})
		must(t, err)
		return &pb.Deliver{Seq: seq, Envelope: &pb.Envelope{Core: core}}
	}
	b := p.bob.newBatch(t.Context())
	b.wait(said(5, pb.Kind_KIND_RESULT, id))
	for name, c := range map[string]struct {
		x    *pb.Deliver
		gone bool
		want bool
	}{
		"a result after it":     {said(6, pb.Kind_KIND_RESULT, id), false, true},
		"an end after it":       {&pb.Deliver{Seq: 6, Ended: &pb.Ended{Room: id[:]}}, false, true},
		"itself":                {said(5, pb.Kind_KIND_RESULT, id), false, false},
		"before it":             {said(4, pb.Kind_KIND_RESULT, id), false, false},
		"another room":          {said(6, pb.Kind_KIND_RESULT, wire.RoomID{1}), false, false},
		"a notice of the room":  {said(6, pb.Kind_KIND_NOTICE, id), false, false},
		"after one that is not": {said(6, pb.Kind_KIND_RESULT, id), true, false},
	} {
		if got := b.comesAfter(c.x, func(uint64) bool { return c.gone }); got != c.want {
			t.Errorf("%s: waits %v", name, got)
		}
	}
}

// refuser is a home node that hands on what a partner answers to a question for certificates.
type refuser struct {
	ententev1connect.DeviceServiceClient
	of   wire.OrganizationID
	code pb.Code
}

func (f *refuser) Chain(ctx context.Context, r *connect.Request[pb.ChainRequest]) (*connect.Response[pb.ChainResponse], error) {
	if string(r.Msg.Organization) == string(f.of[:]) {
		return nil, &wire.StatusError{Status: wire.Status(f.code, "not now")}
	}
	return f.DeviceServiceClient.Chain(ctx, r)
}

// Whatever a partner answers to who asks it for certificates, only what needs them waits.
func TestAPartnerHoldsUpNoOtherRoomByWhatItAnswers(t *testing.T) {
	w, both, _ := parted(t, defaultBucket, 0)
	ds := lying(t, w.adam, w.adam.mark(), 5)
	honest := w.adam.home.Device
	for _, code := range []pb.Code{pb.Code_CODE_RATE_LIMITED, pb.Code_CODE_INTERNAL, pb.Code_CODE_SHUTTING_DOWN, pb.Code_CODE_FULL} {
		w.adam.home.Device = &refuser{honest, w.claire.account.Organization, code}
		if _, err := w.adam.handle(t.Context(), ds, nothing); err != nil || w.adam.waitingIn(both) < 3 {
			t.Fatalf("%s: %d wait, %v", wire.CodeName(code), w.adam.waitingIn(both), err)
		}
	}
	var shown []Shown
	shown = append(shown, shownNew(t, w.adam)...)
	if got := texts(shown); !slices.Equal(got, []string{"before", "to the office"}) {
		t.Errorf("adam reads %q", got)
	}
	w.adam.home.Device = honest
	w.hooli.start()
	eventually(t, "the room goes on", func() error {
		_, err := w.adam.handle(t.Context(), ds, nothing)
		if n := w.adam.waitingIn(both); err == nil && n > 0 {
			err = fmt.Errorf("%d wait", n)
		}
		return err
	})
	shown = append(shown, shownNew(t, w.adam)...)
	if got := texts(shown); !slices.Equal(got, []string{"before", "to the office", "one", "two"}) {
		t.Errorf("adam reads %q", got)
	}
}
