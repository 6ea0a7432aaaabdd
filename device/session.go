package device

import (
	"context"
	"errors"

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
	if err := l.d.finishCommitting(ctx); err != nil && !temporary(err) {
		return err
	}
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
		n, err := t.nextCounter()
		if err != nil {
			return err
		}
		o.Counter, o.Core = n, core
		changed := *r
		changed.state = next
		return errors.Join(changed.save(t, false), o.save(t), also(t))
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
			own, err := b.ownCommit(c, env.Seq, core)
			if err != nil {
				return err
			}
			if own {
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
	var counter uint64
	err = d.vault.update(func(t *txn) (err error) { counter, err = t.nextCounter(); return err })
	if err != nil {
		return err
	}
	st, err := d.submitCommit(ctx, r, counter, staged)
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
