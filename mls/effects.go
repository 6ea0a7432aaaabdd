package mls

// Effects says what a message did, or would do once the caller keeps the state
// that came with it. Applications check here what is a matter of the room's
// policy (who may add whom) and drop the new state to refuse.
type Effects struct {
	Epoch       uint64 // in which the message was sent
	Sender      Sender
	AAD         []byte
	Proposal    *Proposal // a proposal was received, not applied
	ProposalRef []byte
	IsCommit    bool
	External    bool      // the Commit is an external one
	Committer   LeafIndex // its leaf afterwards
	Added       []Member  // by Add or external Commit
	Removed     []Member  // as they were
	Updated     []Update  // by Update, and the committer by its path
	Committed   [][]byte  // references of the proposals that it covered
	Extensions  bool      // the GroupContext's extensions changed
	Proposals   []Sent    // of a Commit, in its order, with who made each
	SelfRemoved bool      // of a member's State only: we are out
}

// Update is a leaf that was replaced by the same client.
type Update struct {
	Leaf     LeafIndex
	Old, New *LeafNode
}
