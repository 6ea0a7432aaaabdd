package node

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// ordered is a hub whose room a partner follows: alice, bob and pat of globex.
func newOrdered(t *testing.T) *world {
	t.Helper()
	sites := newLinked(t, "acme.example", "globex.example")
	w := &world{t: t, acme: sites[0], globex: sites[1]}
	w.alice, w.bob, w.carol = w.acme.client("alice"), w.acme.client("bob"), w.acme.client("carol")
	w.pat, w.quinn = w.globex.client("pat").knownTo(w.acme), w.globex.client("quinn").knownTo(w.acme)
	rand.Read(w.room[:])
	request, states := w.creation(w.room, w.bob, w.pat)
	if st := w.acme.createRoom(t.Context(), w.alice.id, request); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatalf("an honest room: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	for c, s := range states {
		c.state = s
	}
	w.globex.follows(w.acme)
	return w
}

// speaks has a client's message sequenced, waits until globex has it, and returns its place.
func (w *world) speaks(c *client, text string) uint64 {
	w.t.Helper()
	var st *pb.Status
	eventually(w.t, "a message is sequenced", func() bool {
		st = c.submit(c.message(w.room, text))
		return st.Code == pb.Code_CODE_SEQUENCED
	})
	w.arrives(st.Seq)
	return st.Seq
}

func (w *world) arrives(seq uint64) {
	w.t.Helper()
	eventually(w.t, "the partner has the entry", func() bool {
		at, _ := w.globex.shown(w.room)
		return at.seq >= seq
	})
}

// restored puts acme back to a copy.
func (w *world) restored(backup string) {
	w.t.Helper()
	w.acme.halt()
	w.acme.setBack(backup)
	w.acme.start()
}

func (w *world) backup() string {
	w.t.Helper()
	w.acme.halt()
	to := w.acme.kept()
	w.acme.start()
	return to
}

func TestAHubThatWasSetBackGivesNoPlaceOfARoomTwice(t *testing.T) {
	w := newOrdered(t)
	w.speaks(w.alice, "before")
	backup := w.backup()
	lost := w.speaks(w.alice, "truth one")
	w.restored(backup)
	if got := w.speaks(w.bob, "truth two"); got <= lost {
		t.Fatalf("place %d was given twice: %d again", lost, got)
	}
	w.speaks(w.alice, "and it goes on")
	if got := w.acme.problems(); len(got) == 0 {
		t.Error("node status does not say that anything was lost")
	}
}

func TestAHubThatWasSetBackTakesTheCommitsBackThatAPartnerHasKept(t *testing.T) {
	w := newOrdered(t)
	w.speaks(w.alice, "before")
	backup := w.backup()
	for range 2 {
		epoch := w.alice.state.Epoch()
		b, next := w.alice.commit(w.alice.state, group.CommitParams{})
		var st *pb.Status
		eventually(t, "a Commit is sequenced", func() bool {
			st = w.alice.hand(w.room, epoch, b)
			return st.Code == pb.Code_CODE_SEQUENCED
		})
		w.alice.state = next
		w.follow(w.bob, b.Commit)
		w.follow(w.pat, b.Commit)
		w.arrives(st.Seq)
	}
	lost := w.speaks(w.bob, "in epoch 3")
	w.restored(backup)
	if got := w.speaks(w.bob, "still in epoch 3"); got <= lost {
		t.Fatalf("place %d was given twice: %d again", lost, got)
	}
	w.acme.halt() // what was taken back is on disk
	w.acme.start()
	eventually(t, "partners were heard", func() bool { return w.acme.placesCalled() })
	w.takes()
}

func TestAPlaceThatOnlyThePartnersOwnMessageHadIsNotGivenTwice(t *testing.T) {
	w := newOrdered(t)
	w.speaks(w.alice, "before")
	backup := w.backup()
	w.pat.counter++
	st := w.globex.submit(t.Context(), w.pat.id, []ownSubmission{{counter: w.pat.counter, core: w.pat.message(w.room, "of pat's")}})[0]
	if st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	lost := uint64(0)
	eventually(t, "the hub has given it its place", func() bool {
		var err error
		lost, err = w.globex.top(w.room)
		must(t, err)
		return lost > 0
	})
	w.restored(backup)
	if got := w.speaks(w.alice, "two"); got <= lost {
		t.Fatalf("place %d was given twice: %d again", lost, got)
	}
}

func TestAPlaceThatADeviceHasSeenIsNotGivenTwice(t *testing.T) {
	w := newOrdered(t)
	backup := w.backup()
	w.globex.halt() // nobody else knows
	var lost uint64
	eventually(t, "sequenced", func() bool {
		st := w.alice.submit(w.alice.message(w.room, "one"))
		lost = st.Seq
		return st.Code == pb.Code_CODE_SEQUENCED
	})
	w.acme.halt()
	w.acme.setBack(backup)
	w.acme.startWith(Options{AcceptLoss: true}, func(*Config) {})
	began := time.Now()
	var st *pb.Status
	eventually(t, "sequenced", func() bool {
		st = w.alice.submit(w.alice.message(w.room, "two", func(c *pb.EnvelopeCore) { c.Seen = lost }))
		return st.Code == pb.Code_CODE_SEQUENCED
	})
	if st.Seq <= lost {
		t.Errorf("place %d was given twice: %d again", lost, st.Seq)
	}
	if took := time.Since(began); took > 2*startWait {
		t.Errorf("a partner that is gone was waited for %v", took)
	}
}

func TestWhatAPartnerSaysOfARoomLeadsNoFartherThanALeap(t *testing.T) {
	w := newOrdered(t)
	at := w.speaks(w.alice, "before")
	must(t, w.acme.hearPlace(t.Context(), w.globex.org.ID, &pb.KnownPlace{Room: w.room[:], Seq: at + maxLeap + 1, Hash: make([]byte, 32)}))
	must(t, w.acme.hearPlace(t.Context(), w.globex.org.ID, &pb.KnownPlace{Room: w.room[:], Seq: 1 << 63, Epoch: 1 << 63}))
	w.acme.settlePlaces(t.Context())
	if got := w.speaks(w.alice, "after"); got > at+2 {
		t.Errorf("place %d after %d", got, at)
	}
}

// behindBy has acme forget Commits that nobody else has kept, and returns the clients' epoch.
func (w *world) behindBy(commits int) uint64 {
	w.t.Helper()
	backup := w.backup()
	w.globex.halt()
	for range commits {
		epoch := w.alice.state.Epoch()
		b, next := w.alice.commit(w.alice.state, group.CommitParams{})
		eventually(w.t, "a Commit is sequenced", func() bool { return w.alice.hand(w.room, epoch, b).Code == pb.Code_CODE_SEQUENCED })
		w.alice.state = next
		w.follow(w.bob, b.Commit)
		w.follow(w.pat, b.Commit)
	}
	w.acme.halt()
	w.acme.setBack(backup)
	w.acme.startWith(Options{AcceptLoss: true}, func(*Config) {})
	w.pat.chain = nil
	w.pat.knownTo(w.acme) // whose node is away
	return w.alice.state.Epoch()
}

func (w *world) publishes(c *client, epoch uint64) *pb.Status {
	w.t.Helper()
	info, err := c.state.GroupInfo(true)
	must(w.t, err)
	return w.acme.publishGroupInfo(w.t.Context(), c.id, &pb.PublishGroupInfoRequest{Room: w.room[:], Epoch: epoch, GroupInfo: info})
}

func TestARoomWhoseCommitsNobodyHasKeptGoesOnFromWhatMostOfItsPeoplePublish(t *testing.T) {
	w := newOrdered(t)
	epoch := w.behindBy(2)
	if st := w.alice.submit(w.alice.message(w.room, "lost")); st.Code == pb.Code_CODE_SEQUENCED {
		t.Fatal("a message of an epoch that the hub does not know is sequenced")
	}
	for range 2 { // one member's word is not enough, however often
		if st := w.publishes(w.alice, epoch); st.Code != pb.Code_CODE_RECOVERING {
			t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
	if st := w.publishes(w.bob, epoch); st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	eventually(t, "the room goes on", func() bool {
		return w.bob.submit(w.bob.message(w.room, "here we are")).Code == pb.Code_CODE_SEQUENCED
	})
}

func TestAPartnersWordAndItsOwnMembersAreNotEnoughForALaterEpoch(t *testing.T) {
	w := newOrdered(t)
	c, err := w.acme.begin(w.room)
	must(t, err)
	next, now := c.room(w.room).group, time.Now()
	c.abandon()
	person := func(c *client, org wire.OrganizationID) policy.Person {
		return policy.Person{Organization: org, Member: c.member}
	}
	pat, bob := person(w.pat, w.globex.org.ID), person(w.bob, w.acme.org.ID)
	shown := map[wire.RoomID]shownEpoch{w.room: shownEpoch{}.with(knownPlace{by: w.globex.org.ID, epoch: next.Epoch()})}
	p := &placecall{epochs: shown, published: make(map[wire.RoomID]*published)}
	if p.publish(w.room, next, pat, 2, now) {
		t.Error("globex shows an epoch, its member publishes it, and the hub takes it")
	}
	if !p.publish(w.room, next, bob, 2, now) {
		t.Error("two of three people, of two organizations, are not enough")
	}
	p = &placecall{epochs: shown, published: make(map[wire.RoomID]*published)}
	if !p.publish(w.room, next, bob, 2, now) {
		t.Error("globex shows an epoch, a member of acme publishes it, and the hub waits for more")
	}
	p = &placecall{published: make(map[wire.RoomID]*published)}
	for i, want := range []bool{false, false, true} {
		if got := p.publish(w.room, next, policy.Person{Member: wire.MemberID{byte(i)}}, 3, now); got != want {
			t.Errorf("person %d of five: %t", i, got)
		}
	}
}

func TestAPartnersLogBringsBackNoCommitThatIsBarredHere(t *testing.T) {
	w := newOrdered(t)
	w.speaks(w.alice, "before")
	b, _ := w.pat.commit(w.pat.state, group.CommitParams{})
	core := encoded(t, &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT,
		Room: w.room[:], Epoch: w.pat.state.Epoch(), Body: b.Commit})
	at, _ := w.acme.shown(w.room)
	log := []*pb.Envelope{{Core: core, Seq: at.seq + 1, Previous: at.hash[:], AcceptedMs: at.accepted}}
	upheld := func(cases ...*roomCase) {
		c, err := w.acme.begin(w.room)
		must(t, err)
		must(t, c.putCase(c.room(w.room), &caseRow{Version: caseRowVersion, Cases: cases}))
		must(t, c.commit(t.Context()))
	}
	upheld(&roomCase{Accused: identity.Author{Organization: w.globex.org.ID, Member: w.pat.member, Device: w.pat.id}, Complaints: []heldComplaint{{}}})
	if n, err := w.acme.takeHandshakes(t.Context(), w.room, log); n != 0 || wire.StatusOf(err).Code != forbidden {
		t.Errorf("%d Commits of a device that others accuse are taken back: %v", n, err)
	}
	if now, _ := w.acme.shown(w.room); now != at {
		t.Errorf("the room went from %+v to %+v", at, now)
	}
	upheld()
	if n, err := w.acme.takeHandshakes(t.Context(), w.room, log); n != 1 || err != nil {
		t.Errorf("an honest one: %d, %v", n, err)
	}
}
