package group

import (
	"bytes"
	"errors"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/parallel"
)

// CommitParams says what a Commit shall do; the zero value is an empty Commit
// with a path. Every Commit that we make has a path.
type CommitParams struct {
	Adds        [][]byte             // KeyPackages, as MLSMessages
	Removes     []mls.LeafIndex      // by value
	ByReference bool                 // also the proposals received in this epoch, as far as they are valid
	PSKs        []mls.PreSharedKeyID // by value, with fresh nonces; Config.PSK must have the external ones
	Extensions  []mls.Extension      // new GroupContext extensions, when not nil
	Credential  *mls.Credential      // a renewed credential of our own leaf
	AAD         []byte               // authenticated data of the Commit
	WelcomeTree bool                 // the Welcome carries the tree (rooms fetch it by hash)
	InfoTree    bool                 // the GroupInfo carries the tree
}

// Staged is a Commit that was made and not applied: submit it, then Apply it
// when it was accepted or forget it when another one was first. Nothing that it
// holds is in the State it was made from.
type Staged struct {
	Commit    []byte // MLSMessage
	Welcome   []byte // MLSMessage, nil when nobody is added
	GroupInfo []byte // MLSMessage of the new epoch, with external_pub
	Tree      []byte // ratchet tree of the new epoch
	Effects   *mls.Effects

	base []byte // context of the epoch it was made in, nil for an external join
	next *State
}

// Epoch is the epoch that the Commit leads to.
func (st *Staged) Epoch() uint64 { return st.next.Epoch() }

// Apply is the state after the Commit. cur is the present state of the group, in
// which messages may have been opened since the Commit was made; after an
// ExternalJoin it may be nil, or the state that fell behind. An epoch that has moved on is an EpochError.
func (st *Staged) Apply(cur *State) (*State, error) {
	n := *st.next
	if st.base == nil {
		if cur != nil { // a resync: late messages of the epochs that we were in
			n.past = before(cur.tidy().retire(), n.Epoch())
			n.uses, n.revision = cur.uses, cur.revision
			n.used(true)
		}
		return &n, nil
	}
	if cur == nil || !bytes.Equal(cur.pub.Context(), st.base) {
		if cur == nil {
			return nil, ErrRecord
		}
		return nil, &mls.EpochError{Have: cur.Epoch(), Got: st.next.Epoch() - 1}
	}
	n.past = cur.tidy().retire()
	n.uses, n.revision = cur.uses, cur.revision
	n.used(true)
	return &n, nil
}

// First is the state after a group's first Commit, made by who created it: nothing is past.
func (st *Staged) First() (*State, error) {
	if st.next.Epoch() != 1 {
		return nil, &mls.EpochError{Have: st.next.Epoch(), Got: 1}
	}
	n := *st.next
	return &n, nil
}

// before leaves out the epochs that cannot be past: who was led aside may have
// been further on than the group, and epochs are kept by number.
func before(past []*pastEpoch, epoch uint64) []*pastEpoch {
	return slices.DeleteFunc(past, func(p *pastEpoch) bool { return p.epoch >= epoch })
}

// Stage makes a Commit (RFC 9420 §12.4.1). The State returned is the one to go
// on with whether or not the Commit is accepted: it differs from s when
// handshakes are private, by the key that the Commit used.
func (s *State) Stage(p CommitParams) (*State, *Staged, error) {
	list, err := s.proposals(p)
	if err != nil {
		return nil, nil, err
	}
	by := mls.Sender{Type: mls.SenderMember, Index: uint32(s.priv.leaf)}
	a, err := s.pub.Apply(list, by)
	if err != nil {
		return nil, nil, err
	}
	leaf := *s.pub.Member(s.priv.leaf)
	if p.Credential != nil {
		leaf.Credential = *p.Credential
	}
	c := &mls.Content{
		WireFormat: mls.WirePublicMessage, GroupID: s.GroupID(), Epoch: s.Epoch(), Sender: by,
		AAD: bytes.Clone(p.AAD), Type: mls.ContentCommit, Commit: commitOf(list),
	}
	if s.cfg.Private {
		c.WireFormat = mls.WirePrivateMessage
	}
	b := &builder{cfg: s.cfg, pub: s.pub, old: s.priv, init: s.secrets.initSecret, content: c, applied: a, leaf: leaf, psk: s.psk}
	if err := b.build(); err != nil {
		return nil, nil, err
	}
	st := &Staged{base: s.pub.Context(), next: b.next, Effects: b.staged.Effects}
	n, msg, err := s.frame(c)
	if err != nil {
		return nil, nil, err
	}
	st.Commit = msg
	if err := st.describe(p.InfoTree); err != nil {
		return nil, nil, err
	}
	if len(a.AddedKeys) > 0 {
		st.Welcome, err = b.welcome(p.WelcomeTree)
	}
	b.finish()
	return n, st, err
}

func (st *Staged) describe(withTree bool) (err error) {
	st.Tree = st.next.Tree()
	st.GroupInfo, err = st.next.GroupInfo(withTree)
	return err
}

// builder makes the path, the signature, the key schedule and the Welcome of a
// Commit, by a member or from outside.
type builder struct {
	cfg     Config
	pub     *mls.PublicGroup
	old     privateTree
	init    []byte // init secret of the present epoch
	content *mls.Content
	applied *mls.Applied
	leaf    mls.LeafNode
	psk     func(*mls.PreSharedKeyID) []byte

	staged *mls.StagedCommit
	path   *newPath
	epoch  *newEpoch
	next   *State
}

func (b *builder) build() (err error) {
	s := b.pub.Suite()
	b.staged = &mls.StagedCommit{Applied: b.applied}
	if b.path, err = createPath(b.pub, b.staged, b.leaf, b.old, b.cfg.Signer); err != nil {
		return err
	}
	if err := b.pub.CheckOwnLeaf(b.path.update.Leaf, b.applied); err != nil {
		return err
	}
	b.staged.Path = b.path.update
	b.content.Commit.Path = b.path.update
	if err := mls.CheckAAD(b.pub.GroupContext().Extensions, b.content.AAD); err != nil {
		return err
	}
	if err := b.content.Sign(s, b.cfg.Signer, b.pub.Context()); err != nil {
		return err
	}
	if err := b.pub.Finish(b.staged, b.content); err != nil {
		return err
	}
	next := b.staged.Next
	psk, err := pskSecret(s, b.applied.PSKs, b.psk)
	if err != nil {
		return err
	}
	b.epoch = advance(s, b.init, b.path.commitSecret, psk, next.Context())
	erase(psk)
	erase(b.path.commitSecret)
	b.content.ConfirmationTag = s.MAC(b.epoch.confirmation, next.GroupContext().ConfirmedTranscriptHash)
	b.next, err = enter(b.cfg, next.WithTag(b.content.ConfirmationTag), b.path.private, b.epoch, nil)
	return err
}

// welcome makes one Welcome for everybody added (§12.4.3.1): its size and cost
// grow with their number, not with the group's.
func (b *builder) welcome(withTree bool) ([]byte, error) {
	s := b.pub.Suite()
	gi, err := b.next.groupInfo(withTree, withTree)
	if err != nil {
		return nil, err
	}
	key, nonce := welcomeKey(s, b.epoch.welcome)
	defer erase(key)
	w := &mls.Welcome{Suite: s.ID}
	if w.GroupInfo, err = s.Seal(key, nonce, nil, gi.EncodeBare()); err != nil {
		return nil, err
	}
	added := b.applied.AddedKeys // none is nil: we are a member
	w.Secrets = make([]mls.EncryptedGroupSecrets, len(added))
	failed := make([]error, len(added))
	parallel.Each(len(added), func(i int) {
		secrets := mls.GroupSecrets{JoinerSecret: b.epoch.joiner, PathSecret: b.path.forNewMember(b.applied.Added[i].Leaf), PSKs: b.applied.PSKs}
		plain := secrets.Encode()
		defer erase(plain)
		w.Secrets[i].NewMember = added[i].Ref()
		w.Secrets[i].Secrets, failed[i] = s.EncryptWithLabel(added[i].InitKey, "Welcome", w.GroupInfo, plain)
	})
	if errors.Join(failed...) != nil {
		return nil, mls.ErrCrypto
	}
	return w.Encode(), nil
}

// finish erases what only the making needed.
func (b *builder) finish() {
	erase(b.epoch.joiner)
	erase(b.epoch.welcome)
	for _, secret := range b.path.secrets {
		erase(secret)
	}
}

// frame encodes a handshake as the configuration wants it, and the state that
// goes with having sent it.
func (s *State) frame(c *mls.Content) (*State, []byte, error) {
	suite := s.pub.Suite()
	if c.WireFormat == mls.WirePublicMessage {
		m := &mls.PublicMessage{Content: c, MembershipTag: c.MembershipTag(suite, s.secrets.membership, s.pub.Context())}
		return s, m.Encode(), nil
	}
	if s.own.hs.generation >= 1<<32-2 {
		return nil, nil, mls.ErrLimit
	}
	n := *s
	n.used(false)
	var key, nonce []byte
	n.own.hs, key, nonce = s.own.hs.step(suite)
	p, err := seal(suite, c, s.secrets.senderData, s.own.hs.generation, key, nonce, 0)
	if err != nil {
		return nil, nil, err
	}
	return &n, p.Encode(), nil
}
