package device

import (
	"context"
	"errors"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// errBehind says that an entry belongs to an epoch that this device has not reached.
var errBehind = errors.New("device: an entry of an epoch that this device has not reached")

// stalled reports whether nothing may be encrypted in the room for now: its ratchets
// were set back, or the Commit that brings us back is under way.
func (r *room) stalled() bool {
	return r.Lost || r.Resyncing || r.Resetting || r.Uninvited != nil || r.Stopped != ""
}

// mend brings rooms up to date that this device cannot follow any more. What cannot
// be done now is tried again with the next visit.
func (d *Device) mend(ctx context.Context) error {
	if err := d.settleAll(ctx); err != nil {
		return err
	}
	for id, r := range d.rooms {
		if r.state == nil || r.Ended || r.Creating != nil || r.Committing > 0 || r.Stopped != "" || r.Accuse != nil || !r.Behind && !r.Lost {
			continue
		}
		err := d.catchUp(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || temporary(err) {
			continue
		}
		if err := d.cannotMend(id, err); err != nil {
			return err
		}
	}
	return nil
}

// cannotMend says why a room stays closed to this device; it is tried again after an
// hour, and the other rooms go on.
func (d *Device) cannotMend(id wire.RoomID, why error) error {
	b := d.newBatch(context.Background())
	r := b.room(id)
	r.Resynced = d.now()
	b.touch(id)
	b.show(d.ofRoom(r, "not resynced", why.Error()))
	return b.commit(d.mark())
}

// catchUp is catchUpNow, except where something of the room waits in the mailbox: that comes
// first, for its keys are gone when the log has taken the room further.
func (d *Device) catchUp(ctx context.Context, id wire.RoomID) error {
	if d.waitsIn(id) {
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, waitsReason)
	}
	return d.catchUpNow(ctx, id)
}

// catchUpNow processes the handshakes that this device has missed, from the room log at
// the hub. What the log cannot mend, an external Commit does.
func (d *Device) catchUpNow(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	if r == nil || r.state == nil || r.Ended || r.Stopped != "" {
		return nil
	}
	first, tries := r.state.Epoch(), maxFollows
	for {
		before := d.rooms[id].state.Epoch()
		more, err := d.followLog(ctx, id)
		if err != nil && temporary(err) {
			return err
		}
		r = d.rooms[id]
		if err == nil && more && r.state.Epoch() > before {
			continue
		}
		if r.Ended || r.Committing > 0 || r.Stopped != "" {
			return nil // removed, or a Commit of ours waits for its answer
		}
		if err == nil && r.state.Epoch() > first && !r.Lost {
			return d.caughtUp(id)
		}
		if r.Accuse != nil {
			if err := d.settle(ctx, id); err != nil || d.rooms[id].Stopped != "" {
				return err
			}
		}
		if tries--; err != nil || r.Lost {
			tries = 0
		}
		if err := d.resync(ctx, id, tries > 0); !errors.Is(err, errMovedOn) {
			return err
		}
	}
}

// errMovedOn says that the room has reached another epoch since its log was read.
var errMovedOn = errors.New("device: the room has moved on")

// maxFollows is how often the log is read before a hub that shows a later epoch, and no
// way there, is answered with an external Commit.
const maxFollows = 3

// followLog applies one page of the room log.
func (d *Device) followLog(ctx context.Context, id wire.RoomID) (more bool, err error) {
	r := d.rooms[id]
	a, err := call(ctx, d.home.Device.GetRoomLog, &pb.GetRoomLogRequest{Hub: r.Hub[:], Room: id[:], FromEpoch: r.state.Epoch(), Generation: r.Generation})
	if err != nil {
		return false, err
	}
	b := d.newBatch(ctx)
	var failed error
	for _, env := range a.Handshakes {
		core, err := wire.ParseCore(env.Core)
		if err != nil {
			return false, err
		}
		c := b.room(id)
		if core.Epoch < c.state.Epoch() || core.Generation != c.Generation || c.Ended {
			continue
		}
		if core.Epoch > c.state.Epoch() {
			failed = errBehind
			break
		}
		own, err := b.ownCommit(c, env.Seq, core)
		if err != nil {
			return false, err
		}
		if own {
			continue
		}
		// Without its place in the sequence: the same entry is still to be delivered.
		if failed = b.process(c, &pb.Envelope{Seq: c.Seq}, core); failed != nil {
			if core.Kind == pb.Kind_KIND_COMMIT && !temporary(failed) {
				b.cannotFollow(c, core, failed)
			}
			break
		}
	}
	return a.More, errors.Join(failed, b.commit(d.mark()))
}

func (d *Device) caughtUp(id wire.RoomID) error {
	c := *d.rooms[id]
	if !c.Behind {
		return nil
	}
	c.Behind = false
	if err := d.vault.update(func(t *txn) error { return c.save(t) }); err != nil {
		return err
	}
	d.rooms[id] = &c
	return nil
}

// resync comes back into a room by an external Commit that replaces our own leaf,
// at most once per room and hour (docs/protocol.md 7.3). The Commit is stored with its
// counter before it leaves, as any other; until the hub has answered, the room is
// stalled. What was said meanwhile is a gap that is named. With follow it makes none, and
// returns errMovedOn where the log may lead on by now.
func (d *Device) resync(ctx context.Context, id wire.RoomID, follow bool) error {
	r := *d.rooms[id]
	a, err := call(ctx, d.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:]})
	if err != nil {
		return err
	}
	if a.Answer.GetGeneration() > r.Generation {
		return errWelcomeComes
	}
	switch epoch, err := epochOf(a.Answer.GetGroupInfo()); {
	case err != nil:
		return err
	case epoch < r.state.Epoch():
		return d.publishEpoch(ctx, &r)
	case epoch == r.state.Epoch() && !r.Lost && !r.Behind:
		return nil
	case epoch > r.state.Epoch() && follow:
		return errMovedOn
	}
	if at := d.back(&r); !at.IsZero() {
		return &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "%s", backText(at)), at.Sub(d.now()))}
	}
	staged, err := d.stageResync(ctx, &r, a.Answer)
	if errors.Is(err, group.ErrNotMember) {
		return d.endRoom(id)
	}
	if err != nil {
		return err
	}
	err = d.vault.update(func(t *txn) (err error) {
		if r.Committing, err = d.overtaking(t); err != nil {
			return err
		}
		r.Handed, r.Resyncing = false, true
		return errors.Join(r.save(t), t.putState(roomKey("stage/", id), staged.Marshal()))
	})
	if err != nil {
		return err
	}
	d.rooms[id] = &r
	failpoint("resync-staged")
	return d.submitStaged(ctx, id)
}

// back is when this device may come back into a room again; zero: now.
func (d *Device) back(r *room) time.Time {
	now := d.now()
	// A clock that was set back since does not keep anybody out for longer than the hour.
	if r.Resynced.IsZero() || r.Resynced.After(now) || now.Sub(r.Resynced) >= wire.ResyncPerRoom {
		return time.Time{}
	}
	return r.Resynced.Add(wire.ResyncPerRoom)
}

// backText says so, in the time of this machine.
func backText(at time.Time) string {
	return "this device has lost its place in the room and may come back at " + at.Local().Format("15:04")
}

// publishEpoch shows a hub that has fallen behind the room, as after a restore, the epoch that
// this device is in, with its tree: it goes on from there once it has enough of it
// (docs/protocol.md 3.5). A device whose own state is in doubt publishes nothing.
func (d *Device) publishEpoch(ctx context.Context, r *room) error {
	behind := errors.New("device: the hub shows an epoch of the room that is over")
	if r.Lost || r.Behind {
		return behind
	}
	info, err := r.state.GroupInfo(true)
	if err != nil || len(info) > wire.MaxWelcome {
		return errors.Join(behind, err)
	}
	a, err := call(ctx, d.home.Device.PublishGroupInfo, &pb.PublishGroupInfoRequest{Room: r.ID[:], Generation: r.Generation, Epoch: r.state.Epoch(), GroupInfo: info})
	if err == nil {
		err = wire.Err(a.Status)
	}
	return err
}

// stageResync makes the external Commit and checks the room that it leads to as on
// joining by Welcome.
func (d *Device) stageResync(ctx context.Context, r *room, a *pb.GroupInfoAnswer) (*group.Staged, error) {
	var staged *group.Staged
	d.prefetchTree(ctx, r.state.Public().Suite().ID, a.GetTree())
	err := d.withChains(ctx, func() (err error) {
		p := group.ExternalParams{Credential: d.credential(), ResyncOwn: true}
		staged, err = group.ExternalJoin(d.config(), a.GetGroupInfo(), a.GetTree(), p)
		return err
	})
	if err != nil {
		return nil, err
	}
	next := *r
	if next.state, err = staged.Apply(nil); err != nil {
		return nil, err
	}
	return staged, errors.Join(next.check(next.state), d.checkHub(ctx, &next))
}

// epochOf reads the epoch of a GroupInfo that is not verified yet.
func epochOf(groupInfo []byte) (uint64, error) {
	m, err := mls.ParseMessage(groupInfo)
	if err != nil {
		return 0, err
	}
	if m.GroupInfo == nil {
		return 0, mls.ErrWireFormat
	}
	return m.GroupInfo.Context.Epoch, nil
}

// endRoom notes that this device is not in the room any more, as its hub says.
func (d *Device) endRoom(id wire.RoomID) error {
	c := *d.rooms[id]
	c.Ended, c.Heard, c.Behind, c.Lost = true, true, false, false
	err := d.vault.update(func(t *txn) error {
		return errors.Join(c.save(t), t.show(d.ofRoom(&c, "removed", "")))
	})
	if err == nil {
		d.rooms[id] = &c
	}
	return err
}

// lookWhetherIn asks the hub whether this device is in a room still that has refused a message
// of it: who was taken out when an agreement ended was not told, and would write there for
// good. To who is not in it, a room does not exist.
func (d *Device) lookWhetherIn(ctx context.Context, s *Sent) {
	id, err := wire.ParseRoomID(s.Room)
	if err != nil || s.Code != pb.Code_CODE_FORBIDDEN {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	if r == nil || r.state == nil || r.Ended || r.Hub == d.account.Organization {
		return
	}
	_, err = call(ctx, d.home.Device.GetRoomLog, &pb.GetRoomLogRequest{Hub: r.Hub[:], Room: id[:], FromEpoch: r.state.Epoch(), Generation: r.Generation})
	if err != nil && wire.StatusOf(err).Code == pb.Code_CODE_UNKNOWN_ROOM {
		_ = d.endRoom(id) // else with the next message
	}
}

// resynced takes the hub's answer to our external Commit.
func (b *batch) resynced(r *room, st *pb.Status) {
	r.Resyncing = false
	switch {
	case st.Code == pb.Code_CODE_SEQUENCED && r.Uninvited != nil:
		r.Resynced = b.d.now() // cameInto says what it came into
	case st.Code == pb.Code_CODE_SEQUENCED:
		if r.Lost {
			r.Told = st.Seq // of what lies before, our own words are not known any more
		}
		r.Resynced, r.Behind, r.Lost = b.d.now(), false, false
		b.show(b.d.ofRoom(r, "resynced", "this device had fallen behind; what was said meanwhile is missing here"))
	case wire.ClassOf(st.Code) == wire.Temporary:
		return // tried again with the next visit
	default:
		// Not again within the hour, or when the hub says so.
		wait := wire.ResyncPerRoom
		if said := time.Duration(st.RetryMs) * time.Millisecond; said > 0 {
			wait = min(wait, said)
		}
		r.Resynced = b.d.now().Add(wait - wire.ResyncPerRoom)
		b.show(b.d.ofRoom(r, "not resynced", (&wire.StatusError{Status: st}).Error()))
	}
}

// ofRoom is something about a room, which it names.
func (d *Device) ofRoom(r *room, state, reason string) Shown {
	s := Shown{Event: "room", State: state, Room: r.ID.String(), RoomName: r.Name, Reason: reason, At: d.now()}
	if r.Name == "" && r.Peer != (memberKey{}) {
		s.To = d.nameOf(r.Peer)
	}
	return s
}

// ofRoomFrom is ofRoom with who has caused it.
func (d *Device) ofRoomFrom(r *room, state, from, reason string) Shown {
	s := d.ofRoom(r, state, reason)
	s.From = from
	return s
}
