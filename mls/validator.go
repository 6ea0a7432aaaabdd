package mls

// LeafEntry names the way by which a leaf comes before the validator.
type LeafEntry int

// Every way there is. A validator that is asked at each of them sees every
// credential that ever gets into a tree.
const (
	EntryKeyPackage     LeafEntry = iota + 1 // KeyPackage.Verify
	EntryAdd                                 // Add proposal, when received and again when committed
	EntryUpdate                              // Update proposal
	EntryPath                                // the committer's new leaf
	EntryExternalCommit                      // the leaf of somebody who joins by external Commit
	EntryTree                                // each leaf of a tree on joining or observing
	EntryCreate                              // one's own leaf when a group is made
)

// LeafCheck is one question to a validator. Old is the leaf that New takes the
// place of, nil when there is none. For an Add in a Commit that also removes a
// member nothing is known to connect the two: Old is nil. Validators must not
// change what it points to.
type LeafCheck struct {
	Entry   LeafEntry
	GroupID []byte
	Old     *LeafNode
	New     *LeafNode
}

// CredentialValidator is the Authentication Service's seat (RFC 9420 §5.3.1,
// RFC 9750 §4): it says whether New.Credential and New.SignatureKey belong
// together and may be in the group, and, when Old is set, whether both name
// the same client. An error refuses the whole message. It may be called for a
// message that is refused afterwards, so it must not keep what it sees.
type CredentialValidator interface {
	ValidateLeaf(LeafCheck) error
}

// ExtensionsValidator is asked before a GroupContextExtensions proposal is
// taken. A validator that does not implement it takes none: the extensions name
// the hub and the rules of the room.
type ExtensionsValidator interface {
	ValidateExtensions(groupID []byte, old, new []Extension) error
}

func askValidator(v CredentialValidator, c LeafCheck) error {
	if v == nil {
		return refuse(ErrCredential, "no validator")
	}
	if err := v.ValidateLeaf(c); err != nil {
		return &credentialError{err}
	}
	return nil
}

// credentialError is ErrCredential and the validator's own error at once.
type credentialError struct{ cause error }

func (e *credentialError) Error() string   { return ErrCredential.Error() + ": " + e.cause.Error() }
func (e *credentialError) Unwrap() []error { return []error{ErrCredential, e.cause} }
