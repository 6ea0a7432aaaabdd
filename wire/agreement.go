package wire

import "slices"

// What a node makes of an agreement now, as its devices are told: docs/protocol.md 7.15.
const (
	AgreementInForce          = "inForce"
	AgreementSuspended        = "suspended"        // by our operator
	AgreementSuspendedThere   = "suspendedThere"   // by the partner, as its node has answered last
	AgreementQuarantined      = "quarantined"      // by our operator
	AgreementQuarantinedThere = "quarantinedThere" // by the partner, as its node has answered last
	AgreementEnded            = "ended"            // by our operator
	AgreementRefusedThere     = "refusedThere"     // the partner's node refuses ours: it may have ended it
	AgreementExpired          = "expired"
	AgreementNotYet           = "notYet"
)

var agreementStates = []string{AgreementInForce, AgreementSuspended, AgreementSuspendedThere, AgreementQuarantined, AgreementQuarantinedThere,
	AgreementEnded, AgreementRefusedThere, AgreementExpired, AgreementNotYet}

// ReadAgreementState reads a state from the wire. One that a later version has made, or none, is
// no state: nothing is known.
func ReadAgreementState(s string) string {
	if slices.Contains(agreementStates, s) {
		return s
	}
	return ""
}

// AgreementHolds reports whether messages between the two wait in a state until it is over, or
// their deadlines.
func AgreementHolds(state string) bool {
	return state == AgreementQuarantined || state == AgreementQuarantinedThere || state == AgreementRefusedThere
}

// AgreementStops reports whether messages between the two are refused in a state.
func AgreementStops(state string) bool {
	return state != "" && state != AgreementInForce && !AgreementHolds(state)
}
