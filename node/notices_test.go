package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
)

// rows counts what is still to be told.
func (s *site) toldRows() int {
	s.t.Helper()
	count := 0
	must(s.t, eachTold(s.store, func(_ uint64, row *toldRow) {
		if row == nil {
			s.t.Error("a row that does not parse")
		}
		count++
	}))
	return count
}

// notices fetches a client's inbox and returns the notices in it; everything that it
// fetched is acknowledged when ack is set.
func (c *client) notices(ack bool) []*notice.Notice {
	c.t.Helper()
	entries, err := c.home.mail.Fetch(c.t.Context(), c.id, 0, 1_000, 16<<20)
	must(c.t, err)
	var out []*notice.Notice
	through := uint64(0)
	for _, e := range entries {
		must(c.t, e.Err)
		through = e.Seq
		core, err := wire.ParseCore(e.Envelope.Core)
		must(c.t, err)
		if core.Kind != pb.Kind_KIND_NOTICE {
			continue
		}
		said, err := notice.Parse(string(core.Body), c.home.org.ID, c.home.statementKey)
		must(c.t, err)
		out = append(out, said)
	}
	if ack {
		must(c.t, c.home.mail.Ack(c.t.Context(), c.id, mailbox.Acked{Through: through}))
	}
	return out
}

// acksEach acknowledges one envelope after the other, each for itself.
func (c *client) acksEach() int {
	c.t.Helper()
	entries, err := c.home.mail.Fetch(c.t.Context(), c.id, 0, 1_000, 16<<20)
	must(c.t, err)
	for _, e := range entries {
		must(c.t, c.home.mail.Ack(c.t.Context(), c.id, mailbox.Acked{Through: e.Seq}))
	}
	return len(entries)
}

// eventually waits for what the node does by itself.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// says sends texts of alice's into the world's room.
func (w *world) says(n int) {
	w.t.Helper()
	for range n {
		if st := w.alice.submit(w.alice.message(w.room, "hello")); st.Code != pb.Code_CODE_SEQUENCED {
			w.t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
}

func TestNoticesOfALargerRoomAreGatheredAndCauseNone(t *testing.T) {
	w := newWorld(t)
	w.alice.acksEach()
	w.bob.acksEach()
	w.says(5)
	begun := time.Now()
	if n := w.bob.acksEach(); n != 5 {
		t.Fatalf("bob got %d envelopes", n)
	}
	var said []*notice.Notice
	eventually(t, "a notice", func() bool { said = w.alice.notices(false); return len(said) > 0 && w.acme.toldRows() == 0 })
	if waited := time.Since(begun); waited < wire.NoticeGather {
		t.Errorf("the first notice came after %s", waited)
	}
	total := 0
	for _, n := range said {
		for _, r := range n.Ranges {
			total += len(r.Handles)
			if r.State != notice.StateAcknowledged || r.Member != w.bob.member || r.To-r.From+1 != uint64(len(r.Handles)) {
				t.Errorf("range %+v", r)
			}
		}
	}
	// Slow machines may acknowledge over more than one gathering, never one by one.
	if total != 5 || len(said) > 4 || time.Since(begun) < 2*time.Second && len(said) != 1 {
		t.Errorf("%d notices tell of %d envelopes", len(said), total)
	}
	w.alice.notices(true) // acknowledging notices is nothing to be told of
	if n := w.acme.toldRows(); n != 0 {
		t.Errorf("%d notices about notices", n)
	}
	if u := w.acme.mail.Usage(w.bob.id); u.Control != 0 {
		t.Errorf("bob is told something: %+v", u)
	}
}

// tells hands events to notify as a removal would, and returns the rows and the
// notices that it makes.
func (w *world) tells(events ...mailbox.Event) (rows, notices int) {
	w.t.Helper()
	var b store.Batch
	before := w.acme.told.last.Load()
	clear(w.acme.told.lately)
	staged, err := w.acme.notify(w.t.Context(), &b, events)
	must(w.t, err)
	for _, s := range staged {
		s.Done(false)
	}
	return int(w.acme.told.last.Load() - before), len(staged)
}

func TestRoomsOfManyMembersHearOnlyOfWhatDidNotArrive(t *testing.T) {
	w := newWorld(t)
	number, err := w.acme.numbers.of(w.alice.id)
	must(t, err)
	event := func(s mailbox.State) mailbox.Event {
		return mailbox.Event{State: s, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION, Item: pb.ItemKind_ITEM_KIND_FANOUT,
			Room: w.room, Epoch: 1, Seq: 2, Return: w.acme.handles.seal(number, 1), Device: w.bob.id}
	}
	for _, c := range []struct {
		members       uint32
		state         mailbox.State
		rows, notices int
	}{
		{2, mailbox.StateAcknowledged, 0, 1}, {2, mailbox.StateExpired, 0, 1}, // two people: at once
		{3, mailbox.StateAcknowledged, 1, 0}, {wire.NoticeRoom, mailbox.StateAcknowledged, 1, 0}, {wire.NoticeRoom, mailbox.StateUnreadable, 1, 0},
		{wire.NoticeRoom + 1, mailbox.StateAcknowledged, 0, 0}, {wire.NoticeRoom + 1, mailbox.StateUnreadable, 0, 0},
		{wire.NoticeRoom + 1, mailbox.StateExpired, 1, 0}, {wire.NoticeRoom + 1, mailbox.StateRefused, 1, 0},
	} {
		w.acme.rooms.entry(w.room).count.Store(c.members)
		if rows, notices := w.tells(event(c.state)); rows != c.rows || notices != c.notices {
			t.Errorf("%d members, %s: %d rows and %d notices, want %d and %d", c.members, c.state, rows, notices, c.rows, c.notices)
		}
	}
	twice := event(mailbox.StateExpired)
	w.acme.rooms.entry(w.room).count.Store(2)
	if _, notices := w.tells(twice, twice, event(mailbox.StateAcknowledged)); notices != 1 {
		t.Errorf("one batch makes %d notices", notices)
	}
}

func TestABurstInARoomOfTwoSharesANotice(t *testing.T) {
	w := newWorld(t)
	w.alice.acksEach()
	w.bob.acksEach()
	w.acme.rooms.entry(w.room).count.Store(2)
	w.says(20)
	clear(w.acme.told.lately)
	begun := time.Now()
	if n := w.bob.acksEach(); n != 20 {
		t.Fatalf("bob got %d envelopes", n)
	}
	if said := w.alice.notices(false); len(said) == 0 || said[0].Ranges[0].From != said[0].Ranges[0].To {
		t.Fatalf("the first was not told of at once, for itself: %+v", said)
	}
	told := func(said []*notice.Notice) (total int) {
		for _, n := range said {
			for _, r := range n.Ranges {
				total += len(r.Handles)
			}
		}
		return total
	}
	var said []*notice.Notice
	eventually(t, "the others", func() bool { said = w.alice.notices(false); return told(said) >= 20 })
	if total := told(said); total != 20 || len(said) > 2+2*int(time.Since(begun)/wire.NoticeGather) {
		t.Errorf("%d notices tell of %d envelopes", len(said), total)
	}
}

// reopen opens a halted site again, without running it, and closes it with the test.
func (s *site) reopen(acceptLoss bool) {
	s.t.Helper()
	n, err := Open(s.t.Context(), Options{Dir: s.dir, Passphrase: worldPass, AcceptLoss: acceptLoss})
	must(s.t, err)
	s.Node, s.halt = n, func() {
		s.halt = func() {}
		must(s.t, n.Close())
	}
}

func TestARoomsSizeIsKnownAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.acme.halt()
	w.acme.reopen(false)
	if n := w.acme.rooms.size(w.room); n != 3 {
		t.Errorf("the room of three has %d members", n)
	}
	if got := w.acme.partnerMembers(w.room, w.globex.org.ID); !slices.Equal(got, []wire.MemberID{w.pat.member}) {
		t.Errorf("the partner's members in it are %v", got)
	}
}

func TestARecoveringNodeSignsNothingAndTellsWhatWaitedAfterwards(t *testing.T) {
	w := newWorld(t)
	w.alice.acksEach()
	w.bob.acksEach()
	w.says(3)
	link, err := w.acme.addMember(t.Context(), &pb.AddMemberRequest{Name: "dave"})
	must(t, err)
	invited, err := w.acme.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "initech.example", Contact: "open"})
	must(t, err)
	w.acme.halt()
	w.acme.reopen(false) // begins a segment, which is then lost
	must(t, func() error {
		var b store.Batch
		b.Put([]byte("nd/test"), []byte("lost"))
		_, err := w.acme.store.Commit(t.Context(), &b)
		return err
	}())
	w.acme.halt()
	segments, err := filepath.Glob(filepath.Join(w.acme.dir, StoreFolder, "log", "*.seg"))
	must(t, err)
	slices.Sort(segments)
	must(t, os.Remove(segments[len(segments)-1]))

	w.acme.reopen(false)
	if !w.acme.recovering() {
		t.Fatal("the node does not know that it has lost records")
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || wire.StatusOf(err).Code != pb.Code_CODE_RECOVERING {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx := t.Context()
	_, err = w.acme.invitePartner(ctx, &pb.InvitePartnerRequest{Name: "hooli.example", Contact: "open"})
	refused("an invitation", err)
	_, err = w.acme.fed.Accept(ctx, invited.Token)
	refused("an agreement", err)
	_, err = w.acme.addMember(ctx, &pb.AddMemberRequest{Name: "erin"})
	refused("a member", err)
	_, err = w.acme.enroll(ctx, &pb.EnrollRequest{})
	refused("an enrolment", err)
	_, err = w.acme.claimLocal(ctx, w.globex.org.ID, &pb.ClaimQuery{Member: w.bob.member[:]})
	refused("a KeyPackage", err)
	_, err = operatorAPI{w.acme.Node}.DisableDevice(ctx, connect.NewRequest(&pb.DisableDeviceRequest{DeviceId: w.bob.id.String()}))
	if err == nil {
		t.Error("a revocation was signed")
	}
	if st := w.alice.submit(w.alice.message(w.room, "no place")); st.Code != pb.Code_CODE_RECOVERING {
		t.Errorf("a message: %s", wire.CodeName(st.Code))
	}
	if n := w.bob.acksEach(); n != 3 { // what is there is served and destroyed
		t.Errorf("bob got %d envelopes", n)
	}
	w.acme.rooms.entry(w.room).count.Store(2) // at once in other times
	w.says3Expired()
	if more, err := w.acme.tellDue(ctx); more || err != nil {
		t.Errorf("telling: %v, %v", more, err)
	}
	waiting := w.acme.toldRows()
	if waiting == 0 || len(w.alice.notices(false)) != 0 {
		t.Fatalf("%d rows wait; alice got %d notices", waiting, len(w.alice.notices(false)))
	}

	w.acme.halt()
	w.acme.reopen(true)
	eventually(t, "what waited is told", func() bool {
		_, err := w.acme.tellDue(ctx)
		must(t, err)
		return w.acme.toldRows() == 0
	})
	if said := w.alice.notices(false); len(said) != 1 {
		t.Errorf("alice got %d notices", len(said))
	}
	links, err := w.acme.Node.dir.Links()
	must(t, err)
	for _, l := range links {
		if l.State == "open" {
			t.Errorf("the link for %s (%s) from before the loss can be used", l.Name, link.LinkId)
		}
	}
}

// says3Expired tells of three of alice's messages that nobody fetched.
func (w *world) says3Expired() {
	w.t.Helper()
	number, err := w.acme.numbers.of(w.alice.id)
	must(w.t, err)
	var events []mailbox.Event
	for seq := uint64(2); seq < 5; seq++ {
		events = append(events, mailbox.Event{State: mailbox.StateExpired, Class: pb.Class_CLASS_MESSAGE, Item: pb.ItemKind_ITEM_KIND_FANOUT,
			Room: w.room, Epoch: 1, Seq: seq, Return: w.acme.handles.seal(number, seq), Device: w.bob.id})
	}
	var b store.Batch
	staged, err := w.acme.notify(context.Background(), &b, events)
	if err = errors.Join(err, func() error { _, err := w.acme.store.Commit(context.Background(), &b); return err }()); err != nil || len(staged) > 0 {
		w.t.Fatalf("%d notices are staged while recovering, %v", len(staged), err)
	}
}
