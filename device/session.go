package device

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// link is a running session with the home node.
type link struct {
	d         *Device
	client    *session.Client
	drained   chan struct{} // poked when the mailbox was empty
	trouble   chan error    // the last reason for not being connected
	settled   chan struct{} // poked when a submission was answered
	welcomed  chan struct{} // closed when the node has welcomed this device
	read      chan struct{} // closed when the mailbox was empty for the first time
	ended     chan error    // Run has returned
	stop      context.CancelFunc
	stays     bool                     // through outages
	downed    atomic.Int64             // when the connection was lost, Unix ns; 0: it is there
	proposals map[wire.RoomID][]uint64 // counters of our last ones to leave
	held      map[wire.RoomID]error    // why a Commit that messages wait for was not made
	asked     time.Time                // when the states of agreements were asked for; of whoever sends
	reporting []session.Unread         // what the last Hello said that nobody reads here; of the session's goroutine
	cursor    uint64                   // the highest mailbox number that has come in this connection; of the same
}

// How long a visit waits for a node that does not answer: at first, and for one that
// went away meanwhile.
const (
	homePatience = 10 * time.Second
	awayPatience = 30 * time.Second
)

// connectSession starts a session. One that stays waits for its node as long as it
// takes.
func (d *Device) connectSession(ctx context.Context, stays bool) (*link, error) {
	d.mu.Lock()
	d.blocked.asked = time.Time{}
	d.resolved = nil
	d.mu.Unlock()
	ctx, stop := context.WithCancel(ctx)
	l := &link{d: d, stays: stays, drained: make(chan struct{}, 1), trouble: make(chan error, 1), settled: make(chan struct{}, 1),
		welcomed: make(chan struct{}), read: make(chan struct{}), ended: make(chan error, 1), stop: stop,
		proposals: make(map[wire.RoomID][]uint64), held: make(map[wire.RoomID]error)}
	var err error
	l.client, err = d.home.Session(session.ClientOptions{
		Mark: d.acknowledged, Taken: d.taken, Unread: l.unreported, Handler: l.handle, GiveUp: d.giveUpWaiting, Welcomed: l.greeted,
		Drained: func() { l.emptied(); closeOnce(l.read); poke(l.drained) },
		State:   l.state,
	})
	if err != nil {
		stop()
		return nil, err
	}
	go func() { l.ended <- l.client.Run(ctx) }()
	return l, nil
}

// state notes that the session came about, or why it did not.
func (l *link) state(connected bool, why error) {
	switch {
	case connected:
		if l.downed.Swap(0) != 0 && l.stays {
			l.d.tellSession("online", nil)
		}
	case why != nil:
		if l.downed.CompareAndSwap(0, time.Now().UnixNano()) && l.stays {
			l.d.tellSession("offline", why)
		}
		select {
		case <-l.trouble:
		default:
		}
		l.trouble <- why
	}
}

// away reports whether the node has been gone for longer than a visit waits.
func (l *link) away() bool {
	since := l.downed.Load()
	return !l.stays && since != 0 && time.Since(time.Unix(0, since)) > awayPatience
}

// close ends the session and waits for it.
func (l *link) close() {
	l.stop()
	<-l.ended
}

// greeted is called for each connection; only before the first can the device have been
// set back.
func (l *link) greeted(submitMark uint64, clock time.Time) error {
	l.d.compareClock(clock)
	l.begins(clock)
	if err := l.reported(); err != nil {
		return err
	}
	select {
	case <-l.welcomed:
		return nil
	default:
	}
	err := l.d.welcomed(submitMark)
	if err == nil {
		close(l.welcomed)
	}
	return err
}

func (l *link) handle(ctx context.Context, ds []*pb.Deliver) ([]session.Unread, error) {
	unread, err := l.d.handle(ctx, ds, l.gone(ds))
	if err == nil {
		l.cursor = max(l.cursor, ds[len(ds)-1].Seq)
		poke(l.settled) // a result may be among them
	}
	return unread, err
}

// closeOnce is called by the session's one reader.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
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
	if err := l.ready(ctx); err != nil {
		return err
	}
	if err := l.hasRead(ctx); err != nil {
		return err
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if err := l.d.finishCommitting(ctx); err != nil && !temporary(err) {
		return err
	}
	if err := l.d.mend(l.d.sparing(ctx)); err != nil {
		return err
	}
	if err := l.d.checkAgreements(ctx); err != nil {
		return err
	}
	if err := l.d.tellChanges(); err != nil {
		return err
	}
	if err := l.d.announce(); err != nil {
		return err
	}
	if err := l.d.mergePairs(); err != nil {
		return err
	}
	if err := l.leave(ctx); err != nil {
		return err
	}
	waiting, err := l.submitAll(ctx)
	if err != nil {
		return err
	}
	if moved, err := l.commitBefore(ctx, waiting); err != nil || !moved {
		return err
	}
	_, err = l.submitAll(ctx)
	return err
}

// readPatience is how long this device reads before it writes.
const readPatience = 10 * time.Second

// hasRead waits until the mailbox is empty, or for a while: who writes first is told that
// the room has moved on, goes over to its epoch by the hub's log, and has no keys any more
// for what waits in the mailbox from several epochs before.
func (l *link) hasRead(ctx context.Context) error {
	timer := time.NewTimer(readPatience)
	defer timer.Stop()
	select {
	case <-l.read:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	case err := <-l.ended:
		l.ended <- err
		return err
	}
	return nil
}

// submitAll hands over every message that may be encrypted now, and lists what waits.
func (l *link) submitAll(ctx context.Context) ([]*outgoing, error) {
	waiting, err := l.d.waiting()
	if err != nil {
		return nil, err
	}
	for _, o := range waiting {
		if o.Accepted {
			continue // the hub's answer comes as a result
		}
		if err := l.d.encrypt(o); err != nil {
			if err := l.d.refuse(o, err); err != nil {
				return nil, err
			}
			poke(l.settled)
			continue
		}
		if o.Core == nil {
			continue // its room is stalled, or a Commit comes first
		}
		l.d.submitted = max(l.d.submitted, o.Counter)
		failpoint("before-submit")
		if err := l.client.Submit(ctx, o.Counter, o.Core, func(st *pb.Status) { l.answered(o, st) }); err != nil {
			return nil, err
		}
	}
	return waiting, nil
}

// refuse settles a message that this device itself will not send; other errors it
// returns.
func (d *Device) refuse(o *outgoing, why error) error {
	var st *wire.StatusError
	if !errors.As(why, &st) || wire.ClassOf(st.Status.Code) == wire.Temporary {
		return why
	}
	return d.vault.update(func(t *txn) error {
		_, err := d.settled(t, o.ID, o.Counter, st.Status)
		return err
	})
}

// encrypt gives a message its counter and bytes, and stores both with the advanced
// ratchet; in a stalled room, and where a Commit comes first, it stays as it is.
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
	if r.Stopped != "" && r.Accuse == nil {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s", r.Stopped)
	}
	if err := d.checkRoomPinned(r); err != nil {
		return err // who came while the message waited
	}
	comesLater := r.stalled() || d.waitsIn(r.ID) || r.mustCommit() || d.holdsFormer(r)
	if !comesLater && r.Peer != (memberKey{}) && !r.holds(r.Peer) {
		if comesLater = d.merged(r) != nil; !comesLater { // else it is moved: mergePairs
			return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "%s has left the room while this was written, and would not get it: send it again, and a new room is made", d.nameOf(r.Peer))
		}
	}
	if comesLater {
		return d.vault.update(func(t *txn) error { return errors.Join(o.save(t), also(t)) })
	}
	tag, err := tagOf(o.Content)
	if err != nil {
		return err
	}
	next, body, err := r.state.Encrypt(tag, o.Content, padTo(len(o.Content)))
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
		Room: r.ID[:], Generation: r.Generation, Epoch: r.state.Epoch(), Deadline: o.Deadline, Body: body, Seen: r.Seq})
	if err != nil {
		return err
	}
	err = d.vault.update(func(t *txn) error {
		n, err := t.nextCounter()
		if err != nil {
			return err
		}
		o.Counter, o.Core, o.Epoch = n, core, r.state.Epoch()
		changed := *r
		changed.state = next
		return errors.Join(changed.save(t), o.save(t), also(t))
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
			if _, err := l.d.settled(t, o.ID, o.Counter, st); err != nil || !ours {
				return err
			}
			c := *r
			c.Seq = st.Seq
			return c.save(t)
		})
		if err == nil && ours {
			r.Seq = st.Seq
		}
		// On an error the message stays as it was, and is submitted again later: the
		// node answers with its first result.
		poke(l.settled)
	}()
}

// Revoke ends another device of this member: the member key signs, and is replaced, for the
// other device knows it.
func (d *Device) Revoke(ctx context.Context, device wire.DeviceID) error {
	if err := d.checkKey(ctx); err != nil {
		return err
	}
	note, err := identity.SignRevocation(identity.Revocation{Organization: d.account.Organization, Member: d.account.Member,
		Device: device, Issued: d.now(), By: "member"}, d.account.OrgName, d.account.MemberKey)
	if err != nil {
		return err
	}
	if err := d.acts(func(a *ownActs) { a.Devices = append(a.Devices, device) }); err != nil {
		return err
	}
	if _, err = call(ctx, d.home.Device.RevokeDevice, &pb.RevokeDeviceRequest{Revocation: note}); err != nil || device == d.ID() {
		return err
	}
	failpoint("revoked")
	a, err := d.Account(ctx)
	if err == nil {
		err = d.learnOwn(a.Chain)
	}
	if err == nil {
		err = d.settleKey(ctx)
	}
	if err != nil {
		return fmt.Errorf("the device is revoked; your key is not yet replaced, which the next visit does: %w", err)
	}
	return nil
}
