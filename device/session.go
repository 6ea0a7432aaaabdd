package device

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// link is a running session with the home node.
type link struct {
	d       *Device
	client  *session.Client
	drained chan struct{} // poked when the mailbox was empty
	trouble chan error    // the last reason for not being connected
	settled chan struct{} // poked when a submission was answered
	ended   chan error    // Run has returned
	stop    context.CancelFunc
}

// connectSession starts a session and hands over what waits.
func (d *Device) connectSession(ctx context.Context) (*link, error) {
	ctx, stop := context.WithCancel(ctx)
	l := &link{d: d, drained: make(chan struct{}, 1), trouble: make(chan error, 1), settled: make(chan struct{}, 1), ended: make(chan error, 1), stop: stop}
	var err error
	l.client, err = d.home.Session(session.ClientOptions{
		Mark: d.mark, Handler: l.handle,
		Drained: func() { poke(l.drained) },
		State: func(connected bool, why error) {
			if !connected && why != nil {
				select {
				case <-l.trouble:
				default:
				}
				l.trouble <- why
			}
		},
	})
	if err != nil {
		stop()
		return nil, err
	}
	go func() { l.ended <- l.client.Run(ctx) }()
	return l, nil
}

// close ends the session and waits for it.
func (l *link) close() {
	l.stop()
	<-l.ended
}

func (l *link) handle(ctx context.Context, ds []*pb.Deliver) ([]uint64, error) {
	unreadable, err := l.d.handle(ctx, ds)
	if err == nil {
		poke(l.settled) // a result may be among them
	}
	return unreadable, err
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// submitWaiting encrypts what is queued and hands over everything without an answer,
// in the order of the counters. Each ratchet and counter is stored before its bytes
// leave.
func (l *link) submitWaiting(ctx context.Context) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	waiting, err := l.d.waiting()
	if err != nil {
		return err
	}
	for _, o := range waiting {
		if o.Accepted {
			continue // the hub's answer comes as a result
		}
		if err := l.d.encrypt(o); err != nil {
			return err
		}
		failpoint("before-submit")
		if err := l.client.Submit(ctx, o.Counter, o.Core, func(st *pb.Status) { l.answered(o, st) }); err != nil {
			return err
		}
	}
	return nil
}

// encrypt gives a message its counter and bytes, and stores both with the advanced
// ratchet.
func (d *Device) encrypt(o *outgoing) error {
	if o.Core != nil {
		return nil
	}
	return d.encryptWith(o, func(*txn) error { return nil })
}

func (d *Device) encryptWith(o *outgoing, also func(*txn) error) error {
	r := d.rooms[o.Room]
	if r == nil || r.state == nil || r.Ended {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in the room any more")
	}
	next, body, err := r.state.Encrypt(nil, o.Content, padTo(len(o.Content)))
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
		Room: r.ID[:], Generation: r.Generation, Epoch: r.state.Epoch(), Deadline: o.Deadline, Body: body})
	if err != nil {
		return err
	}
	err = d.vault.update(func(t *txn) error {
		n, err := t.number(counterName)
		if err != nil {
			return err
		}
		o.Counter, o.Core = n+1, core
		changed := *r
		changed.state = next
		return errors.Join(t.putNumber(counterName, n+1), changed.save(t, false), o.save(t), also(t))
	})
	if err == nil {
		r.state = next
	}
	return err
}

// answered notes the node's status of a submission.
func (l *link) answered(o *outgoing, st *pb.Status) {
	go func() {
		l.d.mu.Lock()
		defer l.d.mu.Unlock()
		r := l.d.rooms[o.Room]
		ours := r != nil && st.Seq > 0 && st.Seq == r.Seq+1
		err := l.d.vault.update(func(t *txn) error {
			if _, err := l.d.settled(t, o.Counter, st, o); err != nil || !ours {
				return err
			}
			c := *r
			c.Seq = st.Seq
			return c.save(t, false)
		})
		if err == nil && ours {
			r.Seq = st.Seq
		}
		// On an error the message stays as it was, and is submitted again later: the
		// node answers with its first result.
		poke(l.settled)
	}()
}

// catchUp processes the handshakes that this device has missed, from the room log at
// the hub.
func (d *Device) catchUp(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	if r == nil || r.state == nil {
		return nil
	}
	for {
		a, err := call(ctx, d.home.Device.GetRoomLog, &pb.GetRoomLogRequest{Hub: r.Hub[:], Room: id[:], FromEpoch: r.state.Epoch()})
		if err != nil {
			return err
		}
		b := &batch{d: d, ctx: ctx, rooms: make(map[wire.RoomID]*room), changed: make(map[wire.RoomID]bool)}
		before := r.state.Epoch()
		for _, env := range a.Handshakes {
			core, err := wire.ParseCore(env.Core)
			if err != nil {
				return err
			}
			c := b.room(id)
			if core.Epoch != c.state.Epoch() || c.Ended {
				continue
			}
			if err := b.processLogged(c, core); err != nil {
				return d.resync(ctx, id)
			}
		}
		if err := b.commit(d.mark()); err != nil {
			return err
		}
		r = d.rooms[id]
		if !a.More || r.state.Epoch() == before {
			return nil
		}
	}
}

// processLogged is process without the place in the sequence: the same entry is
// still to be delivered.
func (b *batch) processLogged(r *room, core *pb.EnvelopeCore) error {
	seq := r.Seq
	err := b.process(r, &pb.Envelope{Seq: seq}, core)
	return err
}

// resync comes back into a room by an external Commit that replaces our own leaf,
// at most once per room and hour (docs/protocol.md 7.2). What was said meanwhile is
// a gap that is named.
func (d *Device) resync(ctx context.Context, id wire.RoomID) error {
	r := d.rooms[id]
	if d.now().Sub(r.Resynced) < wire.ResyncPerRoom {
		return wire.Refuse(pb.Code_CODE_RATE_LIMITED, "the room was resynced within the last hour")
	}
	a, err := call(ctx, d.home.Device.GetGroupInfo, &pb.GetGroupInfoRequest{Hub: r.Hub[:], Room: id[:]})
	if err != nil {
		return err
	}
	var staged *group.Staged
	err = d.withChains(ctx, func() (err error) {
		p := group.ExternalParams{Credential: d.credential()}
		if r.state != nil {
			own := r.state.OwnLeaf()
			p.Resync = &own
		}
		staged, err = group.ExternalJoin(d.config(), a.Answer.GetGroupInfo(), a.Answer.GetTree(), p)
		return err
	})
	if err != nil {
		return err
	}
	next, err := staged.Apply(nil)
	if err != nil {
		return err
	}
	st, err := d.submitCommit(ctx, r, staged.Epoch()-1, staged)
	if err != nil {
		return err
	}
	if err := wire.Err(st); err != nil {
		return err
	}
	c := *r
	c.state, c.Resynced, c.Committing = next, d.now(), 0
	c.Seq = max(c.Seq, st.Seq)
	err = d.vault.update(func(t *txn) error {
		return errors.Join(c.save(t, true), t.show(Shown{Event: "room", State: "resynced", Room: id.String(), At: d.now(),
			Reason: "this device had fallen behind; what was said meanwhile is missing here"}))
	})
	if err == nil {
		d.rooms[id] = &c
		err = d.vault.rotate()
	}
	return err
}

// submitCommit hands a Commit with its bundle over under the next counter.
func (d *Device) submitCommit(ctx context.Context, r *room, epoch uint64, s *group.Staged) (*pb.Status, error) {
	var counter uint64
	err := d.vault.update(func(t *txn) error {
		n, err := t.number(counterName)
		counter = n + 1
		return errors.Join(err, t.putNumber(counterName, counter))
	})
	if err != nil {
		return nil, err
	}
	r.Committing = counter
	a, err := call(ctx, d.home.Device.SubmitCommit, &pb.SubmitCommitRequest{Counter: counter, Room: r.ID[:], Generation: r.Generation, Epoch: epoch,
		Bundle: &pb.Bundle{Commit: s.Commit, Welcome: s.Welcome, GroupInfo: s.GroupInfo, Tree: s.Tree}})
	if err != nil {
		return nil, err
	}
	return a.Status, nil
}

// commitPending commits the hub's proposals, after a short random wait so that not
// every device does it at once (FORMATS, Removal).
func (d *Device) commitPending(ctx context.Context) error {
	if !d.hasPending() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(5 * time.Second)):
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting, err := d.waiting()
	if err != nil || len(waiting) > 0 {
		return err // counters are taken in order: later
	}
	for id, r := range d.rooms {
		if r.state == nil || r.Ended || r.Committing > 0 || len(r.state.Public().PendingRefs()) == 0 {
			continue
		}
		if err := d.commitRoom(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) hasPending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rooms {
		if r.state != nil && !r.Ended && r.Committing == 0 && len(r.state.Public().PendingRefs()) > 0 {
			return true
		}
	}
	return false
}

// commitRoom commits the proposals received in a room. The staged Commit is stored
// before it leaves; both states are kept until the hub has answered.
func (d *Device) commitRoom(ctx context.Context, id wire.RoomID) error {
	r := *d.rooms[id]
	var staged *group.Staged
	err := d.withChains(ctx, func() (err error) {
		r.state, staged, err = d.rooms[id].state.Stage(group.CommitParams{ByReference: true})
		return err
	})
	if err != nil {
		return err
	}
	err = d.vault.update(func(t *txn) error {
		return errors.Join(r.save(t, true), t.putState(roomKey("stage/", id), staged.Marshal()))
	})
	if err != nil {
		return err
	}
	failpoint("staged")
	st, err := d.submitCommit(ctx, &r, r.state.Epoch(), staged)
	if err != nil {
		return err
	}
	d.rooms[id] = &r
	b := &batch{d: d, ctx: ctx, rooms: make(map[wire.RoomID]*room), changed: make(map[wire.RoomID]bool)}
	if err := b.committed(b.room(id), st); err != nil {
		return err
	}
	return b.commit(d.mark())
}

// committed takes the hub's answer to a Commit of ours: applied, dropped, or still
// to come.
func (b *batch) committed(r *room, st *pb.Status) error {
	if st.Code == pb.Code_CODE_ACCEPTED {
		b.touch(r.ID, false)
		return nil
	}
	var raw []byte
	err := b.d.vault.view(func(t *txn) (err error) { raw, err = t.state(roomKey("stage/", r.ID)); return err })
	r.Committing = 0
	b.touch(r.ID, true)
	if errors.Is(err, errNoRecord) {
		return nil
	}
	if err != nil {
		return err
	}
	b.writes = append(b.writes, func(t *txn) error { return t.deleteState(roomKey("stage/", r.ID)) })
	if st.Code != pb.Code_CODE_SEQUENCED {
		return nil // another Commit was first; it is on its way to us
	}
	staged, err := group.UnmarshalStaged(b.d.config(), raw)
	if err != nil {
		return err
	}
	if r.state, err = staged.Apply(r.state); err != nil {
		return err
	}
	b.advanceSeq(r, st.Seq)
	b.renew = true
	return nil
}

// Revoke ends another device of this member: the member key signs.
func (d *Device) Revoke(ctx context.Context, device wire.DeviceID) error {
	note, err := identity.SignRevocation(identity.Revocation{Organization: d.account.Organization, Member: d.account.Member,
		Device: device, Issued: d.now(), By: "member"}, d.account.OrgName, d.account.MemberKey)
	if err != nil {
		return err
	}
	_, err = call(ctx, d.home.Device.RevokeDevice, &pb.RevokeDeviceRequest{Revocation: note})
	return err
}
