package device

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// commitPending commits the hub's proposals, after a short random wait so that not
// every device does it at once (FORMATS, Removal).
func (d *Device) commitPending(ctx context.Context) error {
	if !d.hasPending() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(commitSpread)):
	}
	return d.commitWaiting(ctx)
}

// commitSpread is the time over which the devices of a room spread their Commits of what
// others have proposed.
const commitSpread = 5 * time.Second

// commitWaiting commits the proposals that wait in this device's rooms.
func (d *Device) commitWaiting(ctx context.Context) error {
	if open, err := d.unanswered(); err != nil || open {
		return err // counters are taken in order: later
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.remember()
	for id, r := range d.rooms {
		if !d.pending(r) {
			continue
		}
		// One room that cannot be committed holds no other up.
		err = errors.Join(err, d.commitRoom(ctx, id))
	}
	return err
}

func (d *Device) hasPending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rooms {
		if d.pending(r) {
			return true
		}
	}
	return false
}

// pending reports whether proposals wait for a Commit that can be made now: none of ours is under
// way, and nothing of the room waits in the mailbox.
func (d *Device) pending(r *room) bool {
	return !d.waitsIn(r.ID) && r.state != nil && !r.Ended && (!r.Leaving || r.peerLeaves()) && !r.Behind && !r.stalled() && r.Committing == 0 && len(r.state.Public().PendingRefs()) > 0
}

// peerLeaves reports whether the other member of a room of two has proposed to leave it. Where
// both want to, one of them takes the other out.
func (r *room) peerLeaves() bool {
	public := r.state.Public()
	return r.Peer != (memberKey{}) && slices.ContainsFunc(public.Pending(), func(p *mls.Content) bool {
		if p.Proposal == nil || p.Proposal.Type != mls.ProposalRemove || p.Sender.Type != mls.SenderMember {
			return false
		}
		leaf := public.Member(p.Proposal.Remove)
		return leaf != nil && keyOf(leaf) == r.Peer
	})
}

// commitRoom commits the proposals received in a room.
func (d *Device) commitRoom(ctx context.Context, id wire.RoomID) error {
	_, err := d.commitWith(ctx, id, group.CommitParams{})
	return err
}

// commitWith makes a Commit, of the proposals received too, and hands it over. The
// staged Commit is stored with its counter before it leaves; both states are kept until
// the hub has answered. It returns the Commit's counter.
func (d *Device) commitWith(ctx context.Context, id wire.RoomID, p group.CommitParams) (uint64, error) {
	r := *d.rooms[id]
	p.ByReference = true
	heads, err := d.roomHeads(&r)
	if err != nil {
		return 0, err
	}
	p.AAD = encodeHeads(heads)
	var staged *group.Staged
	err = d.withChains(ctx, func() (err error) {
		r.state, staged, err = d.rooms[id].state.Stage(p)
		return err
	})
	if err == nil {
		// What we would refuse of others we do not ask of the hub either.
		err = policy.Check(d.rooms[id].state.Public(), staged.Effects)
	}
	if err != nil {
		return 0, err
	}
	err = d.vault.update(func(t *txn) (err error) {
		if r.Committing, err = d.overtaking(t); err != nil {
			return err
		}
		r.Handed = false
		return errors.Join(r.save(t), t.putState(roomKey("stage/", id), staged.Marshal()))
	})
	if err != nil {
		return 0, err
	}
	d.rooms[id] = &r
	failpoint("staged")
	return r.Committing, d.submitStaged(ctx, id)
}

// finishCommitting hands over the Commits whose answer this device never got, under
// their counters: the node answers what it had answered before (docs/protocol.md 6.5).
func (d *Device) finishCommitting(ctx context.Context) error {
	for id, r := range d.rooms {
		if r.Committing == 0 || r.Handed || r.Ended {
			continue
		}
		if err := d.submitStaged(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) submitStaged(ctx context.Context, id wire.RoomID) error {
	b := d.newBatch(ctx)
	r := b.room(id)
	staged, err := d.staged(id)
	if errors.Is(err, errNoRecord) {
		r.Committing, r.Resyncing, r.Resetting = 0, false, false
		b.touch(id)
		return b.commit(d.mark())
	}
	if err != nil {
		return err
	}
	st, err := d.submitCommit(ctx, r, r.Committing, staged)
	if err != nil {
		return err // the answer is asked for again
	}
	if err := b.committed(r, st); err != nil {
		return err
	}
	return b.commit(d.mark())
}

// staged reads a room's Commit that waits for an answer.
func (d *Device) staged(id wire.RoomID) (*group.Staged, error) {
	var raw []byte
	err := d.vault.view(func(t *txn) (err error) { raw, err = t.state(roomKey("stage/", id)); return err })
	if err != nil {
		return nil, err
	}
	return group.UnmarshalStaged(d.config(), raw)
}

// submitCommit hands a Commit with its bundle over.
func (d *Device) submitCommit(ctx context.Context, r *room, counter uint64, s *group.Staged) (*pb.Status, error) {
	request := &pb.SubmitCommitRequest{Counter: counter, Room: r.ID[:], Generation: r.Generation, Epoch: s.Epoch() - 1,
		Bundle: &pb.Bundle{Commit: s.Commit, Welcome: s.Welcome, GroupInfo: s.GroupInfo, Tree: s.Tree}}
	if r.Uninvited != nil && r.Resyncing {
		request.Generation = r.into()
	}
	if r.Resetting {
		var err error
		if request.Bundle.Founding, err = d.founding(r.ID); err != nil {
			return nil, err
		}
		request.Generation++
	}
	a, err := call(ctx, d.home.Device.SubmitCommit, request)
	if err != nil {
		return nil, err
	}
	return a.Status, nil
}

// committed takes the hub's answer to a Commit of ours: applied, dropped, or still
// to come.
func (b *batch) committed(r *room, st *pb.Status) error {
	if st.Code == pb.Code_CODE_ACCEPTED {
		r.Handed = true
		b.touch(r.ID)
		return nil
	}
	staged, err := b.d.staged(r.ID)
	b.d.keepOutcome(r.Committing, st)
	r.Committing, r.Handed = 0, false
	b.touch(r.ID)
	if r.Resyncing {
		b.resynced(r, st)
	}
	if errors.Is(err, errNoRecord) {
		return nil
	}
	if err != nil {
		return err
	}
	b.writes = append(b.writes, func(t *txn) error { return t.deleteState(roomKey("stage/", r.ID)) })
	if r.Resetting {
		return b.founded(r, staged, st)
	}
	if st.Code != pb.Code_CODE_SEQUENCED {
		return nil // another Commit was first; it is on its way to us
	}
	if r.Uninvited != nil {
		return b.cameInto(r, staged, st.Seq)
	}
	return b.apply(r, staged, st.Seq)
}

// overtaken drops the Commit of ours that was made for an epoch that another's has
// ended. One that brings us back may have been made for a later epoch, and stands.
func (b *batch) overtaken(r *room, epoch uint64) error {
	if r.Committing == 0 {
		return nil
	}
	switch staged, err := b.d.staged(r.ID); {
	case errors.Is(err, errNoRecord):
	case err != nil:
		return err
	case staged.Epoch() > epoch+1:
		return nil
	}
	r.Committing, r.Handed, r.Resyncing, r.Resetting = 0, false, false, false
	b.writes = append(b.writes, func(t *txn) error { return t.deleteState(roomKey("stage/", r.ID)) })
	return nil
}

// maxOutcomes bounds the answers that nobody asks for.
const maxOutcomes = 256

func (d *Device) keepOutcome(counter uint64, st *pb.Status) {
	if len(d.outcomes) >= maxOutcomes {
		clear(d.outcomes)
	}
	d.outcomes[counter] = st
}

// outcome is the hub's answer to a Commit of this run of the device, once.
func (d *Device) outcome(counter uint64) *pb.Status {
	st := d.outcomes[counter]
	delete(d.outcomes, counter)
	return st
}

// apply goes over to the epoch of a Commit of ours. Entries before its place may be
// still to come, and nobody delivers it to us: its place is noted, not passed.
func (b *batch) apply(r *room, staged *group.Staged, seq uint64) (err error) {
	before := r.state
	if r.state, err = staged.Apply(before); err != nil {
		return err
	}
	if before != nil {
		r.stepped(before.Public(), staged.Commit, r.state.Epoch() != before.Epoch()+1 || r.Missed != nil && r.Missed.Epoch == before.Epoch())
		b.showDifference(r, before)
	}
	b.ownPlace(r.ID, seq)
	if seq == r.Seq+1 {
		b.advanceSeq(r, seq)
	}
	b.renew = true
	return nil
}

// showDifference says who came and went by a Commit of ours.
func (b *batch) showDifference(r *room, before *group.State) {
	had, has := leafKeys(before), leafKeys(r.state)
	var came, went []mls.Member
	for key, m := range had {
		if _, ok := has[key]; !ok {
			went = append(went, m)
		}
	}
	for key, m := range has {
		if _, ok := had[key]; !ok {
			came = append(came, m)
		}
	}
	b.showCame(r, before.Public(), came, b.d.ownKey())
	b.showWent(r, before.Public(), went, b.d.ownKey())
	if rules, err := policy.Of(r.state.Extensions()); err == nil && rules.Room.Ended && !r.Ended {
		r.Ended = true
		b.show(Shown{Event: "room", State: "ended", Room: r.ID.String(), RoomName: r.Name, From: b.d.Address().String(), At: b.d.now()})
	}
}

func leafKeys(s *group.State) map[string]mls.Member {
	out := make(map[string]mls.Member)
	for _, m := range s.Members() {
		out[string(m.Node.SignatureKey)] = m
	}
	return out
}

// ownCommit applies an entry of the room log that is the Commit of ours whose answer
// is still to come.
func (b *batch) ownCommit(r *room, seq uint64, core *pb.EnvelopeCore) (bool, error) {
	if r.Committing == 0 {
		return false, nil
	}
	staged, err := b.d.staged(r.ID)
	if errors.Is(err, errNoRecord) {
		return false, nil
	}
	if err != nil || !bytes.Equal(staged.Commit, core.Body) {
		return false, err
	}
	return true, b.committed(r, &pb.Status{Code: pb.Code_CODE_SEQUENCED, Seq: seq})
}
