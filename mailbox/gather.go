package mailbox

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
)

// MemberOf tells which member a device belongs to; ok is false for a device that
// nobody knows any more.
type MemberOf func(wire.DeviceID) (member wire.MemberID, ok bool)

// Gather turns events of inboxes into notices that organization states: one for
// each origin and room (more when limits demand it), consecutive sequences of one
// member in one state as one range. Events without a sequence, without a member or
// without a return handle are left out: nobody could be told by a notice. The order
// of the events does not matter.
func Gather(organization wire.OrganizationID, issued time.Time, events []Event, member MemberOf) []notice.Notice {
	var said []saying
	for _, e := range events {
		who, ok := member(e.Device)
		if !ok || e.Seq == 0 || e.Device.IsZero() || len(e.Return) != wire.ReturnHandleLen {
			continue
		}
		said = append(said, sayingOf(e, who))
	}
	slices.SortFunc(said, saying.compare)
	var out []notice.Notice
	for i, s := range said {
		if i > 0 && s.compare(said[i-1]) == 0 { // two devices of one member
			continue
		}
		out = s.addTo(out, organization, issued)
	}
	return out
}

// saying is one event as a notice says it.
type saying struct {
	origin wire.OrganizationID
	room   wire.RoomID
	member wire.MemberID
	state  State
	until  time.Time
	reason pb.Code
	seq    uint64
	handle [wire.ReturnHandleLen]byte
}

func sayingOf(e Event, member wire.MemberID) saying {
	s := saying{
		origin: e.Origin, room: e.Room, member: member, state: e.State, seq: e.Seq,
		handle: [wire.ReturnHandleLen]byte(e.Return),
	}
	switch e.State {
	case StateStored:
		s.until = e.Deadline.UTC().Truncate(time.Second)
	case StateRefused:
		s.reason = pb.Code_CODE_FULL
		if e.Status != nil {
			s.reason = e.Status.Code
		}
	}
	return s
}

// compare orders sayings so that what shares a notice, then a range, is adjacent.
func (s saying) compare(t saying) int {
	return cmp.Or(
		bytes.Compare(s.origin[:], t.origin[:]), bytes.Compare(s.room[:], t.room[:]),
		bytes.Compare(s.member[:], t.member[:]), cmp.Compare(s.state, t.state),
		s.until.Compare(t.until), cmp.Compare(s.reason, t.reason),
		cmp.Compare(s.seq, t.seq), bytes.Compare(s.handle[:], t.handle[:]),
	)
}

// addTo extends the last range or the last notice, or begins another.
func (s saying) addTo(out []notice.Notice, organization wire.OrganizationID, issued time.Time) []notice.Notice {
	if len(out) == 0 || !noticeTakes(&out[len(out)-1], s) {
		out = append(out, notice.Notice{Organization: organization, Origin: s.origin, Room: s.room, Issued: issued.UTC().Truncate(time.Second)})
	}
	n := &out[len(out)-1]
	if k := len(n.Ranges); k > 0 && rangeTakes(&n.Ranges[k-1], s) {
		g := &n.Ranges[k-1]
		g.To, g.Handles = s.seq, append(g.Handles, s.handle)
		return out
	}
	n.Ranges = append(n.Ranges, notice.Range{
		State: s.state, From: s.seq, To: s.seq, Member: s.member, Until: s.until, Reason: s.reason,
		Handles: [][wire.ReturnHandleLen]byte{s.handle},
	})
	return out
}

func noticeTakes(n *notice.Notice, s saying) bool {
	handles := 0
	for _, g := range n.Ranges {
		handles += len(g.Handles)
	}
	return n.Origin == s.origin && n.Room == s.room && len(n.Ranges) < notice.MaxRanges && handles < notice.MaxHandles
}

func rangeTakes(g *notice.Range, s saying) bool {
	return g.Member == s.member && g.State == s.state && g.Until.Equal(s.until) && g.Reason == s.reason && g.To+1 == s.seq
}
