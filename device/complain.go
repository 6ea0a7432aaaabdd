package device

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// What a device does about a Commit that its room's hub has taken and that it cannot apply
// (docs/protocol.md 7.10): it complains, and waits for what others say. Where another member
// vouches for the Commit, the fault may be ours and we come back by external Commit; where
// another complains too, the room is reset (reset.go).

// accusation is a Commit that we could not apply.
type accusation struct {
	Epoch   uint64 // that it ends; we are in it
	Commit  [32]byte
	Accused identity.Author
	Reason  identity.Reason
	// External: it is an external Commit; whoseFault looks who is at fault for it.
	External bool   `json:",omitempty"`
	Note     string // our complaint, once it is signed
	Sent     bool   // it is at our home node
	SentAt   time.Time
	Due      time.Time // when we first heard that a reset may be made
}

// missed is the last Commit that we could not apply, and the epoch that it ends.
type missed struct {
	Epoch  uint64
	Commit [32]byte
}

// keptSteps is how many Commits back this device can say who was in a room.
const keptSteps = wire.ComplaintCommits

// accuse notes that we cannot apply a Commit, where that is a matter for complaint.
func (b *batch) accuse(r *room, commit []byte, why error) {
	var against *policyError
	reason := identity.ReasonCommit
	switch {
	case errors.As(why, &against):
		reason = identity.ReasonPolicy
	case !errors.Is(why, mls.ErrCrypto) && !errors.Is(why, mls.ErrDecode):
		return
	}
	hash := sha256.Sum256(commit)
	if r.Accuse != nil && r.Accuse.Commit == hash {
		return
	}
	who, external, err := committerOf(r, commit)
	if err != nil || who.Organization == b.d.account.Organization && who.Member == b.d.account.Member {
		return
	}
	if _, err := policy.BaseOf(r.state.Public()).Next(seatOf(who)); err != nil {
		return // a room of two
	}
	r.Missed = &missed{r.state.Epoch(), hash}
	r.Accuse = &accusation{Epoch: r.state.Epoch(), Commit: hash, Accused: who, Reason: reason, External: external}
	b.touch(r.ID)
}

// committerOf reads who made a Commit of the room's epoch: by its place, or, of an external
// one, by the leaf that it brings. The signature is verified before a Commit fails us.
func committerOf(r *room, commit []byte) (who identity.Author, external bool, err error) {
	m, err := mls.ParseMessage(commit)
	if err != nil {
		return who, false, err
	}
	if m.PublicMessage == nil || m.PublicMessage.Content.Commit == nil || m.PublicMessage.Content.Commit.Path == nil {
		return who, false, mls.ErrWireFormat
	}
	content := m.PublicMessage.Content
	leaf := content.Commit.Path.Leaf
	if content.Sender.Type == mls.SenderMember {
		leaf = r.state.Public().Member(mls.LeafIndex(content.Sender.Index))
	}
	if leaf == nil {
		return who, false, mls.ErrSender
	}
	c, err := policy.CredentialOf(leaf)
	return identity.Author{Organization: c.Organization, Member: c.Member, Device: c.Device}, content.Sender.Type != mls.SenderMember, err
}

func seatOf(a identity.Author) policy.Seat {
	return policy.Seat{Person: policy.Person{Organization: a.Organization, Member: a.Member}, Device: a.Device}
}

// errUndecided says that a room waits for what others say of a Commit.
var errUndecided = &wire.StatusError{Status: wire.Status(pb.Code_CODE_UNREACHABLE,
	"this device cannot apply a Commit of the room and has complained; the room waits for what others say")}

// settle goes on with our complaint about a Commit. Nil: there is none any more, and what
// was missed is mended as usual; errUndecided, or another temporary error: later.
func (d *Device) settle(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	if r.Accuse == nil || r.Accuse.Epoch != r.state.Epoch() {
		return d.dropAccusation(id)
	}
	if !r.Accuse.Sent {
		err := d.complain(ctx, id)
		if err != nil && temporary(err) {
			return err
		}
		if err != nil {
			return d.dropAccusation(id) // nothing comes of it
		}
	}
	a, err := call(ctx, d.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:]})
	if err != nil {
		return err
	}
	if a.Answer.GetGeneration() > r.Generation {
		return errWelcomeComes
	}
	for _, k := range a.Answer.GetCases() {
		if string(k.Commit) != string(d.rooms[id].Accuse.Commit[:]) {
			continue
		}
		switch {
		case k.Due:
			return d.resetInTurn(ctx, id, k)
		case k.Vouched > 0:
			return d.dropAccusation(id)
		}
		return errUndecided
	}
	if r.Hub != d.account.Organization && d.now().Sub(d.rooms[id].Accuse.SentAt) < complaintTravels {
		return errUndecided
	}
	return d.dropAccusation(id) // the hub does not take it
}

// complaintTravels is how long a complaint may be on its way to a hub elsewhere before its
// silence is taken for an answer.
const complaintTravels = time.Minute

// dropAccusation ends a complaint: the room is mended without it. A room that stopped for
// its rules' sake stays stopped.
func (d *Device) dropAccusation(id wire.RoomID) error {
	if d.rooms[id].Accuse == nil {
		return nil
	}
	return d.alter(id, func(c *room) { c.Accuse = nil })
}

// alter changes what is stored of a room, except its group; the lock is held.
func (d *Device) alter(id wire.RoomID, change func(*room)) error {
	c := *d.rooms[id]
	change(&c)
	err := d.vault.update(func(t *txn) error { return c.save(t) })
	if err == nil {
		d.rooms[id] = &c
	}
	return err
}

// complain signs the complaint, stores it and hands it over.
func (d *Device) complain(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	if r.Accuse.Note == "" {
		if err := d.whoseFault(ctx, id); err != nil {
			return err
		}
		r = d.rooms[id]
		note, err := identity.SignComplaint(identity.Complaint{Room: id, Generation: r.Generation, Epoch: r.Accuse.Epoch, Commit: r.Accuse.Commit,
			Accused: r.Accuse.Accused, Reason: r.Accuse.Reason, Organization: d.account.Organization, Member: d.account.Member, Device: d.ID(), Issued: d.now()}, d.account.DeviceKey)
		if err != nil {
			return err
		}
		if err := d.accusing(id, func(a *accusation) { a.Note = note }); err != nil {
			return err
		}
	}
	a, err := call(ctx, d.home.Device.Complain, &pb.ComplainRequest{Room: id[:], Complaint: d.rooms[id].Accuse.Note})
	if err != nil {
		return err
	}
	if err := wire.Err(a.Status); err != nil {
		return err
	}
	return d.accusing(id, func(a *accusation) { a.Sent, a.SentAt = true, d.now() })
}

func (d *Device) accusing(id wire.RoomID, change func(*accusation)) error {
	return d.alter(id, func(c *room) {
		a := *c.Accuse
		change(&a)
		c.Accuse = &a
	})
}

// step is what a Commit changed of a room, or, when we came back from outside, what we
// found changed.
type step struct {
	policy.Step
	To      uint64 // the epoch that we were in after it
	Skipped bool   // it was not applied: we came back behind it
}

// stepped remembers what a Commit has changed of a room, for keptSteps of them.
func (r *room) stepped(before *mls.PublicGroup, commit []byte, external bool) {
	had, has := policy.BaseOf(before), policy.BaseOf(r.state.Public())
	s := step{To: r.state.Epoch(), Skipped: external, Step: policy.Step{Epoch: before.Epoch(), Commit: sha256.Sum256(commit),
		Added:   slices.DeleteFunc(slices.Clone(has.Seats), had.Has),
		Removed: slices.DeleteFunc(slices.Clone(had.Seats), has.Has)}}
	if external && r.Missed != nil && r.Missed.Epoch == before.Epoch() {
		s.Commit = r.Missed.Commit
	}
	if !policy.SameExtensions(had.Extensions, has.Extensions) {
		s.Before = had.Extensions
	}
	r.Steps = append(slices.Clone(r.Steps), s)
	if len(r.Steps) > keptSteps {
		r.Steps = slices.Delete(r.Steps, 0, len(r.Steps)-keptSteps)
	}
}

// baseAt is the room as it was in an epoch that we have been in lately.
func (r *room) baseAt(epoch uint64) (policy.Base, bool) {
	base, at := policy.BaseOf(r.state.Public()), r.state.Epoch()
	for i := len(r.Steps) - 1; at > epoch && i >= 0 && r.Steps[i].To == at; i-- {
		base, at = base.Undo(r.Steps[i].Step), r.Steps[i].Epoch
	}
	return base, at == epoch
}

// applied reports whether we have applied a Commit.
func (r *room) applied(commit []byte) bool {
	return slices.ContainsFunc(r.Steps, func(s step) bool { return string(s.Commit[:]) == string(commit) && !s.Skipped })
}

// couldNot reports whether we have had a Commit and could not apply it.
func (r *room) couldNot(commit [32]byte) bool {
	return r.Missed != nil && r.Missed.Commit == commit ||
		slices.ContainsFunc(r.Steps, func(s step) bool { return s.Commit == commit && s.Skipped })
}

// roomCase takes what a hub tells of complaints in a room. Nothing of it decides anything:
// it is shown, and makes us look.
func (b *batch) roomCase(core *pb.EnvelopeCore) error {
	var k pb.RoomCase
	if err := proto.Unmarshal(core.Body, &k); err != nil || len(k.Complaints) > wire.ComplaintsKept {
		return errors.New("device: what a hub tells of complaints does not parse")
	}
	r := b.room(wire.RoomID(core.Room))
	if r == nil || r.state == nil || r.Ended || k.Generation != r.Generation || len(k.Complaints) == 0 {
		return nil
	}
	said := make([]*identity.Complaint, len(k.Complaints))
	for i, note := range k.Complaints {
		c, err := identity.VerifyComplaint(note)
		if err != nil || c.Room != r.ID || c.Generation != r.Generation || string(c.Commit[:]) != string(k.Commit) || c.Accused != said0(said, c).Accused {
			return errors.New("device: a complaint that does not stand")
		}
		said[i] = c
	}
	if k.Made > r.Generation {
		b.leftOut(r, said)
		return nil
	}
	own := identity.Author{Organization: b.d.account.Organization, Member: b.d.account.Member, Device: b.d.ID()}
	last := said[len(said)-1]
	ours := slices.ContainsFunc(said, func(c *identity.Complaint) bool { return c.Organization == own.Organization && c.Member == own.Member })
	if last.By() != own && k.Vouched == 0 {
		b.show(Shown{Event: "room", State: "complaint", Room: r.ID.String(), RoomName: r.Name, From: b.d.nameOfAuthor(last.By()), At: b.d.now(),
			Reason: fmt.Sprintf("cannot apply a Commit of %s: %s", b.d.nameOfAuthor(last.Accused), reasonText(last.Reason))})
	}
	if !ours && r.applied(k.Commit) && last.Accused.Device != own.Device {
		r.Vouch = k.Commit
		b.touch(r.ID)
	}
	return nil
}

// said0 is the first complaint of a list that is read, or c when it is that.
func said0(list []*identity.Complaint, c *identity.Complaint) *identity.Complaint {
	if list[0] == nil {
		return c
	}
	return list[0]
}

func (d *Device) nameOfAuthor(a identity.Author) string {
	return d.nameOf(memberKey{a.Organization, a.Member})
}

// reasonText is a reason for people.
func reasonText(r identity.Reason) string {
	switch r {
	case identity.ReasonPolicy:
		return "it breaks the rules of the room"
	case identity.ReasonExternal:
		return "the room's published key is not the room's"
	}
	return "its secret part does not fit"
}

// vouch publishes a GroupInfo of our own of a room in which others complain about a Commit
// that we have applied: who could not comes back with it.
func (d *Device) vouch(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	info, err := r.state.GroupInfo(false)
	if err != nil {
		return err
	}
	a, err := call(ctx, d.home.Device.PublishGroupInfo, &pb.PublishGroupInfoRequest{Room: id[:], Generation: r.Generation, Epoch: r.state.Epoch(), GroupInfo: info})
	if err == nil {
		err = wire.Err(a.Status)
	}
	if err != nil && temporary(err) {
		return err // when we are in its epoch
	}
	return d.alter(id, func(c *room) { c.Vouch = nil })
}

// settleAll goes on with complaints, vouches for Commits, and comes into rooms that were reset
// and whose invitation was of no use. What cannot be done now is
// tried again with the next visit.
func (d *Device) settleAll(ctx context.Context) error {
	for id, r := range d.rooms {
		if r.state == nil || r.Ended || r.Committing > 0 {
			continue
		}
		var err error
		switch {
		case r.Uninvited != nil:
			err = d.comeInto(ctx, id)
		case r.Vouch != nil:
			err = d.vouch(ctx, id)
		case r.Accuse != nil:
			err = d.settle(ctx, id)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || temporary(err) {
			continue
		}
		if err := d.alter(id, func(c *room) { c.Accuse, c.Vouch = nil, nil }); err != nil {
			return err
		}
	}
	return nil
}

// resetTurn is how long the device at a place of the order waits.
func resetTurn(place int) time.Duration { return time.Duration(place) * wire.ResetTurn }

// undecided reports whether a room waits for what others say of a Commit, and it is time to
// look again.
func (d *Device) undecided() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now().Sub(d.looked) < undecidedLook {
		return false
	}
	for _, r := range d.rooms {
		if r.Accuse != nil || r.Vouch != nil || r.Uninvited != nil {
			d.looked = d.now()
			return true
		}
	}
	return false
}

// undecidedLook is how often a device that stays looks what became of its complaint.
const undecidedLook = 5 * time.Second
