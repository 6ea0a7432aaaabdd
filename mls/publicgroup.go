package mls

import (
	"bytes"
	"slices"
	"time"

	"github.com/entente-im/entente/mls/internal/tls"
)

// MaxPending bounds the proposals by reference that a group holds in an epoch.
const MaxPending = 256

// PublicOptions is what a PublicGroup is made with.
type PublicOptions struct {
	Validator CredentialValidator // mandatory
	// Now makes the group refuse Adds outside their lifetime. A hub sets it. A
	// member leaves it nil: it may process a Commit long after it was made, and
	// must come to the same result as the others (RFC 9420 §7.3).
	Now func() time.Time
	// PSKs takes PreSharedKey proposals (§12.1.4). Without it they are refused:
	// who watches must choose as the members do. Nobody outside can see whether a
	// member has the key.
	PSKs bool
}

// PublicGroup is the public state of a group in one epoch. Immutable; methods
// may be called at once from several goroutines.
type PublicGroup struct {
	opts      PublicOptions
	suite     *Suite
	ctx       GroupContext
	encoded   []byte // ctx
	tree      *Tree
	tag       []byte // confirmation tag that opened this epoch
	interim   []byte // interim transcript hash
	committer LeafIndex
	pending   []pendingProposal
}

type pendingProposal struct {
	ref     []byte
	content *Content
}

// NewPublicGroup observes a group from a GroupInfo (an MLSMessage). tree is the
// content of the ratchet_tree extension and may be nil when the GroupInfo has
// that extension. Signature, tree hash and the whole tree are verified, and the
// validator is asked for each leaf.
func NewPublicGroup(groupInfo, tree []byte, opts PublicOptions) (*PublicGroup, error) {
	m, err := ParseMessage(groupInfo)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, refuse(ErrWireFormat, "want a group info")
	}
	return OpenGroupInfo(m.GroupInfo, tree, opts)
}

// OpenGroupInfo is NewPublicGroup for a GroupInfo already read, as when it came
// in a Welcome.
func OpenGroupInfo(gi *GroupInfo, tree []byte, opts PublicOptions) (*PublicGroup, error) {
	s, err := LookupSuite(gi.Context.Suite)
	if err != nil {
		return nil, err
	}
	t, err := gi.Tree(s, tree)
	if err != nil {
		return nil, err
	}
	signer := t.Leaf(gi.Signer)
	if signer == nil {
		return nil, refuse(ErrGroupInfo, "signer is a blank leaf")
	}
	if err := gi.VerifySignature(s, signer.SignatureKey); err != nil {
		return nil, err
	}
	if len(gi.ConfirmationTag) != hashLen {
		return nil, refuse(ErrGroupInfo, "confirmation tag length")
	}
	if err := checkKnown(gi.Context.Extensions); err != nil {
		return nil, err
	}
	if err := t.Verify(gi.Context.GroupID, gi.Context.Extensions, opts.Validator); err != nil {
		return nil, err
	}
	return newPublicGroup(gi.Context, t, gi.ConfirmationTag, gi.Signer, opts), nil
}

// NewEpochZero is a group that its maker alone is in (§11), before the
// confirmation tag is known; see WithTag.
func NewEpochZero(ctx GroupContext, leaf *LeafNode, opts PublicOptions) (*PublicGroup, error) {
	s, err := LookupSuite(ctx.Suite)
	if err != nil {
		return nil, err
	}
	t := NewTree(s, leaf)
	ctx.Epoch, ctx.TreeHash, ctx.ConfirmedTranscriptHash = 0, t.Hash(), nil
	if err := checkKnown(ctx.Extensions); err != nil {
		return nil, err
	}
	if err := leaf.checkAlone(s); err != nil {
		return nil, err
	}
	if err := t.checkMembers(ctx.Extensions); err != nil {
		return nil, err
	}
	if err := askValidator(opts.Validator, LeafCheck{Entry: EntryCreate, GroupID: ctx.GroupID, New: leaf}); err != nil {
		return nil, err
	}
	return newPublicGroup(ctx, t, nil, 0, opts), nil
}

func newPublicGroup(ctx GroupContext, t *Tree, tag []byte, committer LeafIndex, opts PublicOptions) *PublicGroup {
	g := &PublicGroup{opts: opts, suite: t.suite, ctx: ctx, encoded: ctx.Encode(), tree: t, committer: committer}
	return g.WithTag(tag)
}

// WithTag completes a group by the confirmation tag of its epoch (§8.2).
func (g *PublicGroup) WithTag(tag []byte) *PublicGroup {
	n := *g
	n.tag = tag
	n.interim = g.suite.interimHash(g.ctx.ConfirmedTranscriptHash, tag)
	return &n
}

// interimHash is interim_transcript_hash of §8.2.
func (s *Suite) interimHash(confirmed, tag []byte) []byte {
	var w tls.Writer
	w.Vec(tag)
	return s.Hash(confirmed, w.B)
}

// confirmedHash is confirmed_transcript_hash of §8.2.
func (s *Suite) confirmedHash(interim []byte, c *Content) []byte {
	var w tls.Writer
	w.U16(uint16(c.WireFormat))
	c.writeFramed(&w)
	w.Vec(c.Signature)
	return s.Hash(interim, w.B)
}

// Suite is the group's cipher suite.
func (g *PublicGroup) Suite() *Suite { return g.suite }

// GroupID is the group's identifier.
func (g *PublicGroup) GroupID() []byte { return slices.Clone(g.ctx.GroupID) }

// Epoch is the present epoch.
func (g *PublicGroup) Epoch() uint64 { return g.ctx.Epoch }

// Extensions are those of the GroupContext.
func (g *PublicGroup) Extensions() []Extension { return slices.Clone(g.ctx.Extensions) }

// TreeHash is the hash of the ratchet tree, by which it can be fetched.
func (g *PublicGroup) TreeHash() []byte { return slices.Clone(g.ctx.TreeHash) }

// Tree is the ratchet tree as the ratchet_tree extension has it.
func (g *PublicGroup) Tree() []byte { return g.tree.Encode() }

// RatchetTree is the tree itself; it must not be changed.
func (g *PublicGroup) RatchetTree() *Tree { return g.tree }

// ConfirmedTranscriptHash covers every Commit up to this epoch (§8.2).
func (g *PublicGroup) ConfirmedTranscriptHash() []byte {
	return slices.Clone(g.ctx.ConfirmedTranscriptHash)
}

// InterimTranscriptHash also covers the last confirmation tag (§8.2).
func (g *PublicGroup) InterimTranscriptHash() []byte { return slices.Clone(g.interim) }

// ConfirmationTag is that of the Commit that opened this epoch.
func (g *PublicGroup) ConfirmationTag() []byte { return slices.Clone(g.tag) }

// Context is the encoded GroupContext; it must not be changed.
func (g *PublicGroup) Context() []byte { return g.encoded }

// GroupContext returns the GroupContext; it must not be changed.
func (g *PublicGroup) GroupContext() GroupContext { return g.ctx }

// Member is a leaf and where it is. Node must not be changed.
type Member struct {
	Leaf LeafIndex
	Node *LeafNode
}

// Members lists the leaves in order.
func (g *PublicGroup) Members() []Member {
	var out []Member
	g.tree.Leaves(func(l LeafIndex, n *LeafNode) error {
		out = append(out, Member{Leaf: l, Node: n})
		return nil
	})
	return out
}

// Member returns the leaf at l, nil when there is none.
func (g *PublicGroup) Member(l LeafIndex) *LeafNode { return g.tree.Leaf(l) }

// PendingRefs lists the references of the proposals received in this epoch.
func (g *PublicGroup) PendingRefs() [][]byte {
	var out [][]byte
	for _, p := range g.pending {
		out = append(out, p.ref)
	}
	return out
}

// Pending returns the proposals received in this epoch with their senders; they
// must not be changed.
func (g *PublicGroup) Pending() []*Content {
	var out []*Content
	for _, p := range g.pending {
		out = append(out, p.content)
	}
	return out
}

// ClearPending forgets the proposals received in this epoch.
func (g *PublicGroup) ClearPending() *PublicGroup {
	n := *g
	n.pending = nil
	return &n
}

func (g *PublicGroup) findPending(ref []byte) *Content {
	for _, p := range g.pending {
		if bytes.Equal(p.ref, ref) {
			return p.content
		}
	}
	return nil
}
