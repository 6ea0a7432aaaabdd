package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// ownSubmission is what a device of ours hands over: over its session, or by a
// call when it carries a bundle.
type ownSubmission struct {
	counter uint64
	core    []byte // as the device made it, without a return handle
	bundle  *pb.Bundle
	digest  [32]byte
}

// submit takes a device's submissions in their order, in one transaction, and
// returns one status for each. An accepted or sequenced one is on stable storage;
// a repeated one gets its first result (docs/protocol.md 6.5).
func (n *Node) submit(ctx context.Context, device wire.DeviceID, subs []ownSubmission) []*pb.Status {
	statuses := make([]*pb.Status, len(subs))
	done, err := n.results.take(device)
	if err != nil {
		n.log.Error("results of a device", "device", device, "error", err)
		for i := range statuses {
			statuses[i] = wire.Status(pb.Code_CODE_INTERNAL, "")
		}
		return statuses
	}
	defer done()
	last := uint64(0)          // counters rise within a batch too
	again := make(map[int]int) // handed over twice in one batch: the index of the first
	fresh := make([]*envelope, len(subs))
	var ids []wire.RoomID
	for i := range subs {
		subs[i].digest = subs[i].digestOf()
		if statuses[i] = n.early(device, &subs[i]); statuses[i] != nil {
			continue
		}
		if first := earlier(subs[:i], subs[i]); first >= 0 {
			again[i] = first
			continue
		}
		if subs[i].counter <= last {
			statuses[i] = wire.Status(pb.Code_CODE_ROLLED_BACK, "")
			continue
		}
		last = subs[i].counter
		e, err := n.address(device, &subs[i])
		if err != nil {
			statuses[i] = wire.StatusOf(err)
			continue
		}
		fresh[i] = e
		ids = append(ids, wire.RoomID(e.parsed.Room))
	}
	if len(ids) > 0 {
		n.awaitPlaces(ctx, ids)
		if err := n.submitFresh(ctx, device, subs, fresh, statuses, ids); err != nil {
			for i := range subs {
				if fresh[i] != nil {
					statuses[i] = wire.StatusOf(err)
				}
			}
		}
	}
	for i, first := range again {
		statuses[i] = statuses[first]
	}
	return statuses
}

// earlier finds the same submission further up in its batch; -1: it is not there. Both
// get one answer: the second is the first's repetition, not a device that was set back.
func earlier(before []ownSubmission, s ownSubmission) int {
	return slices.IndexFunc(before, func(b ownSubmission) bool { return b.counter == s.counter && b.digest == s.digest })
}

// envelope is a submission whose core has its return handle.
type envelope struct {
	core   []byte
	parsed *pb.EnvelopeCore
}

// early answers what needs no transaction: repeated counters and rates.
func (n *Node) early(device wire.DeviceID, s *ownSubmission) *pb.Status {
	if !n.active(device) {
		return wire.Status(pb.Code_CODE_REVOKED, "")
	}
	if n.store.Status().Recovering {
		return wire.Status(pb.Code_CODE_RECOVERING, "")
	}
	first, err := n.results.first(device, s.counter, s.digest)
	if err != nil {
		n.log.Error("results of a device", "device", device, "error", err)
		return wire.Status(pb.Code_CODE_INTERNAL, "")
	}
	if first != nil {
		return first
	}
	if wait, ok := n.rates.device(device); !ok {
		return wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)
	}
	return nil
}

// address checks a core and puts the return handle in.
func (n *Node) address(device wire.DeviceID, s *ownSubmission) (*envelope, error) {
	parsed, err := wire.ParseCore(s.core)
	if errors.Is(err, wire.ErrMalformed) {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an envelope that does not stand")
	}
	if err != nil {
		return nil, err
	}
	if parsed.Class == pb.Class_CLASS_CONTROL || len(parsed.ReturnHandle) > 0 {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a device submits messages and handshakes, without a return handle")
	}
	if parsed.Kind == pb.Kind_KIND_COMMIT && s.bundle == nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a Commit without its bundle")
	}
	number, err := n.numbers.of(device)
	if err != nil {
		return nil, err
	}
	parsed.ReturnHandle = n.handles.seal(number, s.counter)
	if parsed.Deadline != 0 {
		if !time.Unix(parsed.Deadline, 0).After(n.clock.Now()) {
			return nil, wire.Refuse(pb.Code_CODE_DEADLINE_PASSED, "the message's deadline has passed before it was sent: check the device's clock")
		}
	}
	core, err := wire.EncodeCore(parsed)
	return &envelope{core, parsed}, err
}

func (s *ownSubmission) digestOf() [32]byte {
	if s.bundle == nil {
		return digestOf(s.core)
	}
	// A Commit's digest covers its bundle: what was accepted was all of it.
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.bundle)
	if err != nil {
		return [32]byte{}
	}
	return digestOf(append(append([]byte(nil), s.core...), b...))
}

func (n *Node) submitFresh(ctx context.Context, device wire.DeviceID, subs []ownSubmission, fresh []*envelope, statuses []*pb.Status, ids []wire.RoomID) error {
	c, err := n.begin(ids...)
	if err != nil {
		return err
	}
	for i, e := range fresh {
		if e == nil {
			continue
		}
		sub := submission{sender: device, core: e.core, parsed: e.parsed, bundle: subs[i].bundle}
		statuses[i] = c.submitOne(sub)
		if wire.ClassOf(statuses[i].Code) != wire.Success {
			continue
		}
		if statuses[i].Seq > 0 {
			statuses[i].ReturnHandle = e.parsed.ReturnHandle
		}
		if err := n.results.put(&c.batch, device, subs[i].counter, subs[i].digest, statuses[i]); err != nil {
			c.abandon()
			return err
		}
		c.then(func() { n.results.remember(device, subs[i].counter) })
	}
	return c.commit(ctx)
}

// submitOne is the fork of the straight path: the hub is here, or it is not.
func (c *change) submitOne(s submission) *pb.Status {
	d := c.room(wire.RoomID(s.parsed.Room))
	switch {
	case !d.known:
		return wire.Status(pb.Code_CODE_UNKNOWN_ROOM, "")
	case d.row.Hub == c.n.org.ID:
		return c.order(s)
	}
	return c.forward(d, s)
}

// forward puts a submission into the outbox of the partner that orders its room.
// The device is told accepted; sequenced, or why not, follows as a result.
func (c *change) forward(d *draft, s submission) *pb.Status {
	if !d.holds(s.sender) && !(s.bundle != nil && isExternalCommit(s.bundle.Commit)) {
		return wire.Status(pb.Code_CODE_FORBIDDEN, "this device is not in the room")
	}
	if _, err := c.n.fed.Takes(d.row.Hub, c.n.clock.Now()); err != nil {
		return wire.StatusOf(err)
	}
	if err := c.n.mayDeal(c.n.memberOf(s.sender), d.row.Hub); err != nil && s.parsed.Class == pb.Class_CLASS_MESSAGE {
		return wire.StatusOf(err)
	}
	if s.parsed.Class == pb.Class_CLASS_MESSAGE && d.row.Members == 2 {
		if err := c.n.reachesBlocked(memberKey{org: d.row.Hub}); err != nil {
			return wire.StatusOf(err)
		}
	}
	item := &pb.Item{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: s.core}, Bundle: s.bundle}
	staged, err := c.stage(mailbox.Delivery{Item: item, Sender: s.quotaKey(), Partners: []wire.OrganizationID{d.row.Hub},
		Deadline: c.n.retentionWith(d.row.Hub)})
	if err != nil {
		return wire.StatusOf(err)
	}
	if staged.Accepted() == 0 {
		c.forget(staged)
		return firstRefusal(staged)
	}
	return wire.Status(pb.Code_CODE_ACCEPTED, "")
}

// holds reports whether a device of ours is in a room that is ordered elsewhere.
func (d *draft) holds(device wire.DeviceID) bool {
	for _, have := range d.row.Devices {
		if have == device {
			return true
		}
	}
	return false
}
