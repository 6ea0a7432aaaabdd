package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// What members have decided about others (docs/protocol.md 7.7). One row for each pair,
// "nd/contact/" ‖ member ‖ organization ‖ other member (zeros: the whole organization).
const contactPrefix = "nd/contact/"

// The states of a contact. A pair without a row has decided nothing.
const (
	contactPending  = "pending"
	contactAccepted = "accepted"
	contactBlocked  = "blocked"
	contactNone     = "none" // takes a decision back
)

// maxContacts bounds the decisions of one member.
const maxContacts = 10_000

type contactRow struct {
	State string    `json:"state"`
	Since time.Time `json:"since"`
}

// contacts guards decisions and bounds requests. The counts of the last hour are those of the
// requests that are kept (recount), so that no restart gives an asker more.
type contacts struct {
	mu    sync.Mutex // held over a decision and its commit
	hours map[memberKey]hour
}

type hour struct {
	since time.Time
	count int
}

func newContacts() *contacts { return &contacts{hours: make(map[memberKey]hour)} }

// recount reads how many requests came in the last hour, after a start.
func (c *contacts) recount(s *store.Store, now time.Time) error {
	var after []byte
	for {
		rows, err := s.Scan([]byte(contactPrefix), after, contactPage)
		if err != nil {
			return fmt.Errorf("node: contacts: %w", err)
		}
		for _, kv := range rows {
			var row contactRow
			rest := kv.Key[len(contactPrefix):]
			if err := json.Unmarshal(kv.Value, &row); err != nil || len(rest) != 96 {
				return errors.Join(errors.New("node: a contact that does not parse"), err)
			}
			if age := now.Sub(row.Since); row.State == contactPending && age >= 0 && age < time.Hour {
				with := memberKey{wire.OrganizationID(rest[32:64]), wire.MemberID(rest[64:])}
				c.again(with, row.Since)
				c.again(memberKey{org: with.org}, row.Since)
			}
		}
		if len(rows) < contactPage {
			return nil
		}
		after = rows[len(rows)-1].Key
	}
}

// contactPage bounds the rows that are read at once.
const contactPage = 10_000

// again counts a request of before the start.
func (c *contacts) again(k memberKey, at time.Time) {
	h, known := c.hours[k]
	if !known && len(c.hours) >= maxContacts {
		return
	}
	if !known || at.Before(h.since) {
		h.since = at
	}
	h.count++
	c.hours[k] = h
}

func contactKey(of wire.MemberID, with memberKey) []byte {
	k := append([]byte(contactPrefix), of[:]...)
	return append(append(k, with.org[:]...), with.member[:]...)
}

// contact reads what a member has decided about another; a block of the whole
// organization goes before it.
func (n *Node) contact(of wire.MemberID, with memberKey) (contactRow, error) {
	whole, err := n.contactRow(contactKey(of, memberKey{org: with.org}))
	if err != nil || whole.State == contactBlocked {
		return whole, err
	}
	return n.contactRow(contactKey(of, with))
}

func (n *Node) contactRow(key []byte) (contactRow, error) {
	var row contactRow
	raw, err := n.store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return row, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &row)
	}
	if err != nil {
		return row, fmt.Errorf("node: a contact: %w", err)
	}
	return row, nil
}

func putContact(b *store.Batch, of wire.MemberID, with memberKey, state string, now time.Time) error {
	raw, err := json.Marshal(contactRow{state, now})
	if err == nil {
		b.Put(contactKey(of, with), raw)
	}
	return err
}

// consent refuses what a member of ours does not take, before anything is handed out:
// noConsent to whom it has blocked; pendingConsent, where the agreement asks for it, to
// whom it has not accepted. The first refusal of that kind is the request: it is kept and
// shown to the member.
func (n *Node) consent(ctx context.Context, of wire.MemberID, with memberKey) error {
	n.contacts.mu.Lock()
	defer n.contacts.mu.Unlock()
	row, err := n.contact(of, with)
	if err != nil {
		return err
	}
	now := n.clock.Now()
	switch {
	case row.State == contactBlocked:
		return wire.Refuse(pb.Code_CODE_NO_CONSENT, "")
	case row.State == contactAccepted || with.org == n.org.ID:
		return nil
	}
	agreement, err := n.fed.InForce(with.org, now)
	if err != nil || agreement.Terms.Contact != identity.ContactRequest {
		return err
	}
	if row.State != contactPending || now.Sub(row.Since) >= wire.RequestDeadline {
		if err := n.request(ctx, of, with, now); err != nil {
			return err
		}
	}
	return wire.Refuse(pb.Code_CODE_PENDING_CONSENT, "")
}

// request keeps a request for contact and puts it into the mailboxes of the member's
// devices. A member with too many of them is not told of more, and nobody learns that.
func (n *Node) request(ctx context.Context, of wire.MemberID, with memberKey, now time.Time) error {
	if n.dirHas(of) != nil {
		return nil // whoever asks for nobody learns it from the claim
	}
	if !n.contacts.allow(memberKey{with.org, with.member}, wire.RequestsPerSender, now) || !n.contacts.allow(memberKey{org: with.org}, wire.RequestsPerPartner, now) {
		return &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "too many requests for contact"), time.Hour)}
	}
	if full, err := n.pendingFull(of, now); err != nil || full {
		return err
	}
	body, err := proto.Marshal(&pb.RequestBody{Organization: with.org[:], Member: with.member[:]})
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_REQUEST,
		Room: make([]byte, 32), Deadline: now.Add(wire.RequestDeadline).Unix(), Body: body})
	if err != nil {
		return err
	}
	c, err := n.begin()
	if err != nil {
		return err
	}
	if err := putContact(&c.batch, of, with, contactPending, now); err != nil {
		c.abandon()
		return err
	}
	_, err = c.stage(mailbox.Delivery{Sender: "requests", Devices: n.devicesOf(of),
		Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}})
	if err != nil {
		c.abandon()
		return err
	}
	return c.commit(ctx)
}

// allow takes one from an hour's allowance. The table is bounded: when it is full of the
// current hour, strangers wait.
func (c *contacts) allow(k memberKey, limit int, now time.Time) bool {
	h, known := c.hours[k]
	if now.Sub(h.since) >= time.Hour {
		h = hour{since: now}
	}
	if h.count >= limit {
		return false
	}
	if !known && len(c.hours) >= maxContacts {
		for key, old := range c.hours {
			if now.Sub(old.since) >= time.Hour {
				delete(c.hours, key)
			}
		}
		if len(c.hours) >= maxContacts {
			return false
		}
	}
	h.count++
	c.hours[k] = h
	return true
}

func (n *Node) pendingFull(of wire.MemberID, now time.Time) (bool, error) {
	list, err := n.listContacts(of)
	if err != nil {
		return false, err
	}
	waiting := 0
	for _, c := range list {
		if c.State == contactPending && now.Sub(time.Unix(c.SinceUnix, 0)) < wire.RequestDeadline {
			waiting++
		}
	}
	return waiting >= wire.PendingRequests || len(list) >= maxContacts, nil
}

// listContacts lists what a member has decided and who asks.
func (n *Node) listContacts(of wire.MemberID) ([]*pb.Contact, error) {
	prefix := append([]byte(contactPrefix), of[:]...)
	rows, err := n.store.Scan(prefix, nil, maxContacts)
	if err != nil {
		return nil, err
	}
	var out []*pb.Contact
	for _, kv := range rows {
		rest := kv.Key[len(prefix):]
		var row contactRow
		if err := json.Unmarshal(kv.Value, &row); err != nil || len(rest) != 64 {
			return nil, fmt.Errorf("node: a contact that does not parse: %w", err)
		}
		c := &pb.Contact{Organization: bytes.Clone(rest[:32]), State: row.State, SinceUnix: row.Since.Unix()}
		if member := rest[32:]; !bytes.Equal(member, make([]byte, 32)) {
			c.Member = bytes.Clone(member)
		}
		out = append(out, c)
	}
	return out, nil
}

// setContact writes a member's decision. When it returns nil the decision is on stable
// storage, and every later claim is answered by it.
func (n *Node) setContact(ctx context.Context, of wire.MemberID, m *pb.SetContactRequest) error {
	org, err := wire.Bytes32(m.Organization)
	if err != nil {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(m.Organization))
	}
	with := memberKey{org: org}
	if len(m.Member) > 0 {
		if with.member, err = wire.Bytes32(m.Member); err != nil {
			return wire.Refuse(pb.Code_CODE_MALFORMED, "a member ID of %d bytes", len(m.Member))
		}
	}
	whole := with.member == wire.MemberID{}
	switch {
	case with.org == n.org.ID && (whole || with.member == of):
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "nobody blocks or accepts oneself or one's own organization")
	case m.State != contactAccepted && m.State != contactBlocked && m.State != contactNone, whole && m.State == contactAccepted:
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a decision that this node does not know")
	}
	n.contacts.mu.Lock()
	defer n.contacts.mu.Unlock()
	return n.writeContact(ctx, of, with, m.State)
}

// writeContact writes a row; contacts.mu is held.
func (n *Node) writeContact(ctx context.Context, of wire.MemberID, with memberKey, state string) error {
	var b store.Batch
	if state == contactNone {
		b.Delete(contactKey(of, with))
	} else {
		list, err := n.listContacts(of)
		if err != nil {
			return err
		}
		if len(list) >= maxContacts {
			return wire.Refuse(pb.Code_CODE_FULL, "%d decisions about others are kept at most", maxContacts)
		}
		if err := putContact(&b, of, with, state, n.clock.Now()); err != nil {
			return err
		}
	}
	_, err := n.store.Commit(ctx, &b)
	return err
}

// writesFirst notes that a member of ours writes to a partner's member, which is consent
// to the answer; whom it has blocked it does not write to.
func (n *Node) writesFirst(ctx context.Context, of wire.MemberID, with memberKey) error {
	n.contacts.mu.Lock()
	defer n.contacts.mu.Unlock()
	row, err := n.contact(of, with)
	switch {
	case err != nil || row.State == contactAccepted:
		return err
	case row.State == contactBlocked:
		return wire.Refuse(pb.Code_CODE_NO_CONSENT, "you have blocked them: entente contact unblock ADDRESS")
	}
	return n.writeContact(ctx, of, with, contactAccepted)
}

func (n *Node) dirHas(of wire.MemberID) error { _, err := n.dir.Get(of); return err }

// devicesOf lists a member's active devices.
func (n *Node) devicesOf(of wire.MemberID) []wire.DeviceID {
	m, err := n.dir.Get(of)
	if err != nil {
		return nil
	}
	var out []wire.DeviceID
	for id := range m.Devices {
		if n.active(id) {
			out = append(out, id)
		}
	}
	return out
}
