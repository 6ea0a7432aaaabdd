package node

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// invites submits what a change makes of an alice's Commit that adds clients.
func invites(edit func(w *world, b *pb.Bundle), with ...func(*world) *client) func(*world) *pb.Status {
	return func(w *world) *pb.Status {
		var list []*client
		for _, f := range with {
			list = append(list, f(w))
		}
		b, _ := w.alice.add(w.alice.state, list...)
		edit(w, b)
		return w.alice.hand(w.room, w.alice.state.Epoch(), b)
	}
}

func carol(w *world) *client { return w.carol }
func quinn(w *world) *client { return w.quinn }

// welcomeOf is the Welcome of another Commit of alice's that adds clients.
func welcomeOf(w *world, with ...*client) []byte {
	b, _ := w.alice.add(w.alice.state, with...)
	return b.Welcome
}

// edited changes a Welcome, which nothing signs.
func edited(w *world, welcome []byte, edit func(*mls.Welcome)) []byte {
	w.t.Helper()
	m, err := mls.ParseMessage(welcome)
	must(w.t, err)
	edit(m.Welcome)
	return m.Welcome.Encode()
}

func TestAWelcomeThatIsNotForThoseWhoAreAddedIsRefused(t *testing.T) {
	w := newWorld(t)
	runHubCases(t, w, []hubCase{
		{"none", invalidCommit, "without a Welcome", invites(func(_ *world, b *pb.Bundle) { b.Welcome = nil }, carol)},
		{"for somebody else", invalidCommit, "leaves out", invites(func(w *world, b *pb.Bundle) { b.Welcome = welcomeOf(w, w.quinn) }, carol)},
		{"for another KeyPackage of the device", invalidCommit, "leaves out", invites(func(w *world, b *pb.Bundle) { b.Welcome = welcomeOf(w, w.carol) }, carol)},
		{"for one of two", invalidCommit, "for 1 devices", invites(func(w *world, b *pb.Bundle) {
			b.Welcome = edited(w, b.Welcome, func(m *mls.Welcome) { m.Secrets = m.Secrets[:1] })
		}, carol, quinn)},
		{"for one of two twice", invalidCommit, "where 2 are added", invites(func(w *world, b *pb.Bundle) {
			b.Welcome = edited(w, b.Welcome, func(m *mls.Welcome) { m.Secrets[1] = m.Secrets[0] })
		}, carol, quinn)},
		{"for one more", invalidCommit, "for 2 devices", invites(func(w *world, b *pb.Bundle) {
			b.Welcome = edited(w, b.Welcome, func(m *mls.Welcome) {
				more := slices.Clone(m.Secrets)
				more[0].NewMember = make([]byte, 32)
				m.Secrets = append(m.Secrets, more[0])
			})
		}, carol)},
		{"for nobody", invalidCommit, "for 0 devices", invites(func(w *world, b *pb.Bundle) {
			b.Welcome = edited(w, b.Welcome, func(m *mls.Welcome) { m.Secrets = nil })
		}, carol)},
		{"of another suite", invalidCommit, "does not stand", invites(func(w *world, b *pb.Bundle) {
			b.Welcome = edited(w, b.Welcome, func(m *mls.Welcome) { m.Suite = mls.SuiteX25519ChaCha20 })
		}, carol)},
		{"that is a Commit", invalidCommit, "does not stand", invites(func(_ *world, b *pb.Bundle) { b.Welcome = b.Commit }, carol)},
		{"with a byte more", invalidCommit, "does not stand", invites(func(_ *world, b *pb.Bundle) { b.Welcome = append(b.Welcome, 0) }, carol)},
		{"with a Commit that adds nobody", invalidCommit, "adds nobody", hands(func(w *world, b *pb.Bundle) { b.Welcome = welcomeOf(w, w.carol) })},
		{"with a resync", invalidCommit, "adds nobody", func(w *world) *pb.Status {
			leaf := w.bob.state.OwnLeaf()
			b := w.resync(w.bob, &leaf)
			b.Welcome = welcomeOf(w, w.carol)
			return w.bob.hand(w.room, w.alice.state.Epoch(), b)
		}},
	})
	b, _ := w.alice.add(w.alice.state, w.carol, w.quinn)
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
		t.Errorf("an honest invitation: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	if got := w.acme.mail.Usage(w.carol.id).Control; got != 1 {
		t.Errorf("carol has %d Welcomes", got)
	}
}

func TestNobodyOfAnOrganizationThatTheRoomDoesNotListIsAdded(t *testing.T) {
	w := newWorld(t)
	var own wire.RoomID
	rand.Read(own[:])
	extensions := withAdmin(t, extensionsOf(t, w.acme, roomExtension(w.acme, own, w.acme)), w.alice)
	with, _ := w.creationWith(own, wire.GroupID(own, 0), extensions, w.pat)
	w.acme.refuses(own, forbidden, "does not list", func() *pb.Status { return w.acme.createRoom(t.Context(), w.alice.id, with) })
	alone, states := w.creationWith(own, wire.GroupID(own, 0), extensions, w.bob)
	if st := w.acme.createRoom(t.Context(), w.alice.id, alone); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	later, _ := w.alice.add(states[w.alice], w.pat)
	w.acme.refuses(own, forbidden, "does not list", func() *pb.Status { return w.alice.hand(own, 1, later) })
	b, _ := w.alice.commit(states[w.alice], group.CommitParams{})
	if st := w.alice.hand(own, 1, b); st.Code != sequenced {
		t.Errorf("an honest Commit afterwards: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}
