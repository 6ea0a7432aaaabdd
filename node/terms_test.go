package node

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func to[T any](v T) *T { return &v }

const noAgreement = pb.Code_CODE_NO_AGREEMENT

// creates has alice make a room with these clients, as the extensions say.
func (w *world) creates(edit func([]mls.Extension) []mls.Extension, with ...*client) *pb.Status {
	w.t.Helper()
	var id wire.RoomID
	rand.Read(id[:])
	list := extensionsOf(w.t, w.acme, roomExtension(w.acme, id, w.acme, w.globex))
	if edit != nil {
		list = edit(list)
	}
	request, states := w.creationWith(id, wire.GroupID(id, 0), list, with...)
	st := w.acme.createRoom(w.t.Context(), w.alice.id, request)
	if wire.ClassOf(st.Code) == wire.Success {
		w.room = id
		for c, s := range states {
			c.state = s
		}
	}
	return st
}

// withGuest makes a room of more than two whose administrator is alice, with a guest.
func (w *world) withGuest(guest *client) func([]mls.Extension) []mls.Extension {
	return func(list []mls.Extension) []mls.Extension {
		roles, err := wire.Roles{Invite: wire.RoleMember}.With(w.alice.cred.Organization, w.alice.member, wire.RoleAdmin).
			With(guest.cred.Organization, guest.member, wire.RoleGuest).Encode()
		must(w.t, err)
		r, err := wire.ParseRoom(list[0].Data)
		must(w.t, err)
		r.Roles = wire.RolesDigest(roles)
		list[0].Data, err = r.Encode()
		must(w.t, err)
		return append(list, mls.Extension{Type: mls.ExtensionRoles, Data: roles})
	}
}

func (w *world) asks(q *pb.QueryRequest) *pb.Status {
	return w.acme.Query(w.t.Context(), w.globex.org.ID, q).Status
}

func (w *world) looksUp() *pb.Status {
	return w.asks(&pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "bob"}}})
}

func (w *world) claimsBob() *pb.Status {
	return w.asks(&pb.QueryRequest{Query: &pb.QueryRequest_Claim{Claim: &pb.ClaimQuery{Member: w.bob.member[:], Requester: w.pat.member[:]}}})
}

// TestEveryTermHoldsAtTheHub: each row is a term, what somebody tries, and the answer.
func TestEveryTermHoldsAtTheHub(t *testing.T) {
	sequenced, ok := pb.Code_CODE_SEQUENCED, pb.Code_CODE_OK
	for _, c := range []struct {
		name  string
		terms *pb.TermsChange
		code  pb.Code
		says  string
		try   func(w *world) *pb.Status
	}{
		{"rooms: three people", &pb.TermsChange{Rooms: to(false)}, noAgreement, "rooms of two people only",
			func(w *world) *pb.Status { return w.creates(nil, w.bob, w.pat) }},
		{"rooms: two people", &pb.TermsChange{Rooms: to(false)}, sequenced, "", func(w *world) *pb.Status { return w.creates(nil, w.pat) }},
		{"guests: one of theirs", &pb.TermsChange{Guests: to(false)}, noAgreement, "allows no guests",
			func(w *world) *pb.Status { return w.creates(w.withGuest(w.pat), w.pat) }},
		{"guests: one of ours beside them", &pb.TermsChange{Guests: to(false)}, noAgreement, "allows no guests",
			func(w *world) *pb.Status { return w.creates(w.withGuest(w.bob), w.bob) }},
		{"guests: allowed", nil, sequenced, "", func(w *world) *pb.Status { return w.creates(w.withGuest(w.pat), w.pat) }},
		{"directory none: their look-up", &pb.TermsChange{Directory: to("none")}, noAgreement, "no look-ups", (*world).looksUp},
		{"directory none: our look-up", &pb.TermsChange{Directory: to("none")}, noAgreement, "no look-ups", func(w *world) *pb.Status {
			_, err := w.acme.resolve(w.t.Context(), w.alice.id, "pat@globex.example")
			return wire.StatusOf(err)
		}},
		{"directory none: certificates of somebody whose ID is known", &pb.TermsChange{Directory: to("none")}, ok, "", func(w *world) *pb.Status {
			return w.asks(&pb.QueryRequest{Query: &pb.QueryRequest_Chain{Chain: &pb.ChainQuery{Member: w.bob.member[:]}}})
		}},
		{"directory exact", nil, ok, "", (*world).looksUp},
		{"contact request", &pb.TermsChange{Contact: to("request")}, pb.Code_CODE_PENDING_CONSENT, "", (*world).claimsBob},
		{"files: none", &pb.TermsChange{FileSize: to(uint64(0))}, ok, "", func(w *world) *pb.Status {
			if limit, err := w.acme.fileLimit(w.globex.org.ID); err != nil || limit != 0 {
				w.t.Errorf("files of %d bytes: %v", limit, err)
			}
			return wire.Status(ok, "")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorldOn(t, c.terms)
			if st := c.try(w); st.Code != c.code || !strings.Contains(st.Detail, c.says) {
				t.Errorf("answered %s %q, want %s %q", wire.CodeName(st.Code), st.Detail, wire.CodeName(c.code), c.says)
			}
		})
	}
}

// within reports whether a deadline is at most so far ahead, rounded up to a bucket.
func within(t *testing.T, what string, deadline time.Time, d time.Duration) {
	t.Helper()
	if ahead := time.Until(deadline); deadline.IsZero() || ahead > d+wire.DefaultBucket || ahead < d/2 {
		t.Errorf("%s is kept for %s, want %s", what, ahead, d)
	}
}

func TestNoRoomIsMadeAfterTheLastDay(t *testing.T) {
	w := newWorldOn(t, &pb.TermsChange{ValidUntilUnix: to(time.Now().Add(6 * time.Second).Unix())})
	eventually(w.t, "the agreement's last second", func() bool { _, err := w.acme.fed.InForce(w.globex.org.ID, time.Now()); return err != nil })
	for what, st := range map[string]*pb.Status{"a room": w.creates(nil, w.pat), "a look-up of ours": wire.StatusOf(func() error {
		_, err := w.acme.resolve(t.Context(), w.alice.id, "pat@globex.example")
		return err
	}())} {
		if st.Code != noAgreement {
			t.Errorf("%s: %s %s", what, wire.CodeName(st.Code), st.Detail)
		}
	}
}

func TestAnAgreementsRetentionShortensWhatIsKeptAtTheHub(t *testing.T) {
	w := newWorldOn(t, &pb.TermsChange{RetentionSeconds: to(int64(3600))})
	if st := w.creates(nil, w.bob, w.pat); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatal(st)
	}
	w.bob.acksEach()
	long := func(c *pb.EnvelopeCore) { c.Deadline = time.Now().Add(48 * time.Hour).Unix() }
	if st := w.alice.submit(w.alice.message(w.room, "asks for two days", long)); st.Code != pb.Code_CODE_SEQUENCED {
		t.Fatal(st)
	}
	within(t, "a message to both, for bob", w.acme.mail.Usage(w.bob.id).Earliest, time.Hour) // the room's own 2 h is looser
}

func TestEveryTermHoldsWhereAnotherOrganizationOrdersTheRoom(t *testing.T) {
	f := newFollowingOn(t, &pb.TermsChange{Rooms: to(false), RetentionSeconds: to(int64(3 * 3600))})
	refused := f.welcome(&pb.Bundle{Tree: []byte("tree"), Welcome: []byte("welcome")}, f.bob)
	refused.Members = 3
	f.refuses(t, []itemCase{{"a Welcome into a room of three", noAgreement, "rooms of two people only", f.globex, func() *pb.Item { return refused }}})
	f.alice.acksEach()
	long := f.entry(func(_ *pb.Item, c *pb.EnvelopeCore) { c.Deadline = time.Now().Add(48 * time.Hour).Unix() })
	if st := f.deliver(f.globex, f.next(long)); st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatal(st)
	}
	within(t, "a message of theirs", f.acme.mail.Usage(f.alice.id).Earliest, 3*time.Hour)
	f.alice.state, f.pat.state = f.pat.state, f.alice.state
	st := f.alice.submit(encoded(t, &pb.EnvelopeCore{Version: 1, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION, Room: f.room[:], Epoch: 1,
		Deadline: time.Now().Add(48 * time.Hour).Unix(), Body: []byte("ciphertext")}))
	if st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatal(st)
	}
	within(t, "a message of ours, on its way to their hub", f.acme.mail.Outbox(f.globex.org.ID).Usage().Earliest, 3*time.Hour)
}
