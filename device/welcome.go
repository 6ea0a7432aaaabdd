package device

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// welcome joins a room (docs/protocol.md 7.2).
func (b *batch) welcome(core *pb.EnvelopeCore) error {
	var body pb.WelcomeBody
	if err := proto.Unmarshal(core.Body, &body); err != nil {
		return err
	}
	id := wire.RoomID(core.Room)
	if r := b.room(id); r != nil && r.state != nil && !r.Ended {
		if core.Generation <= r.Generation {
			return nil // delivered again
		}
		return b.resetWelcome(r, core, &body)
	}
	secrets, err := b.d.secretsFor(body.Welcome)
	if err != nil {
		return err
	}
	var info *group.JoinInfo
	r := &room{ID: id, Generation: core.Generation, Hub: wire.OrganizationID(body.Hub)}
	tree, err := call(b.ctx, b.d.home.Device.GetTree, &pb.GetTreeRequest{Hub: body.Hub, Room: core.Room, Hash: body.TreeHash})
	var st *wire.StatusError
	if errors.As(err, &st) && st.Status.Code == pb.Code_CODE_UNKNOWN_ROOM {
		b.invitedInVain(id)
		return nil
	}
	if err != nil {
		return err
	}
	b.d.prefetchTree(b.ctx, suiteOf(body.Welcome), tree.Tree)
	err = b.d.withChains(b.ctx, func() (err error) {
		r.state, info, err = group.Join(b.d.config(), body.Welcome, tree.Tree, secrets)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.check(r.state); err != nil {
		return err
	}
	if err := b.d.checkHub(b.ctx, r); err != nil {
		return err
	}
	inviter, err := policy.CredentialOf(r.state.Public().Member(info.Inviter))
	if err != nil {
		return err
	}
	rules, err := policy.Of(r.state.Extensions())
	if err != nil {
		return err
	}
	by := memberKey{inviter.Organization, inviter.Member}
	if _, yes := b.d.blocked.of(by); yes && by != b.d.ownKey() {
		b.refuseInvitation(r, by)
		return nil
	}
	if err := b.d.mayJoin(r, rules); err != nil {
		return err
	}
	if rules.Roles == nil {
		r.Peer = r.otherThan(b.d.ownKey())
		r.Invited = by == r.Peer
	}
	met := r.Peer != (memberKey{}) && b.d.roomWith(r.Peer) != nil // people have a room with each other already
	b.rooms[id], b.joined, b.renew = r, true, true
	b.touch(id)
	if !info.LastResort {
		b.writes = append(b.writes, func(t *txn) error { return t.deleteState(append([]byte(kpPrefix), secrets.Ref...)) })
	}
	if met {
		return nil
	}
	b.show(Shown{Event: "room", State: "joined", Room: id.String(), From: b.d.nameOf(by), Own: by == b.d.ownKey(), Count: len(r.people()), At: b.d.now()})
	return nil
}

// check compares the group's room extension with what the hub says the room is.
func (r *room) check(s *group.State) error {
	raw, ok := mls.FindExtension(s.Extensions(), mls.ExtensionRoom)
	if !ok {
		return errors.New("device: a group without a room extension")
	}
	ext, err := wire.ParseRoom(raw)
	if err != nil {
		return err
	}
	if wire.RoomID(ext.ID) != r.ID || ext.Generation != r.Generation || wire.OrganizationID(ext.Hub) != r.Hub ||
		string(s.GroupID()) != string(wire.GroupID(r.ID, r.Generation)) {
		return errors.New("device: a group of another room, generation or hub")
	}
	if err := policy.CheckSuite(ext.SuiteFloor, s.Public().Suite().ID); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	return nil
}

// secretsFor finds the KeyPackage of ours that a Welcome is for.
func (d *Device) secretsFor(welcome []byte) (*group.KeyPackageSecrets, error) {
	refs, err := mls.WelcomeRefs(welcome)
	if err != nil {
		return nil, err
	}
	var raw []byte
	err = d.vault.view(func(t *txn) error {
		for _, ref := range refs {
			if v, err := t.state(append([]byte(kpPrefix), ref...)); err == nil {
				raw = v
				return nil
			}
		}
		return errNoKeys
	})
	if err != nil {
		return nil, err
	}
	return group.UnmarshalKeyPackageSecrets(raw)
}
