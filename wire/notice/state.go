package notice

// State says what became of an envelope at one recipient (docs/protocol.md 2.7).
type State uint8

// The states of notices. Expired, refused, dropped, unreadable and acknowledged
// are final for a device; of a member with several devices, acknowledged outranks
// all others.
const (
	StateStored       State = iota + 1 // a partner is responsible for it until its deadline
	StateDelivered                     // handed to the device; this package makes no such event
	StateAcknowledged                  // the device has stored it
	StateUnreadable                    // the device could not open it, or the node's copy is damaged
	StateExpired                       // nobody fetched it in time
	StateRefused                       // the recipient's node did not take it
	StateDropped                       // the recipient is gone, or people decided so
)

var stateNames = [...]string{"", "stored", "delivered", "acknowledged", "unreadable", "expired", "refused", "dropped"}

// String returns the state's name as notices spell it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return ""
}

// ParseState is the inverse of String.
func ParseState(name string) (State, bool) {
	for s := StateStored; s <= StateDropped; s++ {
		if stateNames[s] == name {
			return s, true
		}
	}
	return 0, false
}
