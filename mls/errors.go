package mls

import (
	"errors"
	"fmt"

	"github.com/entente-im/entente/mls/internal/tls"
)

// Refusals a caller may want to tell apart, to be tested with errors.Is. The
// text after them says which rule was broken and never quotes a secret.
// ErrSuite and ErrCrypto stand in suite.go.
var (
	ErrDecode          = tls.ErrDecode
	ErrWireFormat      = errors.New("mls: unexpected wire format")
	ErrWrongGroup      = errors.New("mls: message of another group")
	ErrSender          = errors.New("mls: sender may not send this")
	ErrLeaf            = errors.New("mls: invalid leaf node")
	ErrKeyPackage      = errors.New("mls: invalid key package")
	ErrLifetime        = errors.New("mls: outside its lifetime")
	ErrCredential      = errors.New("mls: credential refused")
	ErrTree            = errors.New("mls: invalid ratchet tree")
	ErrGroupInfo       = errors.New("mls: invalid group info")
	ErrProposal        = errors.New("mls: invalid proposal")
	ErrUnknownProposal = errors.New("mls: commit refers to a proposal not received")
	ErrPolicy          = errors.New("mls: proposal type refused by policy")
	ErrCommit          = errors.New("mls: invalid commit")
	// ErrReInit is the ErrPolicy of a ReInit proposal (§12.1.5), which is read
	// and refused: groups here end and begin anew, they do not change their suite.
	ErrReInit       = fmt.Errorf("%w: re-initialisation", ErrPolicy)
	ErrPathRequired = errors.New("mls: commit needs a path")
	ErrLimit        = errors.New("mls: limit exceeded")
)

// EpochError says that a message belongs to another epoch than the group is
// in: an older one was missed or is over, a newer one is still to be reached.
type EpochError struct{ Have, Got uint64 }

func (e *EpochError) Error() string {
	return fmt.Sprintf("mls: message of epoch %d, group is in epoch %d", e.Got, e.Have)
}

func refuse(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}
