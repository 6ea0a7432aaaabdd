package group

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/entente-im/entente/mls"
)

// Bounds of the secret tree, for one epoch.
const (
	MaxForward = 1000 // generations that one message may skip
	MaxSkipped = 1000 // skipped keys kept for all senders together
)

// Errors of the secret tree.
var (
	// ErrReplay is returned for a generation whose key was used or is too old.
	ErrReplay = errors.New("group: message was opened already or is too old")
	// ErrTooFar is returned for a generation beyond MaxForward or MaxSkipped.
	ErrTooFar = errors.New("group: message skips too many generations")
)

// secretTree is the secret tree of RFC 9420 §9: the roots of the subtrees that
// nobody has sent from, and the ratchets of who has. A value: its methods
// return a changed copy that shares what did not change.
type secretTree struct {
	suite    *mls.Suite
	width    uint32
	frontier []frontierNode // by node index
	senders  senders
	skipped  int    // keys kept of all senders
	oldest   int64  // none of them was skipped before: seconds since 1970
	key      []byte // of the tags of the stored records: see tag
	sum      tag
}

type frontierNode struct {
	node   mls.NodeIndex
	secret []byte
}

// leafRatchets are never changed: another value takes their place.
type leafRatchets struct {
	leaf mls.LeafIndex
	hs   ratchet
	app  ratchet
	tag  tag
}

// ratchet is one of a leaf's two (§9.1): each has its own generations.
type ratchet struct {
	secret     []byte // of generation
	generation uint32
	skipped    []skippedKey // by generation
}

type skippedKey struct {
	generation uint32
	at         int64 // seconds since 1970, when it was skipped
	key        []byte
	nonce      []byte
}

func newSecretTree(s *mls.Suite, width uint32, encryptionSecret []byte) *secretTree {
	t := &secretTree{suite: s, width: width, key: mls.Random(32)}
	t.frontier = []frontierNode{{mls.Root(width), encryptionSecret}}
	t.sum = t.tagNode(t.frontier[0])
	return t
}

// expand makes sure that leaf l has its ratchets: every secret between the
// frontier and the leaf is consumed (§9).
func (t *secretTree) expand(l mls.LeafIndex) (*secretTree, error) {
	if uint32(l) >= t.width {
		return nil, mls.ErrSender
	}
	if t.senders.get(l) != nil {
		return t, nil
	}
	i := slices.IndexFunc(t.frontier, func(f frontierNode) bool { return l.Node().Within(f.node) })
	if i < 0 {
		return nil, mls.ErrSender
	}
	s, n := t.suite, t.suite.HashLen()
	x, secret := t.frontier[i].node, slices.Clone(t.frontier[i].secret)
	c := *t
	c.sum.add(t.tagNode(t.frontier[i]))
	c.frontier = slices.Delete(slices.Clone(t.frontier), i, i+1)
	kept := func(f frontierNode) {
		c.frontier = append(c.frontier, f)
		c.sum.add(c.tagNode(f))
	}
	for !x.IsLeaf() {
		left := s.ExpandWithLabel(secret, "tree", []byte("left"), n)
		right := s.ExpandWithLabel(secret, "tree", []byte("right"), n)
		erase(secret)
		if l.Node().Within(x.Left()) {
			kept(frontierNode{x.Right(), right})
			x, secret = x.Left(), left
		} else {
			kept(frontierNode{x.Left(), left})
			x, secret = x.Right(), right
		}
	}
	slices.SortFunc(c.frontier, byNode)
	r := &leafRatchets{leaf: l}
	r.hs.secret = s.ExpandWithLabel(secret, "handshake", nil, n)
	r.app.secret = s.ExpandWithLabel(secret, "application", nil, n)
	erase(secret)
	return c.with(r), nil
}

// step derives the key of the present generation and moves on (§9.1). The old
// secret stays in the old state and nowhere else.
func (r ratchet) step(s *mls.Suite) (next ratchet, key, nonce []byte) {
	g := r.generation
	key = s.DeriveTreeSecret(r.secret, "key", g, s.KeyLen())
	nonce = s.DeriveTreeSecret(r.secret, "nonce", g, s.NonceLen())
	r.secret = s.DeriveTreeSecret(r.secret, "secret", g, s.HashLen())
	r.generation++
	return r, key, nonce
}

// take returns the key of a generation and the tree without it: skipped keys in
// between are kept, until MaxSkipped. The bound is checked before anything is
// derived: a generation of 2^32-1 costs nothing.
func (t *secretTree) take(l mls.LeafIndex, handshake bool, generation uint32, now time.Time) (*secretTree, []byte, []byte, error) {
	t, err := t.expand(l)
	if err != nil {
		return nil, nil, nil, err
	}
	of := t.senders.get(l)
	r := of.app
	if handshake {
		r = of.hs
	}
	var key, nonce []byte
	if generation < r.generation {
		i, ok := slices.BinarySearchFunc(r.skipped, generation, func(k skippedKey, g uint32) int { return int(k.generation) - int(g) })
		if !ok {
			return nil, nil, nil, ErrReplay
		}
		key, nonce = slices.Clone(r.skipped[i].key), slices.Clone(r.skipped[i].nonce)
		r.skipped = slices.Delete(slices.Clone(r.skipped), i, i+1)
		return t.with(of.with(handshake, r)), key, nonce, nil
	}
	ahead := generation - r.generation
	if ahead > MaxForward || generation == 1<<32-1 || ahead > 0 && t.countSkipped()+int(ahead) > MaxSkipped {
		return nil, nil, nil, fmt.Errorf("%w: %d", ErrTooFar, ahead)
	}
	if ahead > 0 {
		r.skipped = slices.Clone(r.skipped)
	}
	for r.generation < generation {
		g := r.generation
		r, key, nonce = r.step(t.suite)
		r.skipped = append(r.skipped, skippedKey{generation: g, at: now.Unix(), key: key, nonce: nonce})
	}
	r, key, nonce = r.step(t.suite)
	return t.with(of.with(handshake, r)), key, nonce, nil
}

// never is after every skipped key.
const never = math.MaxInt64

// with is a copy with other ratchets of one leaf.
func (t *secretTree) with(l *leafRatchets) *secretTree {
	c := *t
	if old := t.senders.get(l.leaf); old != nil {
		c.sum.add(old.tag)
		c.skipped -= old.countSkipped()
	}
	c.note(l)
	c.senders = t.senders.with(l.leaf, l)
	return &c
}

// put adds a leaf's ratchets to a tree that is still being read.
func (t *secretTree) put(l *leafRatchets) {
	t.note(l)
	at := int(l.leaf >> chunkBits)
	for at >= len(t.senders) {
		t.senders = append(t.senders, nil)
	}
	if t.senders[at] == nil {
		t.senders[at] = new(senderChunk)
	}
	t.senders[at][l.leaf%(1<<chunkBits)] = l
}

// note counts a leaf's ratchets in.
func (t *secretTree) note(l *leafRatchets) {
	l.tag = t.tagSender(l)
	t.sum.add(l.tag)
	if t.skipped == 0 {
		t.oldest = never
	}
	t.oldest = min(t.oldest, l.oldest())
	t.skipped += l.countSkipped()
}

// sortFrontier puts the nodes in order; false when there are two of one.
func (t *secretTree) sortFrontier() bool {
	slices.SortFunc(t.frontier, byNode)
	for i := 1; i < len(t.frontier); i++ {
		if t.frontier[i-1].node == t.frontier[i].node {
			return false
		}
	}
	return true
}

func byNode(a, b frontierNode) int { return int(a.node) - int(b.node) }

// without is a copy that cannot open anything of a leaf.
func (t *secretTree) without(l mls.LeafIndex) *secretTree {
	c := *t
	old := t.senders.get(l)
	c.sum.add(old.tag)
	c.skipped -= old.countSkipped()
	c.senders = t.senders.with(l, nil)
	return &c
}

func (l *leafRatchets) with(handshake bool, r ratchet) *leafRatchets {
	c := &leafRatchets{leaf: l.leaf, hs: l.hs, app: l.app}
	if handshake {
		c.hs = r
	} else {
		c.app = r
	}
	return c
}

func (l *leafRatchets) countSkipped() int { return len(l.hs.skipped) + len(l.app.skipped) }

// oldest is when the first of the skipped keys was skipped.
func (l *leafRatchets) oldest() int64 {
	at := int64(never)
	for _, list := range [2][]skippedKey{l.hs.skipped, l.app.skipped} {
		for _, k := range list {
			at = min(at, k.at)
		}
	}
	return at
}

func (t *secretTree) countSkipped() int { return t.skipped }

// expire drops skipped keys from before the given time.
func (t *secretTree) expire(before time.Time) *secretTree {
	if t.skipped == 0 || t.oldest >= before.Unix() {
		return t
	}
	old := func(k skippedKey) bool { return k.at < before.Unix() }
	var changed []*leafRatchets
	oldest := int64(never)
	t.senders.each(func(l *leafRatchets) {
		if l.oldest() < before.Unix() {
			c := &leafRatchets{leaf: l.leaf, hs: l.hs, app: l.app}
			c.hs.skipped = slices.DeleteFunc(slices.Clone(l.hs.skipped), old)
			c.app.skipped = slices.DeleteFunc(slices.Clone(l.app.skipped), old)
			changed = append(changed, c)
			l = c
		}
		oldest = min(oldest, l.oldest())
	})
	for _, c := range changed {
		t = t.with(c)
	}
	n := *t
	n.oldest = oldest
	return &n
}
