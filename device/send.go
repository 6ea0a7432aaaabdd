package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

// SendOptions of one message.
type SendOptions struct {
	Expires time.Duration // how long nodes keep it undelivered; 0: wire.DefaultRetention
	// Wait is how long to wait for the hub's answer when another organization orders
	// the room; 0: DefaultWait.
	Wait time.Duration
	// Burn: the text is destroyed on every device so long after it was read there.
	// Until: it is destroyed then, read or not; with both, then at the latest.
	Burn  time.Duration
	Until time.Time
	// Plain: the text is no Markdown.
	Plain bool
	// Action says what the message does to the one that About names.
	Action Action
	About  MessageID

	file      *attachment // uploaded: SendFile
	uploading []byte      // key of its record, which goes when the message is stored
}

// Action is what a message is.
type Action int

// A text of its own, or one about another message. Edits and deletions stand for own
// messages only.
const (
	ActionSay Action = iota
	ActionReply
	ActionReact
	ActionEdit
	ActionDelete
	// ActionUnreact takes back a reaction to About: the one that the text names.
	ActionUnreact
)

// DefaultWait is how long Send waits for a hub elsewhere.
const DefaultWait = 5 * time.Second

// Progress is a step of a message on its way: queued, accepted, sequenced, refused; or "hub
// away": the home node is responsible for it, and the room's hub has not answered. "withheld"
// says of an organization in To, with Members, that it does not get the message now, and why
// in Reason (wire.AgreementSuspended …).
type Progress struct {
	Event    string    `json:"event"`
	ID       string    `json:"id"`
	To       string    `json:"to"`
	Room     string    `json:"room,omitempty"`
	Seq      uint64    `json:"seq,omitempty"`
	Deadline time.Time `json:"deadline"`
	Reason   string    `json:"reason,omitempty"`
	Members  []string  `json:"members,omitempty"`
	At       time.Time `json:"at"`
}

// Send sends a text to a member. It returns when the room's hub has sequenced it, or
// when the home node is responsible for it and the hub is not to be had within Wait;
// then it goes on by itself. A *wire.StatusError says why not.
func (d *Device) Send(ctx context.Context, to wire.Address, text string, o SendOptions, report func(Progress)) error {
	s, err := d.Sender(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Send(ctx, to, text, o, report)
}

// Sender sends over one session. One Send at a time.
type Sender struct{ l *link }

// Sender starts a session to send over; Close ends it. What is delivered meanwhile is
// stored, for the next Receive to show.
func (d *Device) Sender(ctx context.Context) (*Sender, error) {
	l, err := d.connectSession(ctx, false)
	if err != nil {
		return nil, err
	}
	return &Sender{l}, nil
}

// Close ends the session.
func (s *Sender) Close() { s.l.close() }

// Send is Device.Send over this session.
func (s *Sender) Send(ctx context.Context, to wire.Address, text string, o SendOptions, report func(Progress)) error {
	o, err := o.orDefault()
	if err != nil {
		return err
	}
	if err := o.checkText(text); err != nil {
		return err
	}
	id, err := s.l.d.queue(ctx, to, text, o)
	if asks(err) {
		return s.l.d.ask(to, text, o, report)
	}
	if err != nil {
		return err
	}
	return s.l.await(ctx, id, o.Wait, report)
}

// SendRoom is Send to a room that this device is in.
func (s *Sender) SendRoom(ctx context.Context, room wire.RoomID, text string, o SendOptions, report func(Progress)) error {
	o, err := o.orDefault()
	if err != nil {
		return err
	}
	var blob []byte // of a message that is deleted
	if o.Action == ActionDelete {
		blob = s.l.d.uploadOf(o.About)
	}
	id, err := s.l.d.queueRoom(room, text, o)
	if err != nil {
		return err
	}
	if blob != nil {
		_ = s.l.d.dropUpload(ctx, blob) // else its deadline ends it
	}
	return s.l.await(ctx, id, o.Wait, report)
}

// checkText refuses an empty text where there is nothing but a text.
func (o SendOptions) checkText(text string) error {
	if o.file != nil || o.Action == ActionDelete || o.Action == ActionUnreact || strings.TrimSpace(text) != "" {
		return nil
	}
	if o.Action == ActionEdit {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "an empty text: delete the message instead")
	}
	return wire.Refuse(pb.Code_CODE_MALFORMED, "an empty text: there is nothing to send")
}

func (o SendOptions) orDefault() (SendOptions, error) {
	if o.Expires <= 0 {
		o.Expires = wire.DefaultRetention
	}
	if o.Expires < time.Second || o.Expires > wire.RetentionCeiling {
		return o, wire.Refuse(pb.Code_CODE_MALFORMED, "a message expires after a second at least and 30 days at most")
	}
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	return o, nil
}

// queue stores a message with the room that it goes to.
func (d *Device) queue(ctx context.Context, to wire.Address, text string, o SendOptions) (id MessageID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.resolveSoon(ctx, to)
	if err != nil {
		return id, err
	}
	r, err := d.ensureRoom(ctx, m)
	if err != nil {
		return id, err
	}
	if err := d.queueAsked(r, to); err != nil { // what was written earlier goes first
		return id, err
	}
	return d.queueIn(r, to.String(), text, o)
}

// queueRoom stores a message for a room that exists.
func (d *Device) queueRoom(room wire.RoomID, text string, o SendOptions) (id MessageID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[d.view(room)]
	switch {
	case r == nil || r.state == nil:
		return id, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	case r.Ended:
		return id, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the room has ended, or this device was taken out of it")
	}
	return d.queueIn(r, d.titleOf(r), text, o)
}

// queueIn stores a message for a room, with what also writes in the same transaction.
func (d *Device) queueIn(r *room, to, text string, o SendOptions, also ...func(*txn) error) (id MessageID, err error) {
	if r.Leaving {
		return id, wire.Refuse(pb.Code_CODE_FORBIDDEN, "you are leaving this room")
	}
	if err := d.checkRoomPinned(r); err != nil {
		return id, err
	}
	m, err := d.compose(r, text, o)
	if err != nil {
		return id, err
	}
	encoded, id, err := newContent(wire.MemberURI(d.account.Organization, d.account.Member), wire.RoomURI(r.Hub, r.ID), m)
	if err != nil {
		return id, err
	}
	now := d.now()
	deadline := now.Add(d.lasting(r, o.Expires)).Unix()
	if !o.Until.IsZero() {
		deadline = min(deadline, o.Until.Unix())
	}
	if o.file != nil {
		deadline = min(deadline, o.file.Expires)
	}
	out := &outgoing{ID: id, Room: r.ID, Content: encoded, Deadline: deadline, Queued: now}
	// Encrypted at once when nothing waits before it: one transaction instead of two.
	return id, d.encryptWith(out, func(t *txn) error {
		if o.uploading != nil {
			if err := t.deleteState(o.uploading); err != nil {
				return err
			}
		}
		for _, f := range also {
			if err := f(t); err != nil {
				return err
			}
		}
		return t.putSent(d, out, m, Sent{ID: id.String(), To: to, Room: r.ID.String(), Text: text, At: now, Deadline: time.Unix(deadline, 0), State: "queued", Of: others(r),
			Burns: m.Expires.Relative, Reaction: m.Reaction, ReplyTo: replyTo(m), Mentions: m.Mentions})
	})
}

func replyTo(m message) string {
	if m.ReplyTo == nil {
		return ""
	}
	return m.ReplyTo.String()
}

// others is how many people besides us are in a room.
func others(r *room) int {
	if r.state == nil {
		return 0
	}
	return len(r.people()) - 1
}

// WaitingError is what kept a Send from an answer when its message is stored: it goes out
// with a later visit, until Deadline. Accepted: the home node has it, and it goes on by itself.
type WaitingError struct {
	ID       MessageID
	Deadline time.Time
	Accepted bool
	Cause    error
}

func (e *WaitingError) Error() string { return e.Cause.Error() + "\n  " + e.Waits() }

// Waits says what becomes of the message.
func (e *WaitingError) Waits() string {
	if e.Accepted {
		return "your node has the message, and it goes on by itself"
	}
	return "the message waits on this device and goes out with its next visit (entente receive, or send), until " +
		e.Deadline.Format("2006-01-02 15:04:05") + "; do not repeat it"
}

// Unwrap returns the cause.
func (e *WaitingError) Unwrap() error { return e.Cause }

// await submits what waits and reports what becomes of one message, and who does not get it.
// What keeps it from an answer comes as a *WaitingError.
func (l *link) await(ctx context.Context, id MessageID, wait time.Duration, report func(Progress)) error {
	err := l.follow(ctx, id, wait, report)
	s, o, e := l.d.sent(id)
	if err == nil {
		if e != nil {
			return e
		}
		return l.withheld(ctx, s, report)
	}
	var closed *session.CloseError
	revoked := wire.StatusOf(err).Code == pb.Code_CODE_REVOKED || errors.As(err, &closed) && closed.Code == session.CodeRevoked
	if e != nil || o == nil || revoked && !o.Accepted {
		return err // it has an end, or this device has
	}
	return &WaitingError{ID: id, Deadline: time.Unix(o.Deadline, 0), Accepted: o.Accepted, Cause: err}
}

func (l *link) follow(ctx context.Context, id MessageID, wait time.Duration, report func(Progress)) error {
	if err := l.submitWaiting(ctx); err != nil {
		return err
	}
	reported, attempts := "", 0
	var patience <-chan time.Time
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		s, o, err := l.d.sent(id)
		if err != nil {
			return err
		}
		if s.State != reported && s.State != "queued" && s.State != stateWaiting {
			l.report(s, reported, report)
			reported = s.State
		}
		switch {
		case s.State == "refused":
			l.d.lookWhetherIn(ctx, s)
			return refusedError(s)
		case o == nil:
			return nil
		case s.State == stateWaiting:
			return wire.Refuse(s.Code, "%s", strings.TrimPrefix(s.Reason, wire.CodeName(s.Code)+": "))
		}
		elsewhere, err := l.further(ctx, o, &attempts)
		if err != nil {
			return err
		}
		if elsewhere && patience == nil {
			patience = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.settled:
		case <-patience:
			if o.Core == nil {
				return l.d.behindError(o.Room)
			}
			report(Progress{Event: "hub away", ID: s.ID, To: s.To, Room: s.Room, Deadline: s.Deadline, Reason: l.d.hubAway(o.Room), At: l.d.now()})
			return nil
		case <-look.C:
			if l.away() {
				return wire.Refuse(pb.Code_CODE_UNREACHABLE, "the home node went away")
			}
		case why := <-l.trouble:
			if final(why) {
				return why
			}
		case err := <-l.ended:
			l.ended <- err
			return err
		}
	}
}

// further does what a message without an answer needs from us, and reports whether it is
// for others to answer now.
func (l *link) further(ctx context.Context, o *outgoing, attempts *int) (elsewhere bool, err error) {
	if o.Core != nil {
		return o.Accepted, nil
	}
	held, committing, err := l.heldBack(o.Room)
	if err != nil {
		return false, err
	}
	if l.d.stalled(o.Room) || committing {
		return true, nil
	}
	if *attempts++; *attempts > maxAttempts {
		return false, wire.Refuse(pb.Code_CODE_WRONG_EPOCH, "the room moved on %d times", maxAttempts)
	}
	return held, l.again(ctx, o)
}

// maxAttempts bounds how often one Send encrypts a message anew.
const maxAttempts = 8

// report says every step that lies between, so that sequenced implies accepted.
func (l *link) report(s *Sent, before string, report func(Progress)) {
	p := Progress{Event: s.State, ID: s.ID, To: s.To, Room: s.Room, Seq: s.Seq, Deadline: s.Deadline, Reason: s.Reason, At: l.d.now()}
	if s.State != "accepted" && s.State != "refused" && before == "" {
		first := p
		first.Event, first.Seq = "accepted", 0
		report(first)
	}
	report(p)
}

// again encrypts a message anew after wrongEpoch.
func (l *link) again(ctx context.Context, o *outgoing) error {
	if err := l.d.catchUpPast(ctx, o); err != nil {
		return err
	}
	return l.submitWaiting(ctx)
}

// catchUpPast catches up with a message's room that has not left the epoch of it.
func (d *Device) catchUpPast(ctx context.Context, o *outgoing) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.rooms[o.Room]; r == nil || r.state == nil || r.state.Epoch() > o.Epoch {
		return nil
	}
	return d.catchUp(ctx, o.Room)
}

// behindError says what a message in a room waits for.
func (d *Device) behindError(id wire.RoomID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	why := "a change of the room has to come first"
	if d.waitsIn(id) {
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, waitsReason)
	}
	if r := d.rooms[id]; r != nil && (r.Behind || r.Lost) {
		if at := d.back(r); !at.IsZero() {
			why = backText(at)
		}
	}
	return wire.Refuse(pb.Code_CODE_WRONG_EPOCH, "%s", why)
}

// stalled reports whether a room encrypts nothing for now.
func (d *Device) stalled(id wire.RoomID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[id]
	return r != nil && (r.stalled() || d.waitsIn(id))
}

// sent reads what is known of a message, and its outgoing record when it has one.
func (d *Device) sent(id MessageID) (*Sent, *outgoing, error) {
	d.mu.Lock() // a new state key may not come between
	defer d.mu.Unlock()
	s, o := &Sent{}, (*outgoing)(nil)
	err := d.vault.view(func(t *txn) error {
		id := t.sentAs(id)
		b, err := t.history(sentKey(id))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, s); err != nil {
			return err
		}
		if o, err = t.outgoing(id); errors.Is(err, errNoRecord) {
			o, err = nil, nil
		}
		return err
	})
	return s, o, err
}

// RefusedError is a message that was refused, with the reason that people read.
type RefusedError struct{ Sent Sent }

func (e *RefusedError) Error() string { return fmt.Sprintf("to %s: %s", e.Sent.To, e.Sent.Reason) }

// Unwrap returns the refusal as a *wire.StatusError, so that callers can act on it.
func (e *RefusedError) Unwrap() error {
	if e.Sent.Code == 0 {
		return nil
	}
	return &wire.StatusError{Status: &pb.Status{Code: e.Sent.Code, Detail: e.Sent.Reason}}
}

func refusedError(s *Sent) error { return &RefusedError{*s} }

// History lists what was shown before, oldest first.
func (d *Device) History() ([]Shown, error) {
	all, err := list(d, "m/", func(t *txn, s *Shown) error { d.asViewed(&s.Room, &s.Seq); return t.withText(s) })
	return slices.DeleteFunc(all, func(s Shown) bool { return s.stale() }), err
}

// Sent lists what this member sent and what became of it, oldest first.
func (d *Device) Sent() ([]Sent, error) {
	all, err := list(d, "s/", func(t *txn, s *Sent) error { d.asViewed(&s.Room, &s.Seq); return t.withSentText(s) })
	all = slices.DeleteFunc(all, func(s Sent) bool { return s.Hidden })
	slices.SortStableFunc(all, func(a, b Sent) int { return a.At.Compare(b.At) })
	return all, err
}

func list[T any](d *Device, prefix string, complete func(*txn, *T) error) ([]T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []T
	err := d.vault.view(func(t *txn) error {
		return t.eachHistory(prefix, func(_, v []byte) error {
			var x T
			if err := json.Unmarshal(v, &x); err != nil {
				return err
			}
			if err := complete(t, &x); err != nil {
				return err
			}
			out = append(out, x)
			return nil
		})
	})
	return out, err
}
