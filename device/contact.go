package device

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// asked is a text for somebody who has not accepted yet: sealed state record "ask/" ‖
// number. Nothing of it leaves the device before the recipient has accepted (FORMATS,
// Agreement): what goes out is a request that says who asks and nothing else.
type asked struct {
	To      string
	Text    string
	Options SendOptions
	Until   time.Time // the text is dropped then
	At      time.Time `json:",omitzero"`
}

// maxAsked bounds the texts that wait for people.
const maxAsked = 200

const askPrefix = "ask/"

// maxRequestBody bounds the body of a request: two IDs.
const maxRequestBody = 80

// asks reports whether an error says that the recipient has not accepted yet.
func asks(err error) bool {
	var st *wire.StatusError
	return errors.As(err, &st) && st.Status.Code == pb.Code_CODE_PENDING_CONSENT
}

// ask keeps a text until its recipient has accepted.
func (d *Device) ask(to wire.Address, text string, o SendOptions, report func(Progress)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := asked{To: to.String(), Text: text, Options: o, Until: d.now().Add(wire.RequestDeadline), At: d.now()}
	if !o.Until.IsZero() && o.Until.Before(a.Until) {
		a.Until = o.Until
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("device: a text that waits: %w", err)
	}
	err = d.vault.update(func(t *txn) error {
		count := 0
		if err := t.eachState(askPrefix, func(_, _ []byte) error { count++; return nil }); err != nil {
			return err
		}
		if count >= maxAsked {
			return wire.Refuse(pb.Code_CODE_FULL, "%d texts wait for people to accept: no more are kept", maxAsked)
		}
		n, err := t.number("asked")
		if err != nil {
			return err
		}
		return errors.Join(t.putState(binary.BigEndian.AppendUint64([]byte(askPrefix), n+1), raw), t.putNumber("asked", n+1))
	})
	if err != nil {
		return err
	}
	report(Progress{Event: "asked", To: to.String(), Deadline: a.Until, At: d.now(),
		Reason: "waits on this device until they accept; they see who asks and not the text"})
	return nil
}

// waitingTexts reads what waits for people, oldest first.
func (d *Device) waitingTexts() (keys [][]byte, texts []asked, err error) {
	err = d.vault.view(func(t *txn) error {
		return t.eachState(askPrefix, func(k, v []byte) error {
			var a asked
			if err := json.Unmarshal(v, &a); err != nil {
				return fmt.Errorf("device: a text that waits: %w", err)
			}
			keys, texts = append(keys, append([]byte(nil), k...)), append(texts, a)
			return nil
		})
	})
	return keys, texts, err
}

// StateAsked is the state of a text that waits for its recipient to accept.
const StateAsked = "waits for acceptance"

// Asked lists the texts that wait for people to accept, the oldest first, as what was sent
// is listed; they have no IDs yet.
func (d *Device) Asked() (out []Sent, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, texts, err := d.waitingTexts()
	for _, a := range texts {
		out = append(out, Sent{To: a.To, Text: a.Text, At: a.At, Deadline: a.Until, State: StateAsked})
	}
	return out, err
}

// Withdraw drops the texts that wait for somebody to accept, and returns how many there
// were; none is refused.
func (d *Device) Withdraw(to wire.Address) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, texts, err := d.waitingTexts()
	if err != nil {
		return 0, err
	}
	err = d.vault.update(func(t *txn) error {
		for i, a := range texts {
			if a.To != to.String() {
				continue
			}
			if err := t.deleteState(keys[i]); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err == nil && n == 0 {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "no text waits for %s to accept", to)
	}
	return n, err
}

// queueAsked moves what waited for a member into the room with them: each text once, in
// the order in which they were written.
func (d *Device) queueAsked(r *room, to wire.Address) error {
	keys, texts, err := d.waitingTexts()
	if err != nil {
		return err
	}
	for i, a := range texts {
		if a.To != to.String() {
			continue
		}
		if _, err := d.queueIn(r, a.To, a.Text, a.Options, func(t *txn) error { return t.deleteState(keys[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// askAgain asks once for each person that texts wait for. Who has accepted gets them;
// texts that have waited too long, or are refused for good, end with a word to their
// writer. One person who cannot be asked now holds nobody else up.
func (d *Device) askAgain(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, texts, err := d.waitingTexts()
	if err != nil {
		return err
	}
	result := make(map[string]error)
	for i, a := range texts {
		why, done := result[a.To]
		if d.now().After(a.Until) {
			why, done = wire.Refuse(pb.Code_CODE_DEADLINE_PASSED, "nobody accepted in time"), true
		}
		if !done {
			why = d.askFor(ctx, a.To)
			result[a.To] = why
		}
		if why == nil || asks(why) || temporary(why) {
			continue
		}
		var st *wire.StatusError
		if !errors.As(why, &st) {
			continue // ours to mend; it stays
		}
		err := d.vault.update(func(t *txn) error {
			return errors.Join(t.deleteState(keys[i]), t.show(Shown{Event: "request", State: "refused", To: a.To, Text: a.Text,
				Reason: wire.CodeName(st.Status.Code), At: d.now()}))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) askFor(ctx context.Context, address string) error {
	to, err := wire.ParseAddress(address)
	if err != nil {
		return err
	}
	m, err := d.resolve(ctx, to)
	if err != nil {
		return err
	}
	r, err := d.ensureRoom(ctx, m)
	if err != nil {
		return err
	}
	return d.queueAsked(r, to)
}

// askAgain is Device.askAgain in a session that stays.
func (l *link) askAgain(ctx context.Context) error {
	if err := l.d.askAgain(ctx); err != nil {
		return err
	}
	return l.submitWaiting(ctx)
}

// request shows who asks to write to this member, by certificates that stand; the text
// stays with them.
func (b *batch) request(core *pb.EnvelopeCore) error {
	var body pb.RequestBody
	if err := proto.Unmarshal(core.Body, &body); err != nil {
		return err
	}
	if len(body.ProtoReflect().GetUnknown()) > 0 || len(core.Body) > maxRequestBody { // who asks, and nothing else: no text, no picture
		return errors.New("device: a request for contact that says more than who asks")
	}
	org, e1 := wire.Bytes32(body.Organization)
	member, e2 := wire.Bytes32(body.Member)
	if err := errors.Join(e1, e2); err != nil {
		return errors.New("device: a request for contact that names nobody")
	}
	k := memberKey{org, member}
	m, err := b.d.chains.get(k)
	if err != nil {
		if m, err = b.d.fetch(b.ctx, k); err != nil {
			return err
		}
	}
	b.show(Shown{Event: "request", State: "asks", From: m.Address().String(), At: b.d.now()})
	return nil
}

// Contact is what this member has decided about another, or an organization.
type Contact struct {
	Address string    `json:"address"`
	State   string    `json:"state"` // pending, accepted, blocked
	Since   time.Time `json:"since"`
	By      string    `json:"by,omitempty"`     // the organization that has blocked, this one or a list's; empty: this member
	Hidden  int       `json:"hidden,omitempty"` // messages of them that this device has not shown

	Directory *Directory `json:"directory,omitempty"` // of a member
}

// Contacts lists whom this member has accepted or blocked, and who asks.
func (d *Device) Contacts(ctx context.Context) ([]Contact, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := call(ctx, d.home.Device.ListContacts, &pb.ListContactsRequest{})
	if err != nil {
		return nil, err
	}
	if err := d.takeBlocked(a.Contacts); err != nil {
		return nil, err
	}
	var out []Contact
	for _, c := range a.Contacts {
		entry := Contact{State: c.State, Since: time.Unix(c.SinceUnix, 0), By: c.By}
		org, err := wire.Bytes32(c.Organization)
		if err != nil {
			return nil, err
		}
		if member, err := wire.Bytes32(c.Member); err == nil {
			k := memberKey{org, member}
			if _, err := d.chains.get(k); err != nil {
				_, _ = d.fetch(ctx, k) // else its ID is shown
			}
			entry.Address = d.nameOf(k)
			g := d.directoryOf(k)
			entry.Directory = &g
		} else {
			entry.Address = d.pinnedName(org)
		}
		if c.State == "blocked" {
			who := memberKey{Org: org}
			if member, err := wire.Bytes32(c.Member); err == nil {
				who.Member = member
			}
			if err := d.vault.view(func(t *txn) (err error) { entry.Hidden, err = t.hiddenOf(who); return err }); err != nil {
				return nil, err
			}
		}
		out = append(out, entry)
	}
	return out, nil
}

// pinnedName is what an organization is called that this device has pinned.
func (d *Device) pinnedName(id wire.OrganizationID) string {
	name := id.String()
	_ = d.vault.view(func(t *txn) error {
		prefix := []byte(pinKey(""))
		c := t.tx.Bucket(metaBucket).Cursor()
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			var pinned wire.OrganizationID
			if err := t.metaJSON(string(k), &pinned); err == nil && pinned == id {
				name = string(k[len(prefix):])
			}
		}
		return nil
	})
	return name
}

// SetContact has the home node take what a member, or with an organization's name
// anybody there, sends to this one (accepted), refuse it (blocked), or decide nothing
// (none). An organization is known by name once this device has seen a member of it.
func (d *Device) SetContact(ctx context.Context, who, state string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	request := &pb.SetContactRequest{State: state}
	if to, err := wire.ParseAddress(who); err == nil {
		m, err := d.resolve(ctx, to)
		if err != nil {
			return err
		}
		request.Organization, request.Member = m.Organization.ID[:], m.ID[:]
	} else {
		var id wire.OrganizationID
		if err := d.vault.view(func(t *txn) error { return t.metaJSON(pinKey(who), &id) }); err != nil {
			return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "this device knows nobody at %s", who)
		}
		request.Organization = id[:]
	}
	_, err := call(ctx, d.home.Device.SetContact, request)
	d.blocked.asked = time.Time{} // and is asked for again before the next message
	return err
}
