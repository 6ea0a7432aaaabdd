package device

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A room was reset as it may be, and the invitation into its next generation is of no use to
// this device. No hub can look into an invitation: its maker may have garbled it, or this
// device may have lost the key that it is for. So it says nothing about the hub. The device
// holds the reset as the hub has taken it against the room, comes into the next generation, or
// the one that it was reset into since, by external Commit, and tells whose invitation it was (docs/protocol.md 7.11).

// uninvited is a reset whose invitation this device cannot use.
type uninvited struct {
	Complaints []string // which justify it
	TreeHash   []byte   // of the room after it
	Why        string   // what is wrong with the invitation
	// Other: it opens, and leads into another room than it should. Then this device follows
	// only what it can hold against the room itself.
	Other bool   `json:",omitempty"`
	By    string `json:",omitempty"` // who made it, once that is known
	// Into is the generation that this device comes into; zero: the next.
	Into uint32 `json:",omitempty"`
}

// into is the generation of a room that this device comes into without an invitation.
func (r *room) into() uint32 { return max(r.Uninvited.Into, r.Generation+1) }

// unusable is an invitation into a justified reset that this device cannot use.
type unusable struct {
	cause error
	other bool
}

func (e *unusable) Error() string { return e.cause.Error() }
func (e *unusable) Unwrap() error { return e.cause }

// notInvited notes it. What was under way in the generation before is over.
func (b *batch) notInvited(r *room, body *pb.WelcomeBody, e *unusable) {
	r.Uninvited = &uninvited{Complaints: body.Complaints, TreeHash: body.TreeHash, Why: e.Error(), Other: e.other}
	r.Stopped, r.Vouch = "", nil
	r.Committing, r.Handed, r.Resyncing, r.Resetting = 0, false, false, false
	r.Resynced = b.d.now().Add(-wire.ResyncPerRoom) // whenever it came back: the next generation is another group
	b.writes = append(b.writes, func(t *txn) error {
		return errors.Join(t.deleteState(roomKey("stage/", r.ID)), t.deleteState(roomKey(foundPrefix, r.ID)))
	})
	b.touch(r.ID)
}

// unjustified stops in a room whose hub resets it in a way that it may not.
func (b *batch) unjustified(r *room, why string) {
	r.Stopped, r.Uninvited = "its hub resets the room in a way that is not justified: "+why, nil
	b.touch(r.ID)
	b.show(Shown{Event: "room", State: "forked", Room: r.ID.String(), RoomName: r.Name, Reason: r.Stopped, At: b.d.now()})
}

// comeInto comes into the next generation of a room by external Commit, when the hub has
// taken a reset that may be made.
func (d *Device) comeInto(ctx context.Context, id wire.RoomID) error {
	r := *d.rooms[id]
	a, err := call(ctx, d.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:]})
	if err != nil && wire.StatusOf(err).Code == pb.Code_CODE_UNKNOWN_ROOM {
		return d.endRoom(id) // taken out since
	}
	if err != nil {
		return err
	}
	refuse := func(why error) error {
		b := d.newBatch(ctx)
		b.unjustified(b.room(id), why.Error())
		return b.commit(d.mark())
	}
	n := a.Answer.GetGeneration()
	if n <= r.Generation {
		return refuse(errors.New(r.Uninvited.Why)) // the hub invites into what it does not have
	}
	said, base, err := d.justified(&r, r.Uninvited.Complaints)
	if err != nil {
		return refuse(err)
	}
	by, err := d.takenAs(ctx, &r, base, said)
	var not *unusable
	switch {
	case errors.As(err, &not):
		return refuse(not.cause)
	case err != nil && (temporary(err) || ctx.Err() != nil):
		return err
	case err != nil && r.Uninvited.Other && n > r.Generation+1:
		return d.leftBehind(id) // a hub keeps no GroupInfo of what was reset
	case err != nil && r.Uninvited.Other:
		return refuse(errors.New(r.Uninvited.Why)) // and nothing speaks against it any more
	}
	if at := d.back(&r); !at.IsZero() {
		return &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "%s", backText(at)), at.Sub(d.now()))}
	}
	return d.enterNext(ctx, r, a.Answer, said, by)
}

// enterNext makes the external Commit and hands it over, stored first as any other.
func (d *Device) enterNext(ctx context.Context, r room, a *pb.GroupInfoAnswer, said []*identity.Complaint, by string) error {
	u := *r.Uninvited
	u.By, u.Into, r.Uninvited = by, a.Generation, &u
	next := r
	next.Generation = a.Generation
	staged, err := d.stageResync(ctx, &next, a)
	if errors.Is(err, group.ErrNotMember) {
		return d.endRoom(r.ID)
	}
	if err == nil {
		next.state, err = staged.Apply(nil)
	}
	if err == nil && slices.Contains(policy.SeatsOf(next.state.Public()), seatOf(said[0].Accused)) {
		err = errors.New("device: the room's next generation has the accused device in it")
	}
	if err != nil {
		if temporary(err) || ctx.Err() != nil {
			return err
		}
		return d.cannotMend(r.ID, err)
	}
	err = d.vault.update(func(t *txn) (err error) {
		if r.Committing, err = d.overtaking(t); err != nil {
			return err
		}
		r.Handed, r.Resyncing = false, true
		return errors.Join(r.save(t), t.putState(roomKey("stage/", r.ID), staged.Marshal()))
	})
	if err != nil {
		return err
	}
	d.rooms[r.ID] = &r
	failpoint("reset-entered")
	return d.submitStaged(ctx, r.ID)
}

// takenAs holds the reset that the hub has taken against the room, and returns who made it.
// An *unusable error says that it is none that may be made; any other that the hub does not
// show it (any more), so that what it shows now is taken as in any coming back (7.3).
func (d *Device) takenAs(ctx context.Context, r *room, base policy.Base, said []*identity.Complaint) (string, error) {
	first, err := d.commitOf(ctx, r, r.Generation+1, 0)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(first)
	a, err := call(ctx, d.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: r.ID[:], Commit: hash[:]})
	if err != nil {
		return "", err
	}
	tree, err := call(ctx, d.home.Device.GetTree, &pb.GetTreeRequest{Hub: r.Hub[:], Room: r.ID[:], Hash: r.Uninvited.TreeHash})
	if err != nil {
		return "", err
	}
	m, err := mls.ParseMessage(a.Answer.GetGroupInfo())
	if err != nil || m.GroupInfo == nil {
		return "", errors.Join(errors.New("device: a reset that the hub does not show"), err)
	}
	d.prefetchTree(ctx, r.state.Public().Suite().ID, tree.Tree)
	var public *mls.PublicGroup
	err = d.withChains(ctx, func() (err error) {
		public, err = mls.OpenGroupInfo(m.GroupInfo, tree.Tree, mls.PublicOptions{Validator: d.chains})
		return err
	})
	if err != nil {
		return "", err
	}
	if string(public.GroupID()) != string(wire.GroupID(r.ID, r.Generation+1)) || public.Epoch() != 1 || public.Suite().ID != r.state.Public().Suite().ID {
		return "", &unusable{cause: errReset}
	}
	if err := base.CheckReset(seatOf(said[0].Accused), public, d.gone(ctx)); err != nil {
		return "", &unusable{cause: err}
	}
	maker, err := policy.CredentialOf(public.Member(m.GroupInfo.Signer))
	if err != nil {
		return "", err
	}
	if !base.Has(policy.Seat{Person: policy.PersonOf(maker), Device: maker.Device}) {
		return "", &unusable{cause: errOutsider}
	}
	return d.nameOf(memberKey{maker.Organization, maker.Member}), nil
}

var (
	errReset    = errors.New("device: a reset into another epoch or cipher suite")
	errOutsider = errors.New("device: a reset by a device that was not in the room")
)

// leftBehind ends a room that was reset once more before this device has come into the
// generation in between, when its invitation there led elsewhere and the hub cannot show any more
// what it has taken: this device cannot know what the later one may be.
func (d *Device) leftBehind(id wire.RoomID) error {
	c := *d.rooms[id]
	c.Ended, c.Behind, c.Lost, c.Accuse, c.Uninvited = true, false, false, nil, nil
	c.Stopped = "the room was reset again before this device could come back: somebody in it has to remove this device's member and invite them again"
	err := d.vault.update(func(t *txn) error { return errors.Join(c.save(t), t.show(d.ofRoom(&c, "not resynced", c.Stopped))) })
	if err == nil {
		d.rooms[id] = &c
	}
	return err
}

// cameInto takes the hub's answer that we are in the next generation.
func (b *batch) cameInto(r *room, staged *group.Staged, seq uint64) error {
	u := r.Uninvited
	said, err := complaintsOf(u.Complaints, r.ID, r.Generation)
	if err != nil {
		return err
	}
	next, err := staged.Apply(nil)
	if err != nil {
		return err
	}
	base, _ := r.baseAt(said[0].Epoch)
	changed := b.d.sinceReset(base.Staying(seatOf(said[0].Accused)), next.Public())
	r.Seq, r.Head, r.HeadSeq = 0, nil, 0 // as with an invitation
	b.joined = true
	again := ""
	if r.into() > r.Generation+1 {
		again = "; it was reset again before that"
	}
	b.begins(r, next, r.into(), whyReset(b.d, said), u.By)
	// Complaints about it can be held against the room; we have not applied it, but made it.
	r.Steps = []step{{Step: policy.Step{Epoch: next.Epoch() - 1, Commit: sha256.Sum256(staged.Commit)}, To: next.Epoch(), Skipped: true}}
	b.ownPlace(r.ID, seq)
	whose := "the invitation"
	if u.By != "" {
		whose += " that " + u.By + " made"
	}
	b.show(b.d.ofRoom(r, "resynced", fmt.Sprintf("%s into the reset room is of no use to this device (%s); it came back without it%s%s; what was said meanwhile is missing here", whose, u.Why, again, changed)))
	return nil
}

// sinceReset says who has come and gone since a room was reset.
func (d *Device) sinceReset(staying []policy.Person, now *mls.PublicGroup) (text string) {
	var came, went []string
	present := make(map[policy.Person]bool)
	for _, s := range policy.SeatsOf(now) {
		if !present[s.Person] && !slices.Contains(staying, s.Person) {
			came = append(came, d.nameOf(memberKey{s.Organization, s.Member}))
		}
		present[s.Person] = true
	}
	for _, who := range staying {
		if !present[who] {
			went = append(went, d.nameOf(memberKey{who.Organization, who.Member}))
		}
	}
	if len(came) > 0 {
		text = "; since then there came " + strings.Join(came, ", ")
	}
	if len(went) > 0 {
		text += "; gone are " + strings.Join(went, ", ")
	}
	return text
}
