package node

import (
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// complained is a room after a Commit of alice's that nobody can apply and the complaints of
// bob and pat. A reset may be made at once.
func complained(t *testing.T) (w *world, commit []byte, notes []string) {
	t.Helper()
	w = newWorld(t)
	w.acme.config.ResetAfter = 0
	commit = w.breaks().Commit
	for _, c := range []*client{w.bob, w.pat} {
		note := c.complaint(w, commit)
		if st := c.complains(w, note); wire.ClassOf(st.Code) != wire.Success {
			t.Fatalf("%s complains: %s %s", c.name, wire.CodeName(st.Code), st.Detail)
		}
		notes = append(notes, note)
	}
	return w, commit, notes
}

// a renewal is a reset as a client would make it, before a test changes it.
type renewal struct {
	w          *world
	by         *client
	generation uint32
	extensions []mls.Extension
	with       []*client
	notes      []string
	edit       func(*pb.SubmitCommitRequest)
}

// renewed is an honest reset by a client who is still in the epoch before alice's Commit.
func (c *client) renewed(w *world, notes []string, with ...*client) *renewal {
	c.t.Helper()
	extensions, err := policy.BaseOf(c.state.Public()).Next(seatOf(authorOf(w.alice.cred)))
	must(c.t, err)
	return &renewal{w: w, by: c, generation: 1, extensions: extensions, with: with, notes: notes, edit: func(*pb.SubmitCommitRequest) {}}
}

// request makes it, and everybody's state after it.
func (r *renewal) request() (*pb.SubmitCommitRequest, map[*client]*group.State) {
	r.by.t.Helper()
	zero, err := group.Create(r.by.config(), group.CreateParams{Suite: mls.SuiteX25519AES128, GroupID: wire.GroupID(r.w.room, r.generation),
		Credential: r.by.credential(), Extensions: r.extensions})
	must(r.by.t, err)
	info, err := zero.GroupInfo(false)
	must(r.by.t, err)
	b, states := r.by.add(zero, r.with...)
	b.Founding = &pb.Founding{GroupInfo: info, Tree: zero.Tree(), Complaints: r.notes}
	q := &pb.SubmitCommitRequest{Room: r.w.room[:], Generation: r.generation, Bundle: b}
	r.edit(q)
	return q, states
}

// hand submits it as a device of the hub's organization.
func (r *renewal) hand() *pb.Status {
	q, _ := r.request()
	r.by.counter++
	q.Counter = r.by.counter
	return r.by.home.submitCommit(r.by.t.Context(), r.by.id, q)
}

// role changes the roles of a renewal.
func (r *renewal) role(edit func(*policy.Rules)) *renewal {
	rules, err := policy.Of(r.extensions)
	must(r.by.t, err)
	edit(&rules)
	roles, err := rules.Roles.Encode()
	must(r.by.t, err)
	rules.Room.Roles = wire.RolesDigest(roles)
	description, err := rules.Room.Encode()
	must(r.by.t, err)
	for i, e := range r.extensions {
		switch e.Type {
		case mls.ExtensionRoom:
			r.extensions[i].Data = description
		case mls.ExtensionRoles:
			r.extensions[i].Data = roles
		}
	}
	return r
}

func TestAResetThatIsNotJustifiedOrMakesAnotherRoomIsRefused(t *testing.T) {
	w, commit, notes := complained(t)
	honest := func() *renewal { return w.bob.renewed(w, notes, w.pat) }
	with := func(f func(*renewal)) func(*world) *pb.Status {
		return func(*world) *pb.Status { r := honest(); f(r); return r.hand() }
	}
	for _, c := range []hubCase{
		{"without complaints", malformed, "0 complaints", with(func(r *renewal) { r.notes = nil })},
		{"with one complaint of two", malformed, "confirms", with(func(r *renewal) { r.notes = notes[:1] })},
		{"with one complaint twice", forbidden, "not made here", with(func(r *renewal) { r.notes = []string{notes[0], notes[0]} })},
		{"with a complaint that was not made here", forbidden, "not made here", with(func(r *renewal) { r.notes = []string{notes[0], w.carol.complaint(w, commit)} })},
		{"with a complaint that does not stand", malformed, "stand", with(func(r *renewal) { r.notes = []string{strings.Replace(notes[0], "epoch 1", "epoch 2", 1), notes[1]} })},
		{"into the generation after the next", unknownRoom, "", with(func(r *renewal) { r.generation = 2 })},
		{"by the accused", forbidden, "another device", func(w *world) *pb.Status {
			r := honest()
			q, _ := r.request()
			w.alice.counter++
			q.Counter = w.alice.counter
			return w.acme.submitCommit(t.Context(), w.alice.id, q)
		}},
		{"by the accused in their own name", forbidden, "accused", func(w *world) *pb.Status {
			r := honest()
			r.by, r.with = w.alice, []*client{w.bob, w.pat}
			return r.hand()
		}},
		{"by one who was not in the room", forbidden, "not in this room", func(w *world) *pb.Status {
			r := honest()
			r.by, r.with = w.carol, []*client{w.bob, w.pat}
			return r.hand()
		}},
		{"with the accused", forbidden, "was not in the room", with(func(r *renewal) { r.with = []*client{w.pat, w.alice} })},
		{"with a stranger", forbidden, "was not in the room", with(func(r *renewal) { r.with = []*client{w.pat, w.carol} })},
		{"without somebody who is not accused", forbidden, "leaves out", with(func(r *renewal) { r.with = nil })},
		{"with its maker as a guest", forbidden, "other rules", with(func(r *renewal) {
			r.role(func(p *policy.Rules) {
				*p.Roles = p.Roles.With(w.bob.cred.Organization, w.bob.member, wire.RoleGuest).With(w.pat.cred.Organization, w.pat.member, wire.RoleAdmin)
			})
		})},
		{"with another administrator", forbidden, "other rules", with(func(r *renewal) {
			r.role(func(p *policy.Rules) {
				*p.Roles = p.Roles.With(w.alice.cred.Organization, w.alice.member, wire.RoleAdmin)
			})
		})},
		{"with longer deadlines", forbidden, "other rules", with(func(r *renewal) { r.role(func(p *policy.Rules) { p.Room.DeadlineMax++ }) })},
		{"with other organizations", forbidden, "other rules", with(func(r *renewal) {
			r.role(func(p *policy.Rules) { p.Room.Organizations[0].Agreement = make([]byte, 32) })
		})},
		{"with an extension less", forbidden, "other extensions", with(func(r *renewal) { r.extensions = r.extensions[:1] })},
		{"whose Welcome leaves somebody out", invalidCommit, "Welcome", with(func(r *renewal) { r.edit = func(q *pb.SubmitCommitRequest) { q.Bundle.Welcome = nil } })},
		{"with the GroupInfo of another Commit", invalidCommit, "do not belong", with(func(r *renewal) {
			r.edit = func(q *pb.SubmitCommitRequest) { q.Bundle.GroupInfo = q.Bundle.Founding.GroupInfo }
		})},
		{"as a Commit of this generation", pb.Code_CODE_EXISTS, "another device", with(func(r *renewal) {
			r.edit = func(q *pb.SubmitCommitRequest) { q.Generation = 0 }
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.acme.t = t
			w.acme.refuses(w.room, c.code, c.says, func() *pb.Status { return c.f(w) })
		})
	}
	w.acme.t = t
	if st := honest().hand(); st.Code != sequenced {
		t.Fatalf("an honest reset: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}

func TestOneMembersComplaintResetsOnlyARoomThatStandsStill(t *testing.T) {
	w := newWorld(t)
	commit := w.breaks().Commit
	note := w.bob.complaint(w, commit)
	if st := w.bob.complains(w, note); st.Code != accepted {
		t.Fatal(st)
	}
	r := w.bob.renewed(w, []string{note}, w.pat)
	w.acme.config.ResetAfter = time.Hour
	w.acme.refuses(w.room, forbidden, "no other member has confirmed", r.hand)
	w.acme.config.ResetAfter = 0
	if k := w.open(); !k[0].Due {
		t.Fatalf("nobody has committed for so long: %v", k)
	}
	if st := r.hand(); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
}

func TestARoomGoesOnInItsNextGenerationAndTheOneBeforeIsOver(t *testing.T) {
	w, commit, notes := complained(t)
	at, _ := w.acme.shown(w.room)
	late := w.bob.message(w.room, "said before the reset")
	r := w.bob.renewed(w, notes, w.pat)
	q, states := r.request()
	w.bob.counter++
	q.Counter = w.bob.counter
	if st := w.acme.submitCommit(t.Context(), w.bob.id, q); st.Code != sequenced || st.Seq != at.seq+1 || st.Epoch != 1 {
		t.Fatalf("%s %s at %d, epoch %d", wire.CodeName(st.Code), st.Detail, st.Seq, st.Epoch)
	}
	if st := w.acme.submitCommit(t.Context(), w.bob.id, q); st.Code != sequenced {
		t.Errorf("the same again: %s", wire.CodeName(st.Code))
	}
	t.Run("a second reset is too late", func(t *testing.T) {
		w.acme.refuses(w.room, pb.Code_CODE_EXISTS, "", func() *pb.Status { return w.bob.renewed(w, notes, w.pat).hand() })
	})
	t.Run("what was said before is said again", func(t *testing.T) {
		w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { return w.bob.submit(late) })
	})
	t.Run("complaints of before are over", func(t *testing.T) {
		w.acme.refuses(w.room, notFound, "generation", func() *pb.Status { return w.bob.complains(w, w.bob.complaint(w, commit)) })
		if k := w.open(); len(k) != 0 {
			t.Errorf("open: %v", k)
		}
	})
	t.Run("and justify no further reset", func(t *testing.T) {
		r := w.bob.renewed(w, notes, w.pat)
		r.generation = 2
		w.acme.refuses(w.room, forbidden, "nobody has complained", r.hand)
	})
	t.Run("the accused is out", func(t *testing.T) {
		own := w.alice.state.OwnLeaf()
		st := w.alice.hand(w.room, 1, w.resync(w.bob, &own))
		if wire.ClassOf(st.Code) == wire.Success {
			t.Errorf("alice comes back: %s", wire.CodeName(st.Code))
		}
	})
	t.Run("the others go on, also after a restart", func(t *testing.T) {
		w.acme.halt()
		w.acme.start()
		w.pat.knownTo(w.acme)
		w.bob.state = states[w.bob]
		if st := w.bob.submit(w.bob.message(w.room, "after it", func(c *pb.EnvelopeCore) { c.Generation = 1 })); st.Code != sequenced || st.Seq != at.seq+2 {
			t.Errorf("%s %s at %d", wire.CodeName(st.Code), st.Detail, st.Seq)
		}
		b, _ := w.bob.commit(w.bob.state, group.CommitParams{})
		w.bob.counter++
		st := w.acme.submitCommit(t.Context(), w.bob.id, &pb.SubmitCommitRequest{Counter: w.bob.counter, Room: w.room[:], Generation: 1, Epoch: 1, Bundle: proto.CloneOf(b)})
		if st.Code != sequenced || st.Epoch != 2 {
			t.Errorf("%s %s, epoch %d", wire.CodeName(st.Code), st.Detail, st.Epoch)
		}
	})
	log, err := w.acme.roomLogFor(t.Context(), w.acme.org.ID, &pb.RoomLogQuery{Room: w.room[:], Generation: 0})
	must(t, err)
	next, err := w.acme.roomLogFor(t.Context(), w.acme.org.ID, &pb.RoomLogQuery{Room: w.room[:], Generation: 1, FromEpoch: 1})
	must(t, err)
	if len(log.Handshakes) != 2 || len(next.Handshakes) != 1 {
		t.Errorf("the room's log has %d handshakes of the first generation, %d of the second", len(log.Handshakes), len(next.Handshakes))
	}
}
