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

// Saying is one thing that a notice tells: what became of one envelope at one member.
type Saying struct {
	Origin wire.OrganizationID // whose node resolves the handle
	Room   wire.RoomID
	Member wire.MemberID
	State  State
	Until  time.Time // StateStored only: kept until then, whole seconds, UTC
	Reason pb.Code   // StateRefused only
	Seq    uint64    // the room's sequence, at least 1
	Handle [wire.ReturnHandleLen]byte
}

// Say returns what an event says of a member; false where nobody could be told by a
// notice: it was never sequenced, or nobody waits for it.
func (e Event) Say(member wire.MemberID) (Saying, bool) {
	if e.Seq == 0 || member.IsZero() || len(e.Return) != wire.ReturnHandleLen {
		return Saying{}, false
	}
	s := Saying{Origin: e.Origin, Room: e.Room, Member: member, State: e.State, Seq: e.Seq, Handle: [wire.ReturnHandleLen]byte(e.Return)}
	switch e.State {
	case StateStored:
		s.Until = e.Deadline.UTC().Truncate(time.Second)
	case StateRefused:
		s.Reason = pb.Code_CODE_FULL
		if e.Status != nil {
			s.Reason = e.Status.Code
		}
	}
	return s, true
}

// Gather turns sayings into notices that an organization states: one for each origin
// and room (more when limits demand it), consecutive sequences of one member in one
// state as one range. What is said twice (two devices of one member) is said once. The
// order of the sayings does not matter; it is changed.
func Gather(organization wire.OrganizationID, issued time.Time, said []Saying) []notice.Notice {
	slices.SortFunc(said, Saying.compare)
	var out []notice.Notice
	for i, s := range said {
		if i > 0 && s.compare(said[i-1]) == 0 {
			continue
		}
		out = s.addTo(out, organization, issued)
	}
	return out
}

// compare orders sayings so that what shares a notice, then a range, is adjacent.
func (s Saying) compare(t Saying) int {
	return cmp.Or(
		bytes.Compare(s.Origin[:], t.Origin[:]), bytes.Compare(s.Room[:], t.Room[:]),
		bytes.Compare(s.Member[:], t.Member[:]), cmp.Compare(s.State, t.State),
		s.Until.Compare(t.Until), cmp.Compare(s.Reason, t.Reason),
		cmp.Compare(s.Seq, t.Seq), bytes.Compare(s.Handle[:], t.Handle[:]),
	)
}

// addTo extends the last range or the last notice, or begins another.
func (s Saying) addTo(out []notice.Notice, organization wire.OrganizationID, issued time.Time) []notice.Notice {
	if len(out) == 0 || !noticeTakes(&out[len(out)-1], s) {
		out = append(out, notice.Notice{Organization: organization, Origin: s.Origin, Room: s.Room, Issued: issued.UTC().Truncate(time.Second)})
	}
	n := &out[len(out)-1]
	if k := len(n.Ranges); k > 0 && rangeTakes(&n.Ranges[k-1], s) {
		g := &n.Ranges[k-1]
		g.To, g.Handles = s.Seq, append(g.Handles, s.Handle)
		return out
	}
	n.Ranges = append(n.Ranges, notice.Range{
		State: s.State, From: s.Seq, To: s.Seq, Member: s.Member, Until: s.Until, Reason: s.Reason,
		Handles: [][wire.ReturnHandleLen]byte{s.Handle},
	})
	return out
}

func noticeTakes(n *notice.Notice, s Saying) bool {
	handles := 0
	for _, g := range n.Ranges {
		handles += len(g.Handles)
	}
	return n.Origin == s.Origin && n.Room == s.Room && len(n.Ranges) < notice.MaxRanges && handles < notice.MaxHandles
}

func rangeTakes(g *notice.Range, s Saying) bool {
	return g.Member == s.Member && g.State == s.State && g.Until.Equal(s.Until) && g.Reason == s.Reason && g.To+1 == s.Seq
}
