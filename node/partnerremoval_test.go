package node

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// leaving lists the devices that the hub has proposed to remove in this epoch, and holds each
// proposal against its note.
func (w *world) leaving(reason string) []removal {
	w.t.Helper()
	_, raw := w.acme.shown(w.room)
	g, err := mls.UnmarshalPublicGroup(raw, w.acme.rooms.options)
	must(w.t, err)
	list := removals(g)
	for _, r := range list {
		note, err := identity.VerifyPartnerRevocation(string(r.revocation), w.acme.org)
		must(w.t, err)
		who, err := policy.CredentialOf(g.Member(r.leaf))
		must(w.t, err)
		if !note.Covers(who.Organization, w.room, 0, g.Epoch()) || who.Organization != w.globex.org.ID || note.Reason != reason {
			w.t.Errorf("%s is proposed for removal by %+v in epoch %d", who.Device, note, g.Epoch())
		}
	}
	return list
}

// startIn runs the hub so much later, on a clock that its operator trusts.
func (s *site) startIn(later time.Duration) {
	s.t.Helper()
	s.halt()
	s.startWith(Options{Clock: aheadClock{later, time.Now()}}, func(*Config) {})
}

// swept has the hub look at its partners, as it does every minute.
func (s *site) swept() {
	s.t.Helper()
	_, err := s.removePartnersEverywhere(s.t.Context())
	must(s.t, err)
}

// commits has alice commit what waits.
func (w *world) commits() {
	w.t.Helper()
	w.catchUp(w.alice)
	b, next := w.alice.commit(w.alice.state, group.CommitParams{ByReference: true})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
		w.t.Fatalf("the Commit of what waits: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
}

func (w *world) devicesOf(org wire.OrganizationID) (n int) {
	for _, c := range w.acme.rooms.committed(w.room) {
		if c.Organization == org {
			n++
		}
	}
	return n
}

func TestASuspendedPartnersDevicesLeaveAfterADay(t *testing.T) {
	w := newWorld(t)
	must(t, w.acme.fed.Suspend(t.Context(), w.globex.org.ID, ""))
	w.acme.swept()
	for _, later := range []time.Duration{wire.RemovalDelay - time.Hour, wire.RemovalDelay + time.Minute} {
		if got := w.leaving("suspended"); len(got) != 0 {
			t.Fatalf("proposed before the day is over: %+v", got)
		}
		w.acme.startIn(later)
		if later < wire.RemovalDelay {
			w.acme.swept()
			must(t, w.acme.fed.Suspend(t.Context(), w.globex.org.ID, "")) // said again, it begins no other day
		}
	}
	eventually(t, "the hub takes pat out by itself", func() bool { return len(w.leaving("suspended")) == 1 })
	at, _ := w.acme.shown(w.room)
	w.acme.swept() // and once
	if now, _ := w.acme.shown(w.room); now != at {
		t.Errorf("a second look moved the room from %+v to %+v", at, now)
	}
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { // nobody keeps pat in
		b, _ := w.bob.commit(w.bob.state, group.CommitParams{})
		return w.bob.hand(w.room, 1, b)
	})
	w.commits()
	if n := w.devicesOf(w.globex.org.ID); n != 0 {
		t.Errorf("%d devices of globex are still there", n)
	}
	w.acme.swept()
	if len(w.leaving("suspended")) != 0 {
		t.Error("a removal waits that was done")
	}
}

func TestAPartnerThatIsResumedWithinADayStays(t *testing.T) {
	w := newWorld(t)
	for _, suspend := range []func(context.Context, wire.OrganizationID, string) error{w.acme.fed.Suspend, w.acme.fed.Expel} {
		must(t, suspend(t.Context(), w.globex.org.ID, ""))
		must(t, w.acme.fed.Resume(t.Context(), w.globex.org.ID, ""))
	}
	w.acme.startIn(2 * wire.RemovalDelay)
	w.acme.swept()
	must(t, w.acme.fed.Suspend(t.Context(), w.globex.org.ID, "")) // the day begins anew
	w.acme.swept()
	if got := w.leaving("suspended"); len(got) != 0 {
		t.Errorf("proposed: %+v", got)
	}
	w.commits()
	if w.devicesOf(w.globex.org.ID) != 1 {
		t.Error("pat is out")
	}
}

func TestAPartnerLeavesAtOnceByTheOperatorsWordAndWhenTheAgreementIsOver(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		do     func(*world)
	}{
		"suspended": {"suspended", func(w *world) {
			a, err := w.acme.changePartner(t.Context(), &pb.ChangePartnerRequest{Name: "globex.example"}, w.acme.fed.Expel)
			must(t, err)
			if a.Rooms != 1 || a.Partner.State != "suspended" {
				t.Errorf("%v", a)
			}
		}},
		"suspended before": {"suspended", func(w *world) {
			for _, change := range []string{"", "remove"} {
				_, err := operatorAPI{w.acme.Node}.SuspendPartner(t.Context(), connect.NewRequest(&pb.ChangePartnerRequest{Name: "globex.example", Remove: change != ""}))
				must(t, err)
			}
		}},
		"ended": {"ended", func(w *world) {
			_, err := w.acme.changePartner(t.Context(), &pb.ChangePartnerRequest{Name: "globex.example"}, w.acme.fed.End)
			must(t, err)
		}},
		"expired": {"expired", func(w *world) {
			w.acme.startIn(3 * time.Hour)
			w.acme.swept()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldUnder(t, &pb.TermsChange{ValidUntilUnix: to(time.Now().Add(2 * time.Hour).Unix())})
			c.do(w)
			if got := w.leaving(c.reason); len(got) != 1 || got[0].device != w.pat.id {
				t.Fatalf("proposed: %+v", got)
			}
			w.commits()
			if n := w.devicesOf(w.globex.org.ID); n != 0 {
				t.Errorf("%d devices of globex are still there", n)
			}
		})
	}
}

// TestAPartnersRemovalIsProposedAnewForEveryEpoch: the note of one epoch is no good in the
// next, so that nobody replays it once the agreement is resumed.
func TestAPartnersRemovalIsProposedAnewForEveryEpoch(t *testing.T) {
	w := newWorld(t)
	must(t, w.acme.fed.Expel(t.Context(), w.globex.org.ID, ""))
	w.acme.swept()
	leaf := w.bob.state.OwnLeaf()
	if st := w.bob.hand(w.room, 1, w.resync(w.bob, &leaf)); st.Code != sequenced {
		t.Fatalf("a resync: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	if got := w.leaving("suspended"); len(got) != 1 { // holds the note against the new epoch
		t.Fatalf("after a resync: %+v", got)
	}
	w.commits()
	if n := w.devicesOf(w.globex.org.ID); n != 0 {
		t.Errorf("%d devices of globex are still there", n)
	}
}

func TestManyDevicesOfAPartnerLeaveInSeveralCommits(t *testing.T) {
	w := newWorldOn(t, nil)
	w.globex.start()
	crowd := []*client{w.bob}
	for i := range wire.MaxProposalsByRef + 6 {
		crowd = append(crowd, w.globex.client(fmt.Sprintf("m%d", i)).knownTo(w.acme))
	}
	w.globex.halt()
	w.room[0] = 7
	q, states := w.creation(w.room, crowd...)
	if st := w.acme.createRoom(t.Context(), w.alice.id, q); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = states[w.alice]
	must(t, w.acme.fed.Expel(t.Context(), w.globex.org.ID, ""))
	w.acme.swept()
	for _, want := range []int{wire.MaxProposalsByRef, 6, 0} {
		if got := w.leaving("suspended"); len(got) != want {
			t.Fatalf("%d proposals wait, want %d", len(got), want)
		}
		if want > 0 {
			w.commits()
		}
	}
	if n := w.devicesOf(w.globex.org.ID); n != 0 {
		t.Errorf("%d devices of globex are still there", n)
	}
}

func TestNoPartnerRevokesAnOrganizationInARoomOfOurs(t *testing.T) {
	w := newWorld(t)
	keys, err := identity.OpenNodeKeys(filepath.Join(w.globex.dir, KeysFile), worldPass)
	must(t, err)
	key := wire.NoteKey{Owner: "globex.example/node", Public: w.globex.org.Manifest.Node, Private: keys.Node}
	said := func(by, about wire.OrganizationID) func(*world) *pb.Status {
		return func(w *world) *pb.Status {
			note, err := identity.PartnerRevocation{Organization: by, Partner: about, Room: w.room, Epoch: 1, Reason: "ended", Issued: time.Now()}.Sign(key)
			must(t, err)
			return w.deliver(&pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: encoded(t, &pb.EnvelopeCore{Version: 1,
				Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_REVOCATION, Room: w.room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte(note)})}})
		}
	}
	hooli := wire.OrganizationID{9}
	runHubCases(t, w, []hubCase{
		{"ours, by the partner", malformed, "", said(w.globex.org.ID, w.acme.org.ID)},
		{"a third one, by the partner", malformed, "", said(w.globex.org.ID, hooli)},
		{"a third one, as if by us", malformed, "", said(w.acme.org.ID, hooli)},
		{"the partner, as if by us", malformed, "", said(w.acme.org.ID, w.globex.org.ID)},
	})
	w.takes()
}

func TestANodeThatHasLostRecordsTakesNoPartnerOut(t *testing.T) {
	w := newWorld(t)
	must(t, w.acme.fed.Expel(t.Context(), w.globex.org.ID, ""))
	w.acme.adopting.ahead.Store(true)
	w.acme.swept()
	if len(w.leaving("suspended")) != 0 {
		t.Error("it has signed")
	}
}
