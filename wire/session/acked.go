package session

import (
	"slices"

	"github.com/entente-im/entente/wire"
)

// Acked is what a device has of its mailbox (docs/protocol.md 6.4).
type Acked struct {
	Through uint64   // every seq up to here is stored
	Above   []uint64 // and these above it, rising: something between them waits
	Unread  []Unread // of all these, what nobody reads there
}

// aboveStands reports whether what a call acknowledges beyond a number is a window's worth of
// rising numbers.
func aboveStands(above []uint64, through uint64) bool {
	for _, seq := range above {
		if seq <= through {
			return false
		}
		through = seq
	}
	return len(above) <= wire.DeliverWindow
}

// covers reports whether an acknowledgement names a number.
func covers(through uint64, above []uint64, seq uint64) bool {
	if seq <= through {
		return true
	}
	_, found := slices.BinarySearch(above, seq)
	return found
}
