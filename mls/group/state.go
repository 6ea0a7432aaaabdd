package group

import (
	"crypto"
	"errors"
	"slices"
	"time"

	"github.com/entente-im/entente/mls"
)

// Defaults of Config.
const (
	DefaultPastEpochs = 2
	DefaultKeepFor    = 24 * time.Hour
)

// MaxExport is the longest secret that Export gives, in bytes: 255 hashes.
const MaxExport = 255 * 32

// Refusals that a caller acts on, beside those of package mls.
var (
	// ErrOwnMessage is returned for a message of our own: it was shown when sent.
	ErrOwnMessage = errors.New("group: message is our own")
	// ErrOwnCommit is returned for a Commit of our own: apply the Staged one.
	ErrOwnCommit = errors.New("group: commit is our own")
	// ErrNotForUs is returned for a Welcome without an entry for the KeyPackage.
	ErrNotForUs = errors.New("group: welcome is for others")
	// ErrNotMember is returned when a resync finds no leaf of ours.
	ErrNotMember = errors.New("group: no leaf of ours")
	// ErrTooLarge is returned for a plaintext beyond MaxPlaintext.
	ErrTooLarge = errors.New("group: plaintext too long")
	// ErrPending is returned for a message that has to wait for a Commit: see MustCommit.
	ErrPending = errors.New("group: proposals wait for a Commit, which has to come before messages")
	// ErrRecord is returned for stored records that do not fit together.
	ErrRecord = errors.New("group: malformed record")
)

// Config is what every State of a device shares.
type Config struct {
	Validator  mls.CredentialValidator // mandatory
	Signer     crypto.Signer           // mandatory: the device key, never stored here
	Now        func() time.Time        // nil: time.Now
	PastEpochs int                     // 0: DefaultPastEpochs; negative: none
	KeepFor    time.Duration           // of past epochs and skipped keys; 0: DefaultKeepFor
	PSK        PSKSource               // nil: groups refuse pre-shared keys
	Private    bool                    // handshakes as PrivateMessage; rooms send PublicMessage
}

func (c Config) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c Config) keepFor() time.Duration {
	if c.KeepFor > 0 {
		return c.KeepFor
	}
	return DefaultKeepFor
}

func (c Config) pastEpochs() int {
	if c.PastEpochs == 0 {
		return DefaultPastEpochs
	}
	return max(c.PastEpochs, 0)
}

func (c Config) check(suite *mls.Suite) error {
	if c.Validator == nil {
		return mls.ErrCredential
	}
	_, err := suite.CheckSigner(c.Signer)
	return err
}

func (c Config) public() mls.PublicOptions {
	return mls.PublicOptions{Validator: c.Validator, PSKs: c.PSK != nil}
}

// State is a member's view of a group in one epoch, and of a few before it. A
// value: methods return a new State and leave the old one as it was.
type State struct {
	cfg     Config
	pub     *mls.PublicGroup
	priv    privateTree
	secrets epochSecrets
	tree    *secretTree
	own     sending
	past    []*pastEpoch // newest first
	updates []ownUpdate  // of this epoch, not committed yet

	uses     uint64 // see Uses
	revision uint64 // counts the changes of the group's record
	old      bool   // read from records of an older version, and not changed since
}

// pastEpoch is what it takes to open late messages of an epoch that is over:
// its own secrets, and the members as they were then.
type pastEpoch struct {
	epoch      uint64
	ended      int64 // seconds since 1970
	context    []byte
	senderData []byte
	resumption []byte // empty where pre-shared keys are refused
	own        mls.LeafIndex
	tree       *secretTree
	members    []pastMember // by leaf index; blank ones have no key
}

type pastMember struct {
	key        []byte
	credential mls.Credential
}

// Public is the public half of the state; a PublicGroup is immutable.
func (s *State) Public() *mls.PublicGroup { return s.pub }

// GroupID is the group's identifier.
func (s *State) GroupID() []byte { return s.pub.GroupID() }

// Epoch is the present epoch.
func (s *State) Epoch() uint64 { return s.pub.Epoch() }

// Members lists the leaves in order.
func (s *State) Members() []mls.Member { return s.pub.Members() }

// OwnLeaf is our place in the tree.
func (s *State) OwnLeaf() mls.LeafIndex { return s.priv.leaf }

// Extensions are those of the GroupContext.
func (s *State) Extensions() []mls.Extension { return s.pub.Extensions() }

// Tree is the content of the ratchet_tree extension.
func (s *State) Tree() []byte { return s.pub.Tree() }

// EpochAuthenticator is equal for all members who agree on the group (RFC 9420
// §8.7): people may compare it.
func (s *State) EpochAuthenticator() []byte { return append([]byte{}, s.secrets.authenticator...) }

// Export is MLS-Exporter (§8.5): n bytes, at most MaxExport, that only members
// of this epoch can derive.
func (s *State) Export(label string, context []byte, n int) ([]byte, error) {
	if n < 0 || n > MaxExport || n > 255*s.pub.Suite().HashLen() {
		return nil, mls.ErrLimit
	}
	return exporter(s.pub.Suite(), s.secrets.exporter, label, context, n), nil
}

// GroupInfo is a signed GroupInfo of this epoch (an MLSMessage) with external_pub
// (§12.4.3), and with the ratchet tree when withTree is set.
func (s *State) GroupInfo(withTree bool) ([]byte, error) {
	gi, err := s.groupInfo(withTree, true)
	if err != nil {
		return nil, err
	}
	return gi.Encode(), nil
}

func (s *State) groupInfo(withTree, withExternal bool) (*mls.GroupInfo, error) {
	suite := s.pub.Suite()
	gi := &mls.GroupInfo{Context: s.pub.GroupContext(), ConfirmationTag: s.pub.ConfirmationTag(), Signer: s.priv.leaf}
	if withExternal {
		_, pub, err := suite.DeriveKeyPair(s.secrets.external)
		if err != nil {
			return nil, err
		}
		gi.Extensions = append(gi.Extensions, mls.ExternalPubExtension(pub))
	}
	if withTree {
		gi.Extensions = append(gi.Extensions, mls.Extension{Type: mls.ExtensionRatchetTree, Data: s.pub.Tree()})
	}
	return gi, gi.Sign(suite, s.cfg.Signer)
}

// Erase overwrites every secret of the state. States share secrets with those
// that they were made from: call it when the group is left for good.
func (s *State) Erase() {
	for _, f := range s.secrets.fields() {
		erase(*f)
	}
	for _, k := range s.priv.keys {
		erase(k)
	}
	for _, u := range s.updates {
		erase(u.private)
	}
	s.tree.erase()
	s.own.erase()
	for _, p := range s.past {
		erase(p.senderData)
		erase(p.resumption)
		p.tree.erase()
	}
}

func (t *secretTree) erase() {
	for _, f := range t.frontier {
		erase(f.secret)
	}
	t.senders.each(func(l *leafRatchets) {
		l.hs.erase()
		l.app.erase()
	})
	erase(t.key)
}

func (r *ratchet) erase() {
	erase(r.secret)
	for _, k := range r.skipped {
		erase(k.key)
		erase(k.nonce)
	}
}

// Uses counts the changes of what is stored of the group, from 0 when it was made
// or joined, in the order in which the caller took them; an Encrypt out of a
// reserve changes nothing stored and does not count. It is in the ratchets' record.
// A caller that keeps the highest count where a thief of the disk or a restored
// backup cannot set it back, at its home node for one, knows a State below it for
// an old one: its keys may have been used, and it must not be sent with.
func (s *State) Uses() uint64 { return s.uses }

// used counts a change of what is stored; group says whether the group's record is part
// of it. For values that are not handed out yet.
func (s *State) used(group bool) {
	s.uses++
	if s.old = false; group {
		s.revision++
	}
}

// Expire is the state without the past epochs and skipped keys that are older than
// Config.KeepFor, and whether there were any: then it has to be stored. Process,
// Decrypt and Apply do the same on their way; a device that hears nothing calls it, so
// that the keys go in time all the same.
func (s *State) Expire() (*State, bool) {
	n := s.tidy()
	if n == s {
		return s, false
	}
	n.used(false)
	return n, true
}

// tidy drops past epochs and skipped keys that are older than KeepFor; s when there are
// none.
func (s *State) tidy() *State {
	before := s.cfg.now().Add(-s.cfg.keepFor())
	tree, past, changed := s.tree.expire(before), s.past, false
	for i := len(s.past) - 1; i >= 0; i-- {
		p := s.past[i]
		t := p.tree.expire(before)
		if p.ended >= before.Unix() && t == p.tree {
			continue
		}
		if !changed {
			past, changed = slices.Clone(s.past), true
		}
		if p.ended < before.Unix() {
			past = slices.Delete(past, i, i+1)
			continue
		}
		q := *p
		q.tree = t
		past[i] = &q
	}
	if tree == s.tree && !changed {
		return s
	}
	n := *s
	n.tree, n.past = tree, past
	if len(past) < len(s.past) {
		n.revision++
	}
	return &n
}

// retire turns the present epoch into a past one.
func (s *State) retire() []*pastEpoch {
	keep := s.cfg.pastEpochs()
	if keep == 0 {
		return nil
	}
	p := &pastEpoch{
		epoch: s.Epoch(), ended: s.cfg.now().Unix(), context: s.pub.Context(), senderData: s.secrets.senderData,
		own: s.priv.leaf, tree: s.tree, members: make([]pastMember, s.pub.RatchetTree().Width()),
	}
	if s.cfg.PSK != nil {
		p.resumption = s.secrets.resumption
	}
	for _, m := range s.Members() {
		p.members[m.Leaf] = pastMember{key: m.Node.SignatureKey, credential: m.Node.Credential}
	}
	out := append([]*pastEpoch{p}, s.past...)
	return out[:min(len(out), keep)]
}

// enter is the state of a new epoch: the one place where epochs begin.
func enter(cfg Config, pub *mls.PublicGroup, priv privateTree, e *newEpoch, past []*pastEpoch) (*State, error) {
	s := &State{cfg: cfg, pub: pub, priv: priv, secrets: e.epochSecrets, past: past}
	tree, own, err := startSending(newSecretTree(pub.Suite(), pub.RatchetTree().Width(), e.encryption), priv.leaf)
	if err != nil {
		return nil, err
	}
	s.tree, s.own = tree, own
	erase(e.confirmation)
	return s, nil
}
