package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// A hub cannot see all of a Commit (RFC 9420 §16.12). Devices that cannot apply one that it
// has taken complain; from the first complaint on it takes no Commit of the accused device
// in that generation, unless as many members vouch that they have applied it. What follows
// from more complaints stands in reset.go (docs/protocol.md 7.10).
//
// Rows: "nd/case/" ‖ room ID; value: JSON caseRow.
const casePrefix = "nd/case/"

// caseRow is what is open in a room's generation, and when it was reset lately.
type caseRow struct {
	Version    int         `json:"version"`
	Generation uint32      `json:"generation"`
	Cases      []*roomCase `json:"cases,omitempty"`
	Resets     []int64     `json:"resets,omitempty"` // ms
}

const caseRowVersion = 1

// maxCases is how many cases are kept about Commits that are not among the last
// wire.ComplaintCommits any more.
const maxCases = wire.ComplaintCommits

// roomCase is what is said about one Commit.
type roomCase struct {
	Epoch      uint64          `json:"epoch"` // that the Commit ends
	Commit     [32]byte        `json:"commit"`
	Accused    identity.Author `json:"accused"`
	Complaints []heldComplaint `json:"complaints"`
	Vouched    []policy.Person `json:"vouched,omitempty"`
	Last       int64           `json:"last"`            // ms, of the first complaint or the last Commit since
	Since      int64           `json:"since,omitempty"` // ms, when another member's complaint confirmed the first
}

type heldComplaint struct {
	By   identity.Author `json:"by"`
	Note string          `json:"note"`
}

// upheld: more members complain than vouch.
func (k *roomCase) upheld() bool { return len(k.Complaints) > len(k.Vouched) }

// due says since when a reset may be made, and whether it may now: another member has
// confirmed the complaint, or nobody commits or vouches for so long.
func (k *roomCase) due(now time.Time, patience time.Duration) (int64, bool) {
	if !k.upheld() {
		return 0, false
	}
	if len(k.Complaints) > 1 {
		at := k.Since + min(wire.ResetConfirm, patience).Milliseconds()
		return at, now.UnixMilli() >= at
	}
	at := k.Last + patience.Milliseconds()
	return at, len(k.Vouched) == 0 && now.UnixMilli() >= at
}

func (k *roomCase) complains(p policy.Person) bool {
	return slices.ContainsFunc(k.Complaints, func(h heldComplaint) bool { return seatOf(h.By).Person == p })
}

// caseOf reads what is open in a room's generation.
func (n *Node) caseOf(d *draft) (*caseRow, error) {
	row := &caseRow{Version: caseRowVersion, Generation: d.row.Generation}
	b, err := n.store.Get(roomKey(casePrefix, d.id))
	if errors.Is(err, store.ErrNotFound) {
		return row, nil
	}
	if err == nil {
		err = json.Unmarshal(b, row)
	}
	if err != nil || row.Version != caseRowVersion {
		return nil, fmt.Errorf("node: the complaints of room %s: %w", d.id, errors.Join(err, errors.New("another version")))
	}
	if row.Generation != d.row.Generation {
		row.Generation, row.Cases = d.row.Generation, nil
	}
	return row, nil
}

func (c *change) putCase(d *draft, row *caseRow) error {
	b, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("node: the complaints of a room: %w", err)
	}
	c.batch.Put(roomKey(casePrefix, d.id), b)
	return nil
}

func (r *caseRow) find(commit [32]byte) *roomCase {
	for _, k := range r.Cases {
		if k.Commit == commit {
			return k
		}
	}
	return nil
}

// complain takes a complaint of a device of ours: for the room's hub here, or elsewhere.
func (n *Node) complain(ctx context.Context, device wire.DeviceID, m *pb.ComplainRequest) *pb.Status {
	id, err := wire.Bytes32(m.Room)
	if err != nil {
		return wire.Status(pb.Code_CODE_MALFORMED, "a room ID of %d bytes", len(m.Room))
	}
	said, err := identity.VerifyComplaint(m.Complaint)
	if err != nil || said.Room != id || said.By() != (identity.Author{Organization: n.org.ID, Member: n.memberOf(device), Device: device}) {
		return wire.Status(pb.Code_CODE_MALFORMED, "a complaint that does not stand, or of another device or room")
	}
	if wait, ok := n.complains.device(device); !ok {
		return wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "a device complains %d times an hour at most", wire.ComplaintsPerDevice), wait)
	}
	body, err := proto.Marshal(&pb.ComplaintBody{Complaint: m.Complaint})
	if err != nil {
		return wire.StatusOf(err)
	}
	return n.toHub(ctx, device, id, pb.Kind_KIND_COMPLAINT, said.Generation, said.Epoch, body, func(c *change, d *draft) error {
		return c.takeComplaint(d, n.org.ID, m.Complaint)
	})
}

// publishGroupInfo takes a GroupInfo of a device of ours for the room's hub.
func (n *Node) publishGroupInfo(ctx context.Context, device wire.DeviceID, m *pb.PublishGroupInfoRequest) *pb.Status {
	id, err := wire.Bytes32(m.Room)
	if err != nil || len(m.GroupInfo) == 0 || len(m.GroupInfo) > wire.MaxWelcome {
		return wire.Status(pb.Code_CODE_MALFORMED, "a room ID of %d bytes or a GroupInfo of %d", len(m.Room), len(m.GroupInfo))
	}
	if wait, ok := n.complains.device(device); !ok {
		return wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)
	}
	return n.withChains(ctx, func() *pb.Status {
		return n.toHub(ctx, device, id, pb.Kind_KIND_RESYNC, m.Generation, m.Epoch, m.GroupInfo, func(c *change, d *draft) error {
			return c.takeGroupInfo(d, n.org.ID, m.GroupInfo)
		})
	})
}

// epochOf reads the epoch of a GroupInfo that is not verified yet.
func epochOf(info []byte) (uint64, bool) {
	m, err := mls.ParseMessage(info)
	if err != nil || m.GroupInfo == nil {
		return 0, false
	}
	return m.GroupInfo.Context.Epoch, true
}

// toHub hands control of a device of ours to the room's hub: take, where that is us.
func (n *Node) toHub(ctx context.Context, device wire.DeviceID, id wire.RoomID, kind pb.Kind, generation uint32, epoch uint64, body []byte, take func(*change, *draft) error) *pb.Status {
	if n.store.Status().Recovering {
		return wire.Status(pb.Code_CODE_RECOVERING, "")
	}
	c, err := n.begin(id)
	if err != nil {
		return wire.StatusOf(err)
	}
	d := c.room(id)
	switch {
	case !d.known:
		err = wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
	case d.group != nil:
		err = take(c, d)
	case !d.holds(device):
		err = wire.Refuse(pb.Code_CODE_FORBIDDEN, "this device is not in the room")
	default:
		err = c.forwardControl(d, kind, generation, epoch, body)
	}
	if err != nil {
		c.abandon()
		return wire.StatusOf(err)
	}
	if err := c.commit(ctx); err != nil {
		return wire.StatusOf(err)
	}
	return wire.Status(pb.Code_CODE_ACCEPTED, "")
}

func (c *change) forwardControl(d *draft, kind pb.Kind, generation uint32, epoch uint64, body []byte) error {
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: kind, Room: d.id[:],
		Generation: generation, Epoch: epoch, Deadline: c.n.clock.Now().Add(wire.NoticeDeadline).Unix(), Body: body})
	if err != nil {
		return err
	}
	staged, err := c.stage(mailbox.Delivery{Sender: "complaints", Partners: []wire.OrganizationID{d.row.Hub},
		Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}})
	if err == nil && staged.Accepted() == 0 {
		c.forget(staged)
		return &wire.StatusError{Status: firstRefusal(staged)}
	}
	return err
}

// takeComplaint judges a complaint about a Commit in a room that is ordered here. From is
// the organization of who complains.
func (c *change) takeComplaint(d *draft, from wire.OrganizationID, note string) error {
	said, err := identity.VerifyComplaint(note)
	if err != nil || said.Room != d.id || said.Organization != from {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a complaint that does not stand, or of another organization or room")
	}
	if said.Generation != d.row.Generation {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "a complaint about another generation of the room")
	}
	made, base, err := c.n.baseOf(d, said.Commit)
	if err != nil {
		return err
	}
	accused := made.Author
	if said.Reason == identity.ReasonExternal {
		accused = made.BaseBy
	}
	switch {
	case made.Step.Epoch != said.Epoch || accused != said.Accused || accused.Device.IsZero():
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a complaint about somebody who did not make the Commit")
	case !base.Has(seatOf(said.By())):
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a complaint of a device that was not in the room")
	}
	if _, err := base.Next(seatOf(accused)); err != nil {
		return err // a room of two
	}
	row, err := c.n.caseOf(d)
	if err != nil {
		return err
	}
	now := c.n.clock.Now().UnixMilli()
	k := row.find(said.Commit)
	switch {
	case k == nil:
		if err := c.n.forgetCases(d, row); err != nil {
			return err
		}
		k = &roomCase{Epoch: said.Epoch, Commit: said.Commit, Accused: accused, Last: now}
		row.Cases = append(row.Cases, k)
	case k.Accused != accused:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "others accuse somebody else of this Commit")
	case k.complains(seatOf(said.By()).Person), len(k.Complaints) >= wire.ComplaintsKept:
		return nil // one of each member
	}
	k.Complaints = append(k.Complaints, heldComplaint{said.By(), note})
	// Who complains takes back what they had vouched for.
	k.Vouched = slices.DeleteFunc(k.Vouched, func(p policy.Person) bool { return p == seatOf(said.By()).Person })
	if len(k.Complaints) == 2 {
		k.Since = now
	}
	if err := c.putCase(d, row); err != nil {
		return err
	}
	c.n.log.Info("a Commit is complained about", "room", d.id, "epoch", said.Epoch, "device", said.Device, "accused", accused.Device, "complaints", len(k.Complaints))
	if len(k.Complaints) > 2 {
		return nil // everybody was told
	}
	return c.tell(d, base.Seats, c.n.describe(k, base, d.row.Generation))
}

// forgetCases makes room for another case: what is open about the last Commits stays, and of
// those before them what stops somebody, the newest. So there is always a place for a complaint
// about one of the last, however much was complained about before.
func (n *Node) forgetCases(d *draft, row *caseRow) error {
	last, err := n.commits(d)
	if err != nil {
		return err
	}
	var open, past []*roomCase
	for _, k := range row.Cases {
		switch {
		case slices.ContainsFunc(last, func(r commitRecord) bool { return r.Step.Commit == k.Commit }):
			open = append(open, k)
		case k.upheld():
			past = append(past, k)
		}
	}
	row.Cases = append(past[max(0, len(past)-maxCases):], open...)
	return nil
}

// takeGroupInfo takes a GroupInfo of the current epoch that a member publishes: whoever can
// make one has applied the Commits that are complained about, or says so.
func (c *change) takeGroupInfo(d *draft, from wire.OrganizationID, info []byte) error {
	if epoch, ok := epochOf(info); ok && epoch > d.group.Epoch() {
		return c.adoptEpoch(d, from, info)
	}
	if err := d.group.CheckGroupInfo(info, nil); err != nil {
		return wire.Refuse(pb.Code_CODE_WRONG_EPOCH, "a GroupInfo that is not of the room's epoch")
	}
	by, err := signerOf(d.group, info)
	if err != nil || by.Organization != from {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a GroupInfo of another organization's device")
	}
	row, err := c.n.caseOf(d)
	if err != nil {
		return err
	}
	counted := false
	for _, k := range row.Cases {
		counted = k.vouch(seatOf(by).Person) || counted
	}
	if !counted {
		return nil // nothing is open, or it has been said
	}
	d.info = info
	if err := c.putCase(d, row); err != nil {
		return err
	}
	for _, k := range row.Cases { // who waits may come back now
		var seats []policy.Seat
		for _, h := range k.Complaints {
			seats = append(seats, seatOf(h.By))
		}
		if err := c.tell(d, seats, c.n.describe(k, policy.Base{}, d.row.Generation)); err != nil {
			return err
		}
	}
	return nil
}

// vouch notes that a member has applied the Commit; false when that says nothing new.
func (k *roomCase) vouch(p policy.Person) bool {
	if p == seatOf(k.Accused).Person || k.complains(p) || slices.Contains(k.Vouched, p) || len(k.Vouched) >= wire.ComplaintsKept {
		return false
	}
	k.Vouched = append(k.Vouched, p)
	return true
}

// noteCommitted notes in the open cases that somebody has committed: by a Commit that is not
// external they show that they have applied what was before.
func (c *change) noteCommitted(d *draft, who policy.Seat, external bool) error {
	row, err := c.n.caseOf(d)
	if err != nil || len(row.Cases) == 0 {
		return err
	}
	for _, k := range row.Cases {
		if who == seatOf(k.Accused) {
			continue
		}
		k.Last = c.n.clock.Now().UnixMilli()
		if !external {
			k.vouch(who.Person)
		}
	}
	return c.putCase(d, row)
}

// mayCommit refuses the Commits of a device that others complain about.
func (c *change) mayCommit(d *draft, committer *mls.LeafNode) error {
	row, err := c.n.caseOf(d)
	if err != nil || len(row.Cases) == 0 {
		return err
	}
	who, err := policy.CredentialOf(committer)
	if err != nil {
		return err
	}
	for _, k := range row.Cases {
		if k.Accused == authorOf(who) && k.upheld() {
			return wire.Refuse(pb.Code_CODE_FORBIDDEN, "others cannot apply a Commit of this device: it makes no more in this room until that is settled")
		}
	}
	return nil
}

// describe is what devices are told of a case.
func (n *Node) describe(k *roomCase, base policy.Base, generation uint32) *pb.RoomCase {
	at, due := k.due(n.clock.Now(), n.config.ResetAfter)
	m := &pb.RoomCase{Generation: generation, Epoch: k.Epoch, Commit: bytes.Clone(k.Commit[:]), Vouched: uint32(len(k.Vouched)), Due: due, SinceMs: at}
	add := func(s policy.Seat) {
		m.Order = append(m.Order, &pb.DeviceRef{Organization: bytes.Clone(s.Organization[:]), Device: bytes.Clone(s.Device[:])})
	}
	for _, h := range k.Complaints {
		m.Complaints = append(m.Complaints, h.Note)
		add(seatOf(h.By)) // these are there, and wait
	}
	for _, s := range base.Seats {
		said := slices.ContainsFunc(k.Complaints, func(h heldComplaint) bool { return seatOf(h.By) == s })
		if s != seatOf(k.Accused) && !said && len(m.Order) < maxOrder {
			add(s)
		}
	}
	return m
}

// maxOrder bounds the list of who may make a reset.
const maxOrder = 64

// cases describes what is open in a room.
func (n *Node) cases(d *draft) ([]*pb.RoomCase, error) {
	row, err := n.caseOf(d)
	if err != nil {
		return nil, err
	}
	var out []*pb.RoomCase
	for _, k := range row.Cases {
		_, base, err := n.baseOf(d, k.Commit)
		if err != nil {
			continue // too many Commits ago: the room goes on
		}
		out = append(out, n.describe(k, base, d.row.Generation))
	}
	return out, nil
}

// tell sends a case to devices of the room.
func (c *change) tell(d *draft, to []policy.Seat, m *pb.RoomCase) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_COMPLAINT, Room: d.id[:],
		Generation: m.Generation, Epoch: m.Epoch, Deadline: c.n.clock.Now().Add(wire.NoticeDeadline).Unix(), Body: body})
	if err != nil {
		return err
	}
	byOrg := make(map[wire.OrganizationID][]wire.Credential)
	for _, s := range to {
		byOrg[s.Organization] = append(byOrg[s.Organization], wire.Credential{Organization: s.Organization, Member: s.Member, Device: s.Device})
	}
	for org, list := range byOrg {
		delivery := mailbox.Delivery{Sender: "complaints", Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core},
			Recipients: refs(list), Origin: bytes.Clone(c.n.org.ID[:])}}
		if org != c.n.org.ID {
			delivery.Partners = []wire.OrganizationID{org}
		} else {
			for _, s := range list {
				if c.n.active(s.Device) {
					delivery.Devices = append(delivery.Devices, s.Device)
				}
			}
			if len(delivery.Devices) == 0 {
				continue
			}
		}
		if _, err := c.stage(delivery); err != nil {
			return err
		}
	}
	return nil
}

// acceptComplaint takes a partner's word in a room that is ordered here, or what a room's
// hub tells our devices of complaints.
func (c *change) acceptComplaint(from wire.OrganizationID, item *pb.Item, core *pb.EnvelopeCore) error {
	d := c.room(wire.RoomID(core.Room))
	switch {
	case d.known && d.group != nil && core.Kind == pb.Kind_KIND_RESYNC:
		return c.takeGroupInfo(d, from, core.Body)
	case d.known && d.group != nil:
		var body pb.ComplaintBody
		if proto.Unmarshal(core.Body, &body) != nil {
			return wire.Refuse(pb.Code_CODE_MALFORMED, "a complaint that does not parse")
		}
		return c.takeComplaint(d, from, body.Complaint)
	case !d.known || d.row.Hub != from || core.Kind != pb.Kind_KIND_COMPLAINT:
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "")
	}
	var devices []wire.DeviceID
	for _, device := range ourDevices(item.Recipients, c.n.org.ID) {
		if c.n.active(device) {
			devices = append(devices, device)
		}
	}
	if len(devices) == 0 {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_DEVICE, "")
	}
	_, err := c.stage(mailbox.Delivery{Item: item, From: from, Sender: relayedKey(from, from), Devices: devices})
	return err
}
