package device

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A device that comes back by external Commit encrypts to the key that a GroupInfo names, and
// no hub can see whether that is the group's (RFC 9420 §12.4.3.2). Where it is not, nobody
// can apply the Commit, and its maker has done nothing wrong: the complaint is about who has
// published the key (docs/protocol.md 7.10).

// whoseFault finds out who is at fault for an external Commit that this device cannot apply,
// before it complains. What the hub does not show leaves the complaint as it is.
func (d *Device) whoseFault(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	if !r.Accuse.External || r.Accuse.Reason != identity.ReasonCommit {
		return nil
	}
	began, err := d.beganWith(ctx, r)
	var a *pb.GetGroupInfoResponse
	if err == nil {
		a, err = call(ctx, d.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:], Commit: began})
	}
	if err != nil {
		if temporary(err) || ctx.Err() != nil {
			return err
		}
		return nil
	}
	by, ok := wrongKeyOf(r, a.Answer.GetGroupInfo())
	if !ok || by.Organization == d.account.Organization && by.Member == d.account.Member {
		return nil
	}
	if _, err := policy.BaseOf(r.state.Public()).Next(seatOf(by)); err != nil {
		return nil // nobody else would be left
	}
	return d.accusing(id, func(a *accusation) { a.Reason, a.Accused = identity.ReasonExternal, by })
}

// beganWith is the hash of the Commit that our epoch began with: one that we have applied, or,
// where we came in with it, the one that the hub's log has. What is said of it proves itself.
func (d *Device) beganWith(ctx context.Context, r *room) ([]byte, error) {
	if n := len(r.Steps); n > 0 && r.Steps[n-1].To == r.state.Epoch() {
		return r.Steps[n-1].Commit[:], nil
	}
	if r.state.Epoch() == 0 {
		return nil, errNotLogged
	}
	commit, err := d.commitOf(ctx, r, r.Generation, r.state.Epoch()-1)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(commit)
	return hash[:], nil
}

var errNotLogged = errors.New("device: the room's log does not have that Commit (any more)")

// commitOf is the Commit that has ended an epoch of a room, from the hub's log.
func (d *Device) commitOf(ctx context.Context, r *room, generation uint32, epoch uint64) ([]byte, error) {
	a, err := call(ctx, d.home.Device.GetRoomLog, &pb.GetRoomLogRequest{Hub: r.Hub[:], Room: r.ID[:], Generation: generation, FromEpoch: epoch})
	if err != nil {
		return nil, err
	}
	for _, env := range a.Handshakes {
		if core, err := wire.ParseCore(env.Core); err == nil && core.Kind == pb.Kind_KIND_COMMIT && core.Generation == generation && core.Epoch == epoch {
			return core.Body, nil
		}
	}
	return nil, errNotLogged
}

// wrongKeyOf reports whether a GroupInfo of the room's epoch names another external key than
// the group's, and who has signed it.
func wrongKeyOf(r *room, info []byte) (by identity.Author, wrong bool) {
	group := r.state.Public()
	if group.CheckGroupInfo(info, nil) != nil {
		return by, false
	}
	m, err := mls.ParseMessage(info)
	if err != nil || m.GroupInfo == nil {
		return by, false
	}
	own, err := r.state.GroupInfo(false)
	if err != nil {
		return by, false
	}
	o, err := mls.ParseMessage(own)
	if err != nil || o.GroupInfo == nil {
		return by, false
	}
	said, err := mls.ExternalPub(m.GroupInfo.Extensions)
	if err != nil {
		return by, false
	}
	is, err := mls.ExternalPub(o.GroupInfo.Extensions)
	if err != nil || bytes.Equal(said, is) {
		return by, false
	}
	leaf := group.Member(m.GroupInfo.Signer)
	if leaf == nil {
		return by, false
	}
	c, err := policy.CredentialOf(leaf)
	return identity.Author{Organization: c.Organization, Member: c.Member, Device: c.Device}, err == nil
}
