package device

import (
	"context"
	"errors"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// Shown is one thing for people: a message, what became of a sent one, or something
// about a room.
type Shown struct {
	Event string `json:"event"` // message, edited, deleted, reaction, notice, request, room, identity, blocked, unreadable, expired, session
	ID    string `json:"id,omitempty"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
	// Own: it comes from another device of one's own.
	Own bool `json:"own,omitempty"`
	// Sent: it was said on this device, in a Timeline.
	Sent bool   `json:"sent,omitempty"`
	Text string `json:"text,omitempty"`
	// File is what a message brings, its caption in Text: File(ctx, ID) fetches it.
	File   *FileInfo `json:"file,omitempty"`
	State  string    `json:"state,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Why    string    `json:"why,omitempty"` // of what is unreadable: a word for Reason, unreadable.go
	Room   string    `json:"room,omitempty"`
	By     string    `json:"by,omitempty"`   // who caused it: an address, or an organization
	Role   string    `json:"role,omitempty"` // of who is new
	// RoomName is what the room calls itself, when it has more than two people.
	RoomName string `json:"room_name,omitempty"`
	ReplyTo  string `json:"reply_to,omitempty"` // message ID; Quote is how that one begins, as far as it is here
	Quote    string `json:"quote,omitempty"`
	// Mentions are the addresses of people in the room whom Text names.
	Mentions    []string `json:"mentions,omitempty"`
	MentionsYou bool     `json:"mentions_you,omitempty"`
	Edited      bool     `json:"edited,omitempty"`
	Deleted     bool     `json:"deleted,omitempty"` // by its sender
	// Expiring: the text lies apart and ends before the history does. Burns is how long
	// after it was shown first, Ends when, Gone that it has.
	Expiring bool      `json:"expiring,omitempty"`
	Burns    string    `json:"burns,omitempty"`
	Ends     time.Time `json:"ends,omitzero"`
	Gone     bool      `json:"gone,omitempty"`
	// Count is how many messages of a blocked member are not shown; with terms and agreement,
	// how many rooms are told the same, each in an event that follows at once.
	Count int       `json:"count,omitempty"`
	Seq   uint64    `json:"seq,omitempty"`
	At    time.Time `json:"at"`
}

// handle is session.Handler: it stores all that deliveries mean, each time in one transaction,
// and only then lets them be acknowledged. What cannot be taken yet waits: waits.go. Of gone
// numbers the node has nothing any more.
func (d *Device) handle(ctx context.Context, ds []*pb.Deliver, gone func(uint64) bool) (unread []session.Unread, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx = d.sparing(ctx)
	if err := d.askBlocked(ctx); err != nil {
		return nil, err
	}
	for left := ds; len(left) > 0; {
		n, err := d.take(ctx, left, gone)
		if err != nil {
			return nil, err
		}
		left = left[n:]
	}
	if err := d.tellChanges(); err != nil {
		return nil, err
	}
	return d.unreadOf(ds)
}

// take stores in one transaction what the first n of some deliveries mean: all, or those before
// one that has to wait.
func (d *Device) take(ctx context.Context, ds []*pb.Deliver, gone func(uint64) bool) (n int, err error) {
	b, mark, begun := d.newBatch(ctx), d.mark(), 0
	for i, x := range ds {
		over := func(seq uint64) bool { return seq < x.Seq && gone(seq) }
		if x.Seq <= mark {
			if !b.waits(x.Seq) {
				b.forget(over)
				continue // taken
			}
			x = d.endedMeanwhile(x)
		}
		err := errWaits
		if !b.comesAfter(x, gone) {
			err = b.deliver(x)
		}
		if errors.Is(err, errBehind) {
			// What came before is stored first: catching up works on stored rooms.
			if err := b.commit(mark); err != nil {
				return 0, err
			}
			b, begun = d.newBatch(ctx), i
			err = d.deliverBehind(ctx, b, x)
		}
		if waitsFor(ctx, err) {
			// What came before is stored without what this one may have begun.
			if i > begun {
				return d.take(ctx, ds[:i], gone)
			}
			b = d.newBatch(ctx)
		}
		switch {
		case waitsFor(ctx, err) || errors.Is(err, errWaits):
			if !b.wait(x) {
				b.giveUp(x, errGivenUp)
			}
		case err != nil && temporary(err):
			return 0, err // nothing was stored; it is delivered again
		case err != nil:
			b.lose(x, err)
			fallthrough
		default:
			b.waited(x.Seq)
		}
		b.forget(over)
		mark = max(mark, x.Seq)
	}
	failpoint("before-store")
	if err := b.commit(mark); err != nil {
		return 0, err
	}
	failpoint("after-store")
	return len(ds), nil
}

// lose notes a delivery that nobody reads here.
func (b *batch) lose(x *pb.Deliver, err error) {
	lost := session.Unread{Seq: x.Seq, Expired: errors.Is(err, errEnded)}
	if b.unread = append(b.unread, lost); !lost.Expired {
		b.takePlace(x)
		b.unreadable(x, err)
	}
}

// deliverBehind catches up with an entry's room and takes the entry then. Where the hub or the
// home node cannot be asked now, it says so. What else keeps the device from catching up loses
// the entry, and mend goes on later.
func (d *Device) deliverBehind(ctx context.Context, b *batch, x *pb.Deliver) error {
	core, err := wire.ParseCore(x.Envelope.Core)
	if err != nil {
		return err
	}
	id := wire.RoomID(core.Room)
	if err := d.catchUpNow(ctx, id); err != nil && (ctx.Err() != nil || errors.Is(err, session.ErrAway) || away(ctx, err)) {
		return err
	}
	if err = b.deliver(x); errors.Is(err, errBehind) {
		b.room(id).Behind = true
		b.touch(id)
	}
	return err
}

// temporary tells the errors after which the same delivery can be read later.
func temporary(err error) bool {
	var st *wire.StatusError
	return errors.As(err, &st) && wire.ClassOf(st.Status.Code) == wire.Temporary ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// mark is the highest mailbox number that has come. What waits below it is not stored.
func (d *Device) mark() (n uint64) {
	_ = d.vault.view(func(t *txn) (err error) { n, err = t.number(markName); return err })
	return n
}

func (b *batch) deliver(x *pb.Deliver) error {
	if x.Ended != nil && len(x.Ended.Room) == 32 {
		return b.endedThere(x.Ended)
	}
	if x.Envelope == nil {
		return errDamaged
	}
	core, err := wire.ParseCore(x.Envelope.Core)
	if err != nil {
		return err
	}
	switch core.Kind {
	case pb.Kind_KIND_WELCOME:
		return b.welcome(core)
	case pb.Kind_KIND_COMMIT, pb.Kind_KIND_PROPOSAL:
		return b.handshake(x.Envelope, core)
	case pb.Kind_KIND_APPLICATION:
		return b.message(x.Envelope, core)
	case pb.Kind_KIND_RESULT:
		return b.result(core)
	case pb.Kind_KIND_NOTICE:
		return b.notice(core)
	case pb.Kind_KIND_REQUEST:
		return b.request(core)
	case pb.Kind_KIND_MEMBER_KEY:
		return b.memberKey(core)
	case pb.Kind_KIND_COMPLAINT:
		return b.roomCase(core)
	case pb.Kind_KIND_AGREEMENT:
		return b.agreement(core)
	case pb.Kind_KIND_FORKED:
		return b.forkedThere(core)
	}
	return nil // a kind of later versions that concerns people not yet
}

// handshake processes a proposal or Commit.
func (b *batch) handshake(env *pb.Envelope, core *pb.EnvelopeCore) error {
	r := b.room(wire.RoomID(core.Room))
	if r == nil || r.state == nil {
		return nil // of a room that we are not in
	}
	over := r.Ended && (!r.Heard || core.Epoch > r.state.Epoch())
	switch {
	case core.Generation > r.Generation && !r.Ended && r.Uninvited == nil:
		return errGeneration
	case core.Generation != r.Generation, core.Epoch < r.state.Epoch(), over:
		// Of before the reset, or after one that this device comes into later, and finds it there;
		// processed before, from the room log; or of no meaning any more.
		if core.Generation <= r.Generation && b.advanceSeq(r, env.Seq) {
			b.chain(r, env)
		}
		return nil
	case core.Epoch > r.state.Epoch():
		return errBehind
	}
	err := b.process(r, env, core)
	if err != nil && !temporary(err) && !r.Ended && core.Kind == pb.Kind_KIND_COMMIT {
		b.cannotFollow(r, core, err)
	}
	return err
}

// policyError is a Commit that the room's policy forbids: its hub should not have let
// it through.
type policyError struct{ cause error }

func (e *policyError) Error() string {
	return "device: a Commit against the rules of the room: " + e.cause.Error()
}
func (e *policyError) Unwrap() error { return e.cause }

// cannotFollow notes that the room goes on without us: to be mended, or, when what we
// refused is against the room's rules, never. Coming back by external Commit would be
// accepting it.
func (b *batch) cannotFollow(r *room, core *pb.EnvelopeCore, err error) {
	b.touch(r.ID)
	b.accuse(r, core.Body, err)
	var against *policyError
	if !errors.As(err, &against) {
		r.Behind = true
		return
	}
	r.Stopped = against.Error()
	b.show(Shown{Event: "room", State: "stopped", Room: r.ID.String(), Reason: r.Stopped, At: b.d.now()})
}

func (b *batch) process(r *room, env *pb.Envelope, core *pb.EnvelopeCore) error {
	var next *group.State
	var effects *mls.Effects
	b.d.prefetchCommit(b.ctx, core.Body)
	err := b.d.withChains(b.ctx, func() (err error) {
		next, effects, err = r.state.Process(core.Body)
		return err
	})
	if err != nil {
		return err
	}
	if err := b.d.withChains(b.ctx, func() error { return b.checkProposal(r, effects) }); err != nil {
		return err
	}
	b.d.lookAfter(r.state.Public(), effects)
	if err := policy.Check(r.state.Public(), effects); err != nil {
		return &policyError{err}
	}
	r.sinceReturn(core.Epoch, env.Seq)
	if b.advanceSeq(r, env.Seq) {
		b.chain(r, env)
	}
	if effects.SelfRemoved && r.Ended {
		r.Heard = false
		b.touch(r.ID)
		return nil // told already
	}
	if effects.SelfRemoved && effects.External {
		// Our own coming back, whose answer we have lost with the keys of the epoch.
		r.Behind = true
		b.touch(r.ID)
		return nil
	}
	if effects.SelfRemoved {
		r.Ended = true
		b.touch(r.ID)
		if w := b.d.merged(b.d.rooms[r.ID]); w != nil {
			r.Into = w.ID
			return nil // left for the one that it was merged into
		}
		b.show(b.wentOurselves(r, effects))
		return nil
	}
	before := r.state.Public()
	r.state = next
	b.touch(r.ID)
	if effects.IsCommit {
		r.stepped(before, core.Body, false)
		b.renew = true
		if err := b.overtaken(r, core.Epoch); err != nil {
			return err
		}
		b.showChanges(r, before, effects)
		if effects.Sender.Type == mls.SenderMember {
			b.compareHeads(r, effects, before.Member(mls.LeafIndex(effects.Sender.Index)))
		}
		return b.rulesChanged(r, before, effects)
	}
	return nil
}

// message decrypts an application message.
func (b *batch) message(env *pb.Envelope, core *pb.EnvelopeCore) error {
	r := b.room(wire.RoomID(core.Room))
	if r == nil && b.refused(wire.RoomID(core.Room)) {
		return nil
	}
	if r == nil || r.state == nil {
		return errNotIn
	}
	if core.Generation != r.Generation {
		return errGeneration
	}
	if core.Epoch > r.state.Epoch() && !r.Ended {
		return errBehind
	}
	again := false
	r.sinceReturn(core.Epoch, env.Seq)
	switch {
	case b.advanceSeq(r, env.Seq):
		b.chain(r, env)
	case !r.fill(env.Seq):
		again = true
	}
	next, got, err := r.state.Decrypt(core.Body)
	if again && delivered(err) {
		return nil // the same entry in the same place
	}
	if err != nil {
		return err
	}
	if again {
		b.givenTwice(r, env)
	}
	r.state = next
	b.touch(r.ID)
	sender, err := wire.ParseCredential(got.Credential.Identity)
	if err != nil {
		return err
	}
	if err := b.d.checkSpeaker(sender); err != nil {
		return err
	}
	from := memberKey{sender.Organization, sender.Member}
	if b.d.hides(r, from) {
		b.hide(r, from)
		return nil
	}
	m, err := parseContent(wire.MemberURI(from.Org, from.Member), wire.RoomURI(r.Hub, r.ID), got.Data)
	if err != nil {
		return err
	}
	if err := checkTag(got.AAD, got.Data, m.salt); err != nil {
		return err
	}
	if m.Name != "" {
		b.named(r, from, m.Name)
		return nil
	}
	if from != b.d.ownKey() {
		m.evidence, m.context = evidenceOf(env, got, sender), got.Context
	}
	b.d.readMentions(r, &m)
	said := Shown{Event: "message", ID: m.ID.String(), From: b.d.nameOf(from), Own: from == b.d.ownKey(), To: b.toOf(r, from), Text: m.Text, Mentions: m.Mentions, MentionsYou: m.MentionsYou, Room: r.ID.String(), RoomName: r.Name,
		Seq: env.Seq, At: time.UnixMilli(env.AcceptedMs)}
	if m.ended(b.d.now().Unix()) {
		b.tooLate(r, from, m, said)
		return errEnded
	}
	b.take(r, from, m, said)
	return nil
}
