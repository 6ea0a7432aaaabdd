package policy

import (
	"fmt"

	"github.com/entente-im/entente/mls"
)

// strength ranks cipher suites: those of one rank stand in for each other.
var strength = map[mls.SuiteID]int{
	mls.SuiteX25519AES128:   1,
	mls.SuiteX25519ChaCha20: 1,
	mls.SuiteXWingChaCha20:  2, // also against who keeps ciphertext until there are quantum computers
}

// CheckSuite refuses a group whose cipher suite is below the floor that its room
// extension names, or unknown.
func CheckSuite(floor uint32, suite mls.SuiteID) error {
	wanted, ok := strength[mls.SuiteID(floor)]
	if floor > 0xFFFF || !ok {
		return fmt.Errorf("policy: a room with the unknown suite %d as its floor", floor)
	}
	if has, ok := strength[suite]; !ok || has < wanted {
		return fmt.Errorf("policy: cipher suite %d in a room that wants %d at least", suite, floor)
	}
	return nil
}
