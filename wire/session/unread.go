package session

import (
	"slices"

	"github.com/entente-im/entente/wire"
)

// Unread is a delivery that a device has stored the number of and that nobody reads
// there: it could not be opened, or it ended before it came. Its sender is told which.
type Unread struct {
	Seq     uint64
	Expired bool
}

// numbers are the two lists that travel (docs/protocol.md 6.4): all of them, and those that
// ended. A node that does not know the second takes these for unreadable too.
func numbers(all []Unread) (unread, expired []uint64) {
	for _, u := range all {
		if unread = append(unread, u.Seq); u.Expired {
			expired = append(expired, u.Seq)
		}
	}
	return unread, expired
}

// unreadOf is the inverse of numbers; false when expired names what unread does not.
func unreadOf(unread, expired []uint64) (all []Unread, ok bool) {
	if len(expired) > len(unread) {
		return nil, false
	}
	for _, seq := range unread {
		all = append(all, Unread{seq, slices.Contains(expired, seq)})
	}
	for _, seq := range expired {
		if !slices.Contains(unread, seq) {
			return nil, false
		}
	}
	return all, true
}

// unreadStands is unreadOf of what an acknowledgement without a connection's memory says: a
// window's worth of rising numbers, all of them acknowledged with it.
func unreadStands(unread, expired []uint64, through uint64, above []uint64) ([]Unread, bool) {
	last := uint64(0)
	for _, seq := range unread {
		if seq <= last || !covers(through, above, seq) {
			return nil, false
		}
		last = seq
	}
	if len(unread) > wire.DeliverWindow {
		return nil, false
	}
	return unreadOf(unread, expired)
}
