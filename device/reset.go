package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// A room's next generation: made by a device whose turn it is, joined by the others, and by
// each of them held against what they know of the room (docs/protocol.md 7.11).

// errWelcomeComes says that the room was reset and this device's invitation is on its way.
var errWelcomeComes = &wire.StatusError{Status: wire.Status(pb.Code_CODE_UNREACHABLE, "the room was reset; the invitation into its next generation is on the way")}

const foundPrefix = "found/" // state: the Founding of a reset of ours that waits for its answer

// resetInTurn makes a reset when it is our turn, and waits otherwise.
func (d *Device) resetInTurn(ctx context.Context, id wire.RoomID, k *pb.RoomCase) error {
	own := d.ID()
	turn := slices.IndexFunc(k.Order, func(r *pb.DeviceRef) bool { return string(r.Device) == string(own[:]) })
	if turn < 0 {
		return errWelcomeComes
	}
	if d.rooms[id].Accuse.Due.IsZero() {
		if err := d.accusing(id, func(a *accusation) { a.Due = d.now() }); err != nil {
			return err
		}
	}
	if d.now().Sub(d.rooms[id].Accuse.Due) < resetTurn(turn) {
		return errWelcomeComes
	}
	err := d.reset(ctx, id, k)
	if err == nil || ctx.Err() != nil || temporary(err) {
		return err
	}
	// Others may have what we lack, a KeyPackage or an agreement: their turn comes.
	b := d.newBatch(ctx)
	r := b.room(id)
	b.touch(id)
	b.show(Shown{Event: "room", State: "not reset", Room: id.String(), RoomName: r.Name, Reason: err.Error(), At: d.now()})
	return errors.Join(b.commit(d.mark()), errUndecided)
}

// reset makes the room's next generation and hands it over. What it needs is stored under a
// counter before it leaves, as any Commit; until the answer the room is stalled.
func (d *Device) reset(ctx context.Context, id wire.RoomID, k *pb.RoomCase) error {
	said, err := complaintsOf(k.Complaints, id, k.Generation)
	if err != nil {
		return err
	}
	r := *d.rooms[id]
	accused := seatOf(said[0].Accused)
	base, ok := r.baseAt(said[0].Epoch)
	if !ok {
		return d.dropAccusation(id)
	}
	extensions, err := base.Next(accused)
	if err != nil {
		return err
	}
	adds, err := d.claimStaying(ctx, &r, base, accused)
	if err != nil {
		return err
	}
	var zero *group.State
	var staged *group.Staged
	err = d.withChains(ctx, func() (err error) {
		zero, err = group.Create(d.config(), group.CreateParams{Suite: r.state.Public().Suite().ID, GroupID: wire.GroupID(id, r.Generation+1),
			Credential: d.credential(), Extensions: extensions})
		if err == nil {
			_, staged, err = zero.Stage(group.CommitParams{Adds: adds})
		}
		return err
	})
	if err != nil {
		return err
	}
	info, err := zero.GroupInfo(false)
	if err != nil {
		return err
	}
	found, err := proto.Marshal(&pb.Founding{GroupInfo: info, Tree: zero.Tree(), Complaints: attached(k.Complaints)})
	if err != nil {
		return err
	}
	zero.Erase()
	r.Why = whyReset(d, said)
	err = d.vault.update(func(t *txn) (err error) {
		if r.Committing, err = d.overtaking(t); err != nil {
			return err
		}
		r.Handed, r.Resetting = false, true
		return errors.Join(r.save(t), t.putState(roomKey("stage/", id), staged.Marshal()), t.putState(roomKey(foundPrefix, id), found))
	})
	if err != nil {
		return err
	}
	d.rooms[id] = &r
	failpoint("reset-staged")
	if err := d.submitStaged(ctx, id); err != nil {
		return err
	}
	return errUndecided
}

// attached are the complaints that come with a reset: the first ones.
func attached(notes []string) []string { return notes[:min(len(notes), wire.ResetComplaints)] }

// claimStaying gets KeyPackages of everybody who stays, our own other devices included.
// Who has no active device any more cannot be brought in.
func (d *Device) claimStaying(ctx context.Context, r *room, base policy.Base, accused policy.Seat) (adds [][]byte, err error) {
	own := policy.Person{Organization: d.account.Organization, Member: d.account.Member}
	for _, who := range base.Staying(accused) {
		k := memberKey{who.Organization, who.Member}
		if who == own {
			if m, err := d.self(ctx); err != nil || len(m.Devices) < 2 {
				continue
			}
		}
		list, err := d.claimBut(ctx, r, k, accused.Device, d.ID())
		if err != nil && (who == own || d.gone(ctx)(who)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("device: a reset without %s: %w", d.nameOf(k), err)
		}
		adds = append(adds, list...)
	}
	return adds, nil
}

// claimBut claims KeyPackages of a member's devices without some of them.
func (d *Device) claimBut(ctx context.Context, r *room, k memberKey, but ...wire.DeviceID) ([][]byte, error) {
	suite := r.state.Public().Suite().ID
	claimed, err := call(ctx, d.home.Device.ClaimKeyPackages, &pb.ClaimKeyPackagesRequest{Organization: k.Org[:], Member: k.Member[:], Room: r.ID[:], Suites: []uint32{uint32(suite)}})
	if err != nil {
		return nil, err
	}
	if m, err := d.learn(k.Org, claimed.Chain); err != nil || m.ID != k.Member {
		return nil, errors.Join(errors.New("device: KeyPackages with certificates that do not stand"), err)
	}
	left := slices.DeleteFunc(claimed.Packages, func(p *pb.ClaimedKeyPackage) bool {
		return slices.ContainsFunc(but, func(x wire.DeviceID) bool { return string(p.Device) == string(x[:]) })
	})
	return d.checkClaimed(left, k, suite)
}

// gone tells who has no active device any more, by certificates fetched now.
func (d *Device) gone(ctx context.Context) func(policy.Person) bool {
	return func(who policy.Person) bool {
		m, err := d.fetch(ctx, memberKey{who.Organization, who.Member})
		return err == nil && (m.Disabled || len(m.Devices) == 0)
	}
}

// complaintsOf verifies the complaints that a reset is made for: signed, and all about one
// Commit of one device in this generation.
func complaintsOf(notes []string, id wire.RoomID, generation uint32) ([]*identity.Complaint, error) {
	if len(notes) == 0 || len(notes) > wire.ComplaintsKept {
		return nil, fmt.Errorf("device: a reset with %d complaints", len(notes))
	}
	var out []*identity.Complaint
	for _, note := range notes {
		c, err := identity.VerifyComplaint(note)
		if err != nil {
			return nil, err
		}
		if c.Room != id || c.Generation != generation || len(out) > 0 && (c.Commit != out[0].Commit || c.Epoch != out[0].Epoch || c.Accused != out[0].Accused) {
			return nil, errors.New("device: complaints about another room, generation or Commit")
		}
		out = append(out, c)
	}
	return out, nil
}

// founding is the reset of ours that waits for an answer.
func (d *Device) founding(id wire.RoomID) (*pb.Founding, error) {
	var raw []byte
	err := d.vault.view(func(t *txn) (err error) { raw, err = t.state(roomKey(foundPrefix, id)); return err })
	if err != nil {
		return nil, err
	}
	f := &pb.Founding{}
	return f, proto.Unmarshal(raw, f)
}

// founded takes the hub's answer to a reset of ours.
func (b *batch) founded(r *room, staged *group.Staged, st *pb.Status) error {
	r.Resetting = false
	b.writes = append(b.writes, func(t *txn) error { return t.deleteState(roomKey(foundPrefix, r.ID)) })
	if st.Code != pb.Code_CODE_SEQUENCED {
		if st.Code != pb.Code_CODE_EXISTS && wire.ClassOf(st.Code) != wire.Temporary {
			b.show(Shown{Event: "room", State: "not reset", Room: r.ID.String(), RoomName: r.Name, Reason: (&wire.StatusError{Status: st}).Error(), At: b.d.now()})
		}
		return nil
	}
	next, err := staged.First()
	if err != nil {
		return err
	}
	b.begins(r, next, r.Generation+1, r.Why, b.d.Address().String())
	b.ownPlace(r.ID, st.Seq)
	r.Seq, r.Head, r.HeadSeq = max(r.Seq, st.Seq), nil, 0 // what was before it is of the generation before
	return nil
}

// begins goes over to a room's next generation. Texts without a place are encrypted again.
func (b *batch) begins(r *room, next *group.State, generation uint32, why, by string) {
	r.state, r.Generation, r.anew = next, generation, true
	r.Behind, r.Lost, r.Stopped, r.Accuse, r.Vouch, r.Missed, r.Steps, r.Uninvited = false, false, "", nil, nil, nil, nil, nil
	r.Committing, r.Handed, r.Resyncing, r.Resetting, r.LeaveEpoch = 0, false, false, false, 0
	r.Why = why
	b.renew = true
	b.touch(r.ID)
	b.show(Shown{Event: "room", State: "reset", Room: r.ID.String(), RoomName: r.Name, From: by, Reason: why, At: b.d.now()})
}

// whyReset says for people why a room was reset.
func whyReset(d *Device, said []*identity.Complaint) string {
	var who []string
	for _, c := range said {
		if name := d.nameOfAuthor(c.By()); !slices.Contains(who, name) {
			who = append(who, name)
		}
	}
	return fmt.Sprintf("%s could not apply a Commit of %s (%s); it goes on without that device", strings.Join(who, " and "),
		d.nameOfAuthor(said[0].Accused), reasonText(said[0].Reason))
}

// resetWelcome joins the next generation of a room that we are in, when it is what the
// complaints justify. A reset that they do not justify it refuses, and says so; an invitation
// that is of no use is no such thing: resetback.go.
func (b *batch) resetWelcome(r *room, core *pb.EnvelopeCore, body *pb.WelcomeBody) error {
	if r.Uninvited != nil {
		return nil // comeInto looks what the hub has by now
	}
	next := *r
	next.Generation = core.Generation
	said, inviter, secrets, err := b.d.openReset(b.ctx, r, &next, body)
	var not *unusable
	switch {
	case err != nil && temporary(err):
		return err
	case errors.As(err, &not):
		b.notInvited(r, body, not)
		return nil
	case err != nil:
		b.unjustified(r, err.Error())
		return nil
	}
	*r = next
	b.writes = append(b.writes, func(t *txn) error {
		err := errors.Join(t.deleteState(roomKey("stage/", r.ID)), t.deleteState(roomKey(foundPrefix, r.ID)))
		if secrets != nil {
			err = errors.Join(err, t.deleteState(append([]byte(kpPrefix), secrets.Ref...)))
		}
		return err
	})
	r.Seq, r.Head, r.HeadSeq = 0, nil, 0 // where the next generation begins in the room's sequence is not told
	b.joined = true
	b.begins(r, next.state, core.Generation, whyReset(b.d, said), b.d.nameOf(inviter))
	return nil
}

// openReset opens a Welcome into the next generation and holds it against the room as this
// device knows it. Secrets are those to delete; nil for a last-resort KeyPackage.
func (d *Device) openReset(ctx context.Context, r, next *room, body *pb.WelcomeBody) (said []*identity.Complaint, by memberKey, gone *group.KeyPackageSecrets, err error) {
	if next.Generation != r.Generation+1 || wire.OrganizationID(body.Hub) != r.Hub {
		return nil, by, nil, errors.New("device: another generation than the next, or another hub")
	}
	said, base, err := d.justified(r, body.Complaints)
	if err != nil {
		return nil, by, nil, err
	}
	secrets, err := d.secretsFor(body.Welcome)
	if err != nil {
		return nil, by, nil, &unusable{cause: err}
	}
	tree, err := call(ctx, d.home.Device.GetTree, &pb.GetTreeRequest{Hub: body.Hub, Room: r.ID[:], Hash: body.TreeHash})
	if err != nil {
		return nil, by, nil, &unusable{cause: err}
	}
	var info *group.JoinInfo
	err = d.withChains(ctx, func() (err error) {
		next.state, info, err = group.Join(d.config(), body.Welcome, tree.Tree, secrets)
		return err
	})
	if err != nil {
		return nil, by, nil, &unusable{cause: err}
	}
	maker, err := d.checkNext(ctx, r, next, base, said, info)
	if err != nil {
		return nil, by, nil, &unusable{cause: err, other: true}
	}
	if !info.LastResort {
		gone = secrets
	}
	return said, memberKey{maker.Organization, maker.Member}, gone, nil
}

// checkNext holds the group that an invitation leads into against the room, and returns who
// made it.
func (d *Device) checkNext(ctx context.Context, r, next *room, base policy.Base, said []*identity.Complaint, info *group.JoinInfo) (maker wire.Credential, err error) {
	if err := next.check(next.state); err != nil {
		return maker, err
	}
	if next.state.Epoch() != 1 || next.state.Public().Suite().ID != r.state.Public().Suite().ID {
		return maker, errReset
	}
	if err := base.CheckReset(seatOf(said[0].Accused), next.state.Public(), d.gone(ctx)); err != nil {
		return maker, err
	}
	if maker, err = policy.CredentialOf(next.state.Public().Member(info.Inviter)); err != nil {
		return maker, err
	}
	if !base.Has(policy.Seat{Person: policy.PersonOf(maker), Device: maker.Device}) {
		return maker, errOutsider
	}
	return maker, nil
}

// justified verifies the complaints of a reset: by devices that were in the room, of two
// members at least. One member's is enough for who cannot apply the Commit either.
func (d *Device) justified(r *room, notes []string) ([]*identity.Complaint, policy.Base, error) {
	if len(notes) > wire.ResetComplaints {
		return nil, policy.Base{}, errors.New("device: a reset with too many complaints")
	}
	said, err := complaintsOf(notes, r.ID, r.Generation)
	if err != nil {
		return nil, policy.Base{}, err
	}
	base, ok := r.baseAt(said[0].Epoch)
	if !ok {
		return nil, base, errors.New("device: complaints about a Commit that this device has not seen")
	}
	people := make(map[policy.Person]bool)
	for _, c := range said {
		seat := seatOf(c.By())
		if !base.Has(seat) || seat.Person == seatOf(c.Accused).Person {
			return nil, base, errors.New("device: a complaint of somebody who was not in the room")
		}
		people[seat.Person] = true
	}
	if !base.Has(seatOf(said[0].Accused)) {
		return nil, base, errors.New("device: complaints about a device that was not in the room")
	}
	ours := r.couldNot(said[0].Commit)
	if !ours && !r.applied(said[0].Commit[:]) {
		return nil, base, errors.New("device: complaints about a Commit that this device has not seen")
	}
	if len(people) < 2 && !ours {
		return nil, base, errors.New("device: one member alone complains, and this device can apply the Commit")
	}
	return said, base, nil
}

// leftOut takes the hub's word that a room was reset without this device: as it should be
// when it is the one that is accused.
func (b *batch) leftOut(r *room, said []*identity.Complaint) {
	b.touch(r.ID)
	s := Shown{Event: "room", State: "reset", Room: r.ID.String(), RoomName: r.Name, At: b.d.now()}
	if said[0].Accused.Device == b.d.ID() {
		r.Ended, r.Why = true, whyReset(b.d, said)
		s.Reason = r.Why
		b.show(s)
		return
	}
	r.Stopped = "its hub has reset the room without this device"
	s.State, s.Reason = "forked", r.Stopped
	b.show(s)
}
