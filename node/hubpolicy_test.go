package node

import (
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// changes submits a Commit of a client's that replaces the room's extensions.
func changes(by func(*world) *client, edit func(w *world, list []mls.Extension) []mls.Extension) func(*world) *pb.Status {
	return func(w *world) *pb.Status {
		c := by(w)
		list := slices.Clone(c.state.Extensions())
		b, _ := c.commit(c.state, group.CommitParams{Extensions: edit(w, list)})
		return c.hand(w.room, c.state.Epoch(), b)
	}
}

func alice(w *world) *client { return w.alice }
func bob(w *world) *client   { return w.bob }

// redescribed changes the room extension.
func redescribed(edit func(w *world, r *wire.Room)) func(*world, []mls.Extension) []mls.Extension {
	return func(w *world, list []mls.Extension) []mls.Extension {
		r, err := wire.ParseRoom(list[0].Data)
		must(w.t, err)
		edit(w, &r)
		list[0].Data, err = r.Encode()
		must(w.t, err)
		return list
	}
}

// recast changes the roles, and the digest of them when it fits.
func recast(fits bool, edit func(w *world, r wire.Roles) wire.Roles) func(*world, []mls.Extension) []mls.Extension {
	return func(w *world, list []mls.Extension) []mls.Extension {
		last := len(list) - 1
		r, err := wire.ParseRoles(list[last].Data)
		must(w.t, err)
		list[last].Data, err = edit(w, r).Encode()
		must(w.t, err)
		if !fits {
			return list
		}
		return redescribed(func(_ *world, r *wire.Room) { r.Roles = wire.RolesDigest(list[last].Data) })(w, list)
	}
}

// TestNobodyChangesWhatARoomIs: not even its administrator changes who orders it,
// and nobody makes themselves one.
func TestNobodyChangesWhatARoomIs(t *testing.T) {
	w := newWorld(t)
	admin := func(w *world, r wire.Roles) wire.Roles {
		return r.With(w.bob.cred.Organization, w.bob.member, wire.RoleAdmin)
	}
	runHubCases(t, w, []hubCase{
		{"another hub", forbidden, "keeps its ID", changes(alice, redescribed(func(w *world, r *wire.Room) { r.Hub = w.globex.org.ID[:] }))},
		{"another hub node", forbidden, "keeps its ID", changes(alice, redescribed(func(w *world, r *wire.Room) { r.HubNode = w.globex.peer[:] }))},
		{"another ID", forbidden, "keeps its ID", changes(alice, redescribed(func(_ *world, r *wire.Room) { r.ID = make([]byte, 32) }))},
		{"another generation", forbidden, "keeps its ID", changes(alice, redescribed(func(_ *world, r *wire.Room) { r.Generation++ }))},
		{"another transit", forbidden, "keeps its versions", changes(alice, redescribed(func(_ *world, r *wire.Room) { r.Transit = "any" }))},
		{"another external sender", invalidCommit, "may not change", changes(alice, func(w *world, list []mls.Extension) []mls.Extension {
			list[2] = mls.ExternalSendersExtension([]mls.ExternalSender{{SignatureKey: w.alice.id[:], Credential: w.alice.credential()}})
			return list
		})},
		{"no external sender", invalidCommit, "", changes(alice, func(_ *world, list []mls.Extension) []mls.Extension { return slices.Delete(list, 2, 3) })},
		{"two required capabilities for the external sender", invalidCommit, "", changes(alice, func(_ *world, list []mls.Extension) []mls.Extension {
			list[2] = list[1]
			return list
		})},
		{"two descriptions for the external sender", invalidCommit, "", changes(alice, func(_ *world, list []mls.Extension) []mls.Extension {
			list[2] = list[0]
			return list
		})},
		{"one more extension", invalidCommit, "", changes(alice, func(_ *world, list []mls.Extension) []mls.Extension {
			return append(list, mls.Extension{Type: mls.ExtensionApplicationID, Data: []byte("x")})
		})},
		{"no description", invalidCommit, "", changes(alice, func(_ *world, list []mls.Extension) []mls.Extension { return list[1:] })},
		{"a member makes itself administrator", forbidden, "changes nothing", changes(bob, recast(true, admin))},
		{"roles that the description does not name", invalidCommit, "digest", changes(alice, recast(false, admin))},
		{"a member ends the room", forbidden, "changes nothing", changes(bob, redescribed(func(_ *world, r *wire.Room) { r.Ended = true }))},
		{"a member lengthens its deadlines", forbidden, "changes nothing", changes(bob, redescribed(func(_ *world, r *wire.Room) { r.DeadlineMax *= 2 }))},
		{"a member takes an organization off", forbidden, "takes no organization off", changes(bob, redescribed(func(w *world, r *wire.Room) {
			r.Organizations = slices.DeleteFunc(r.Organizations, func(o wire.RoomMember) bool { return string(o.Organization) == string(w.globex.org.ID[:]) })
		}))},
		{"a member removes another", forbidden, "removes nobody", func(w *world) *pb.Status {
			b, _ := w.bob.commit(w.bob.state, group.CommitParams{Removes: []mls.LeafIndex{w.pat.state.OwnLeaf()}})
			return w.bob.hand(w.room, 1, b)
		}},
		{"a member proposes to remove another", forbidden, "removes nobody", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 1, w.proposeRemove(w.bob, w.pat, "")))
		}},
	})
}
