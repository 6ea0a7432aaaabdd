package node

import (
	"bytes"
	"cmp"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// orderCommit takes a Commit with its Welcome, GroupInfo and tree, or refuses all
// four. The PublicGroup checks what can be checked without secrets; that is
// necessary, not sufficient (RFC 9420 §16.12).
func (c *change) orderCommit(d *draft, s submission) error {
	b := s.bundle
	if err := checkBundle(b); err != nil {
		return err
	}
	if s.parsed.Epoch != d.group.Epoch() {
		return &wire.StatusError{Status: d.wrongEpoch()}
	}
	next, effects, err := d.group.Process(b.Commit)
	if err != nil {
		return commitRefused(d, s, err)
	}
	if !effects.IsCommit {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a bundle whose Commit is none")
	}
	if err := policy.Check(d.group, effects); err != nil {
		return policyRefused(err)
	}
	if err := c.committerSpeaks(s, next.Member(effects.Committer)); err != nil {
		return err
	}
	if err := c.mayCommit(d, next.Member(effects.Committer)); err != nil {
		return err
	}
	if !effects.External {
		if err := c.checkTerms(d.group, next, effects); err != nil {
			return err
		}
		if err := c.checkBlocked(next, effects); err != nil {
			return err
		}
	}
	if err := next.CheckBundle(b.GroupInfo, b.Tree); err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "GroupInfo or tree do not belong to the Commit")
	}
	if err := c.n.checkSize(len(d.group.Members()), next); err != nil {
		return err
	}
	if err := checkRemovals(d, effects); err != nil {
		return err
	}
	if err := checkWelcome(b.Welcome, next.Suite(), effects); err != nil {
		return err
	}
	welcomed, err := credentials(effects.Added)
	if err != nil {
		return err
	}
	if effects.External {
		return c.resync(d, s, next, effects)
	}
	return c.acceptCommit(d, s, next, effects, welcomed)
}

// checkSize: a room has as many devices as its hub allows. When the operator lowers the
// limit, a larger room goes on and grows no more.
func (n *Node) checkSize(before int, next *mls.PublicGroup) error {
	if have, limit := len(next.Members()), cmp.Or(n.config.Limits.RoomDevices, wire.MaxRoomDevices); have > max(before, limit) {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a room of %d devices: at most %d are allowed", have, limit)
	}
	return nil
}

// acceptCommit stages everything that a good Commit causes.
func (c *change) acceptCommit(d *draft, s submission, next *mls.PublicGroup, effects *mls.Effects, welcomed []wire.Credential) error {
	core := proto.CloneOf(s.parsed)
	core.Body = s.bundle.Commit
	raw, err := wire.EncodeCore(core)
	if err != nil {
		return err
	}
	removed, err := credentials(effects.Removed)
	if err != nil {
		return err
	}
	added, err := credentials(effects.Added)
	if err != nil {
		return err
	}
	before := *d
	local, partners := c.recipients(d, s) // of the epoch that the Commit ends
	item := c.entry(d, s, raw)
	partners, _ = c.takers(partners, eventOf(d, s, item))
	item.Members = uint32(countMembers(members(next)))
	item.Change = &pb.LeafChange{Added: refs(added), Removed: refs(removed)}
	if s.bundle.Founding != nil {
		partners = foundingFor(item, s, members(next))
	}
	if _, err := c.stage(mailbox.Delivery{Item: item, From: s.from, Devices: local, Partners: partners, Log: &d.id}); err != nil {
		*d = before
		return err
	}
	if err := c.recordCommit(d, s, next, effects); err != nil {
		*d = before
		return err
	}
	d.group, d.info = next, s.bundle.GroupInfo
	d.place.quiet = len(added) == 0 && len(removed) == 0
	d.dirty.place, d.dirty.group = true, true
	if len(welcomed) == 0 {
		return nil
	}
	c.putTree(d.id, s.bundle.Tree)
	return c.welcome(d, s, welcomed)
}

// welcome sends the Commit's Welcome once to every home node with a new device.
func (c *change) welcome(d *draft, s submission, welcomed []wire.Credential) error {
	hash := treeHash(s.bundle.Tree)
	body, err := proto.Marshal(&pb.WelcomeBody{Welcome: s.bundle.Welcome, TreeHash: hash[:], Hub: c.n.org.ID[:], Complaints: s.bundle.GetFounding().GetComplaints()})
	if err != nil {
		return err
	}
	core, err := wire.EncodeCore(&pb.EnvelopeCore{
		Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_WELCOME,
		Room: d.id[:], Generation: d.row.Generation, Epoch: d.group.Epoch(),
		Deadline: c.n.clock.Now().Add(wire.WelcomeDeadline).Unix(), Body: body,
	})
	if err != nil {
		return err
	}
	byOrg := make(map[wire.OrganizationID][]wire.Credential)
	for _, w := range welcomed {
		byOrg[w.Organization] = append(byOrg[w.Organization], w)
	}
	origin := s.from
	if origin.IsZero() {
		origin = c.n.org.ID
	}
	for org, list := range byOrg {
		delivery := mailbox.Delivery{From: s.from, Sender: s.quotaKey(), Item: &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL,
			Envelope: &pb.Envelope{Core: core}, Recipients: refs(list), Origin: bytes.Clone(origin[:]),
			Members: uint32(countMembers(members(d.group)))}}
		if org == c.n.org.ID {
			for _, w := range list {
				delivery.Devices = append(delivery.Devices, w.Device)
			}
		} else {
			delivery.Partners = []wire.OrganizationID{org}
		}
		if _, err := c.stage(delivery); err != nil {
			return err
		}
	}
	return nil
}

// committerSpeaks compares who made a Commit or proposal with who submits it.
func (c *change) committerSpeaks(s submission, committer *mls.LeafNode) error {
	who, err := policy.CredentialOf(committer)
	if err != nil {
		return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a committer whose credential does not parse")
	}
	if s.from.IsZero() && (who.Organization != c.n.org.ID || who.Device != s.sender) {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a handshake of another device")
	}
	if !s.from.IsZero() && who.Organization != s.from {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "a handshake of another organization")
	}
	return nil
}

// resync takes an external Commit, wire.ResyncBurst per device, room and hour.
func (c *change) resync(d *draft, s submission, next *mls.PublicGroup, effects *mls.Effects) error {
	who, err := policy.CredentialOf(next.Member(effects.Committer))
	if err != nil {
		return err
	}
	room, now := d.id, c.n.clock.Now()
	if wait := c.n.resyncs.early(room, who.Device, now); wait > 0 {
		// Not a refusal for now: that would hold up all that follows it in the room.
		return &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_FORBIDDEN, "a device comes back into a room once an hour, and once more after a restore"), wait)}
	}
	if err := c.acceptCommit(d, s, next, effects, nil); err != nil {
		return err
	}
	c.then(func() { c.n.resyncs.note(room, who.Device, now) })
	return nil
}

// policyRefused is the status of what the room's policy refuses.
func policyRefused(err error) error {
	var status *wire.StatusError
	if errors.As(err, &status) {
		return status
	}
	return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "the room's policy does not stand: %v", err)
}

// certificatesAgain is when a Commit may be made again for which certificates were missing.
const certificatesAgain = time.Minute

// commitRefused turns the reason why a Commit does not stand into a status.
func commitRefused(d *draft, s submission, err error) error {
	var wrong *mls.EpochError
	if errors.As(err, &wrong) {
		return &wire.StatusError{Status: d.wrongEpoch()}
	}
	var status *wire.StatusError
	if errors.As(err, &status) {
		return status
	}
	var need *chainNeeded
	if errors.As(err, &need) && need.inVain && !s.from.IsZero() {
		// Not a refusal for now: that would hold up all that follows it in the room.
		return &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_INVALID_COMMIT, "a member's certificates cannot be had now; try again"), certificatesAgain)}
	}
	if need != nil {
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, "a member's certificates have to be fetched first")
	}
	return wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "the Commit does not stand: %v", err)
}

// orderProposal takes a proposal by reference: every member gets it, and a later
// Commit may name it.
func (c *change) orderProposal(d *draft, s submission) error {
	if s.parsed.Epoch != d.group.Epoch() {
		return &wire.StatusError{Status: d.wrongEpoch()}
	}
	next, effects, err := d.group.Process(s.parsed.Body)
	if err != nil {
		return commitRefused(d, s, err)
	}
	if err := c.checkProposed(d, s, effects); err != nil {
		return err
	}
	if next == d.group {
		return wire.Refuse(pb.Code_CODE_DUPLICATE, "") // it waits already, in its place
	}
	if err := policy.Check(d.group, effects); err != nil {
		return policyRefused(err)
	}
	before := *d
	local, partners := c.recipients(d, s)
	item := c.entry(d, s, s.core)
	partners, _ = c.takers(partners, eventOf(d, s, item))
	if _, err := c.stage(mailbox.Delivery{Item: item, From: s.from, Devices: local, Partners: partners, Log: &d.id}); err != nil {
		*d = before
		return err
	}
	d.group = next
	d.dirty.place, d.dirty.group = true, true
	return nil
}

func checkBundle(b *pb.Bundle) error {
	if b == nil || len(b.Commit) == 0 || len(b.GroupInfo) == 0 || len(b.Tree) == 0 {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a Commit needs its GroupInfo and tree")
	}
	for _, p := range []struct {
		name  string
		n     int
		limit int
	}{{"Commit", len(b.Commit), wire.MaxHandshakeBody}, {"Welcome", len(b.Welcome), wire.MaxWelcome},
		{"GroupInfo", len(b.GroupInfo), wire.MaxWelcome}, {"tree", len(b.Tree), wire.MaxTree}} {
		if p.n > p.limit {
			return wire.Refuse(pb.Code_CODE_TOO_LARGE, "a %s of %d bytes: at most %d are allowed", p.name, p.n, p.limit)
		}
	}
	return nil
}

func credentials(leaves []mls.Member) ([]wire.Credential, error) {
	out := make([]wire.Credential, 0, len(leaves))
	for _, l := range leaves {
		c, err := wire.ParseCredential(l.Node.Credential.Identity)
		if err != nil {
			return nil, wire.Refuse(pb.Code_CODE_INVALID_COMMIT, "a leaf whose credential does not parse")
		}
		out = append(out, c)
	}
	return out, nil
}

func refs(list []wire.Credential) []*pb.DeviceRef {
	out := make([]*pb.DeviceRef, len(list))
	for i, c := range list {
		out[i] = &pb.DeviceRef{Organization: bytes.Clone(c.Organization[:]), Device: bytes.Clone(c.Device[:])}
	}
	return out
}

// treeRow is a stored tree: when it was stored, so that it goes with the Welcome
// that points to it, and the tree.
const treePrefix = "nd/tree/"

func treeKey(room wire.RoomID, hash [32]byte) []byte {
	return append(append(append([]byte(treePrefix), room[:]...), '/'), hash[:]...)
}

func (c *change) putTree(room wire.RoomID, tree []byte) {
	stamp := c.n.clock.Now().UTC().AppendFormat(nil, time.RFC3339)
	row := append(append([]byte{1, byte(len(stamp))}, stamp...), tree...)
	c.batch.Put(treeKey(room, treeHash(tree)), row)
}

// parseTreeRow is the inverse of what putTree writes.
func parseTreeRow(row []byte) (stored time.Time, tree []byte, ok bool) {
	if len(row) < 2 || row[0] != 1 || len(row) < 2+int(row[1]) {
		return stored, nil, false
	}
	stored, err := time.Parse(time.RFC3339, string(row[2:2+row[1]]))
	return stored, row[2+row[1]:], err == nil
}
