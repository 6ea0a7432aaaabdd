package node

import (
	"crypto/rand"
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// A createCase is a request for a new room that the hub has to refuse: extensions
// of the group that it is made with, and what is changed about the request.
type createCase struct {
	name       string
	code       pb.Code
	says       string
	extensions func(list []mls.Extension, r wire.Room) []mls.Extension
	edit       func(q *pb.CreateRoomRequest, zero *group.State)
}

// described has the room extension say something else.
func (w *world) described(edit func(r *wire.Room)) func([]mls.Extension, wire.Room) []mls.Extension {
	return func(_ []mls.Extension, r wire.Room) []mls.Extension {
		edit(&r)
		list := extensionsOf(w.t, w.acme, r)
		return list
	}
}

func (w *world) refusesCreation(t *testing.T, c createCase) {
	t.Helper()
	var id wire.RoomID
	rand.Read(id[:])
	r := roomExtension(w.acme, id, w.acme, w.globex)
	extensions := extensionsOf(t, w.acme, r)
	if c.extensions != nil {
		extensions = c.extensions(extensions, r)
	}
	zero, err := group.Create(w.alice.config(), group.CreateParams{Suite: mls.SuiteX25519AES128, GroupID: wire.GroupID(id, 0),
		Credential: w.alice.credential(), Extensions: extensions})
	must(t, err)
	info, err := zero.GroupInfo(false)
	must(t, err)
	b, _ := w.alice.add(zero, w.bob)
	q := &pb.CreateRoomRequest{Room: id[:], GroupInfo: info, Tree: zero.Tree(), Bundle: b}
	if c.edit != nil {
		c.edit(q, zero)
	}
	w.acme.refuses(id, c.code, c.says, func() *pb.Status { return w.acme.createRoom(t.Context(), w.alice.id, q) })
}

func TestARoomThatIsDescribedWronglyIsNotMade(t *testing.T) {
	const another = "another room or hub"
	w := newWorld(t)
	external := func(list ...mls.ExternalSender) func([]mls.Extension, wire.Room) []mls.Extension {
		return func(have []mls.Extension, _ wire.Room) []mls.Extension {
			have[2] = mls.ExternalSendersExtension(list)
			return have
		}
	}
	hub := mls.ExternalSender{SignatureKey: w.acme.org.Manifest.Hub,
		Credential: mls.Credential{Type: mls.CredentialEntente, Identity: wire.Credential{Organization: w.acme.org.ID}.Encode()}}
	alice := mls.ExternalSender{SignatureKey: w.alice.id[:], Credential: w.alice.credential()}
	impostor := hub
	impostor.Credential = w.alice.credential()
	for _, c := range []createCase{
		{"no description", invalidCommit, "", func(list []mls.Extension, _ wire.Room) []mls.Extension { return list[1:] }, nil},
		{"noise for a description", invalidCommit, "extension", func(list []mls.Extension, _ wire.Room) []mls.Extension {
			list[0].Data = []byte{1, 0xa0}
			return list
		}, nil},
		{"another room", invalidCommit, another, w.described(func(r *wire.Room) { r.ID = make([]byte, 32) }), nil},
		{"another generation", invalidCommit, another, w.described(func(r *wire.Room) { r.Generation = 1 }), nil},
		{"another hub", invalidCommit, another, w.described(func(r *wire.Room) { r.Hub = w.globex.org.ID[:] }), nil},
		{"a floor above its cipher suite", invalidCommit, "cipher suite", w.described(func(r *wire.Room) { r.SuiteFloor = uint32(mls.SuiteXWingChaCha20) }), nil},
		{"an unknown floor", invalidCommit, "floor", w.described(func(r *wire.Room) { r.SuiteFloor = 9 }), nil},
		{"another hub node", invalidCommit, another, w.described(func(r *wire.Room) { r.HubNode = w.globex.peer[:] }), nil},
		{"an organization without an agreement", pb.Code_CODE_NO_AGREEMENT, "", w.described(func(r *wire.Room) {
			last := r.Organizations[1].Organization
			r.Organizations = append(r.Organizations, wire.RoomMember{Organization: append(make([]byte, 0, 32), last...)})
			r.Organizations[2].Organization[31]++
			if last[31] == 0xff {
				r.Organizations[2].Organization[0]++
			}
		}), nil},
		{"no external sender", invalidCommit, "external sender", func(list []mls.Extension, _ wire.Room) []mls.Extension { return list[:2] }, nil},
		{"the creator as external sender", invalidCommit, "external sender", external(alice), nil},
		{"the creator as a second external sender", invalidCommit, "external sender", external(hub, alice), nil},
		{"the hub twice", invalidCommit, "external sender", external(hub, hub), nil},
		{"the hub's key under another name", invalidCommit, "external sender", external(impostor), nil},
		{"nobody as external sender", invalidCommit, "external sender", external(), nil},
	} {
		t.Run(c.name, func(t *testing.T) { w.refusesCreation(t, c) })
	}
	w.takes()
}

func TestARoomThatDoesNotBeginWithItsCreatorAloneIsNotMade(t *testing.T) {
	const alone = "creator alone"
	w := newWorld(t)
	context := func(zero *group.State, q *pb.CreateRoomRequest, edit func(*mls.GroupInfo)) {
		m, err := mls.ParseMessage(q.GroupInfo)
		must(t, err)
		edit(m.GroupInfo)
		must(t, m.GroupInfo.Sign(zero.Public().Suite(), w.alice.key))
		q.GroupInfo = m.GroupInfo.Encode()
	}
	for _, c := range []createCase{
		{"at epoch 1", invalidCommit, alone, nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.GroupInfo, q.Tree = q.Bundle.GroupInfo, q.Bundle.Tree }},
		{"at an epoch 7 of its own", invalidCommit, alone, nil, func(q *pb.CreateRoomRequest, zero *group.State) {
			context(zero, q, func(g *mls.GroupInfo) { g.Context.Epoch = 7 })
		}},
		{"with two leaves", invalidCommit, alone, nil, func(q *pb.CreateRoomRequest, zero *group.State) {
			tree := zero.Public().RatchetTree().Copy()
			_, err := tree.Add(w.adds(w.bob).Proposal.Add.Leaf)
			must(t, err)
			q.Tree = tree.Encode()
			context(zero, q, func(g *mls.GroupInfo) { g.Context.TreeHash = tree.Hash() })
		}},
		{"with another's leaf", invalidCommit, alone, nil, func(q *pb.CreateRoomRequest, zero *group.State) {
			tree := mls.NewTree(zero.Public().Suite(), w.adds(w.bob).Proposal.Add.Leaf)
			m, err := mls.ParseMessage(q.GroupInfo)
			must(t, err)
			m.GroupInfo.Context.TreeHash = tree.Hash()
			must(t, m.GroupInfo.Sign(zero.Public().Suite(), w.bob.key))
			q.GroupInfo, q.Tree = m.GroupInfo.Encode(), tree.Encode()
		}},
		{"with another tree", invalidCommit, "", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.Tree = q.Bundle.Tree }},
		{"without a tree", invalidCommit, "", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.Tree = nil }},
		{"without a GroupInfo", invalidCommit, "", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.GroupInfo = nil }},
		{"with an unsigned GroupInfo", invalidCommit, "", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.GroupInfo[len(q.GroupInfo)-1] ^= 1 }},
		{"under another group ID", invalidCommit, "group ID", nil, func(q *pb.CreateRoomRequest, zero *group.State) {
			context(zero, q, func(g *mls.GroupInfo) { g.Context.GroupID = []byte("a group") })
		}},
		{"under another generation", invalidCommit, "group ID", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.Generation = 1 }},
		{"half a room ID", malformed, "room ID", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.Room = q.Room[:31] }},
		{"without its first Commit", malformed, "needs its GroupInfo", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.Bundle = nil }},
		{"with a first Commit without a path", invalidCommit, "path", nil, func(q *pb.CreateRoomRequest, zero *group.State) {
			q.Bundle.Commit = w.alice.forge(zero, q.Bundle.Commit, func(m *mls.Content) { m.Commit.Path = nil })
		}},
		{"with a first Commit of another room", invalidCommit, "another group", nil, func(q *pb.CreateRoomRequest, _ *group.State) {
			q.Bundle, _ = w.alice.commit(w.alice.state, group.CommitParams{})
		}},
		{"with a second Commit for the first", wrongEpoch, "", nil, func(q *pb.CreateRoomRequest, zero *group.State) {
			_, next := w.alice.commit(zero, group.CommitParams{})
			q.Bundle, _ = w.alice.commit(next, group.CommitParams{})
		}},
		{"with a GroupInfo over its limit", tooLarge, "GroupInfo", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.GroupInfo = make([]byte, wire.MaxWelcome+1) }},
		{"with a tree over its limit", tooLarge, "tree", nil, func(q *pb.CreateRoomRequest, _ *group.State) { q.Tree = make([]byte, wire.MaxTree+1) }},
		{"with a Welcome for nobody", invalidCommit, "for 0 devices", nil, func(q *pb.CreateRoomRequest, _ *group.State) {
			q.Bundle.Welcome = edited(w, q.Bundle.Welcome, func(m *mls.Welcome) { m.Secrets = nil })
		}},
	} {
		t.Run(c.name, func(t *testing.T) { w.refusesCreation(t, c) })
	}
	w.takes()
}

func TestARoomIsMadeOnceAndByItsCreator(t *testing.T) {
	w := newWorld(t)
	var id wire.RoomID
	rand.Read(id[:])
	q, states := w.creation(id, w.bob)
	stranger := wire.DeviceID{7}
	w.acme.refuses(id, invalidCommit, "creator alone", func() *pb.Status { return w.acme.createRoom(t.Context(), w.bob.id, q) })
	w.acme.refuses(id, pb.Code_CODE_REVOKED, "", func() *pb.Status { return w.acme.createRoom(t.Context(), w.pat.id, q) })
	w.acme.refuses(id, pb.Code_CODE_REVOKED, "", func() *pb.Status { return w.acme.createRoom(t.Context(), stranger, q) })
	first := w.acme.createRoom(t.Context(), w.alice.id, q)
	if first.Code != sequenced || first.Seq != 1 || first.Epoch != 1 {
		t.Fatalf("%s %s at %d, epoch %d", wire.CodeName(first.Code), first.Detail, first.Seq, first.Epoch)
	}
	again := func() *pb.Status { return w.acme.createRoom(t.Context(), w.alice.id, proto.CloneOf(q)) }
	if st := w.acme.refuses(id, sequenced, "", again); !proto.Equal(st, first) {
		t.Errorf("asked again: %v, the first answer was %v", st, first)
	}
	b, _ := w.alice.commit(states[w.alice], group.CommitParams{})
	if st := w.alice.hand(id, 1, b); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	if st := w.acme.refuses(id, sequenced, "", again); !proto.Equal(st, first) {
		t.Errorf("asked again in epoch 2: %v, the first answer was %v", st, first)
	}
	other, _ := w.creation(id, w.bob)
	w.acme.refuses(id, pb.Code_CODE_EXISTS, "", func() *pb.Status { return w.acme.createRoom(t.Context(), w.alice.id, other) })
	w.acme.refuses(id, pb.Code_CODE_EXISTS, "", func() *pb.Status { return w.acme.createRoom(t.Context(), w.bob.id, q) })
	other, _ = w.creation(w.room, w.bob)
	w.acme.refuses(w.room, pb.Code_CODE_EXISTS, "", func() *pb.Status { return w.acme.createRoom(t.Context(), w.alice.id, other) })
	w.takes()
}
