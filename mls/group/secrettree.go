package group

import (
	"errors"
	"fmt"
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
	frontier []frontierNode  // by node index
	leaves   []*leafRatchets // by leaf, shared and never changed
}

type frontierNode struct {
	node   mls.NodeIndex
	secret []byte
}

type leafRatchets struct {
	leaf mls.LeafIndex
	hs   ratchet
	app  ratchet
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
	return &secretTree{suite: s, width: width, frontier: []frontierNode{{mls.Root(width), encryptionSecret}}}
}

func (t *secretTree) find(l mls.LeafIndex) (int, bool) {
	return slices.BinarySearchFunc(t.leaves, l, func(r *leafRatchets, l mls.LeafIndex) int { return int(r.leaf) - int(l) })
}

// expand makes sure that leaf l has its ratchets: every secret between the
// frontier and the leaf is consumed (§9).
func (t *secretTree) expand(l mls.LeafIndex) (*secretTree, error) {
	if uint32(l) >= t.width {
		return nil, mls.ErrSender
	}
	at, ok := t.find(l)
	if ok {
		return t, nil
	}
	i := slices.IndexFunc(t.frontier, func(f frontierNode) bool { return l.Node().Within(f.node) })
	if i < 0 {
		return nil, mls.ErrSender
	}
	s, n := t.suite, t.suite.HashLen()
	x, secret := t.frontier[i].node, slices.Clone(t.frontier[i].secret)
	c := &secretTree{suite: s, width: t.width}
	c.frontier = slices.Delete(slices.Clone(t.frontier), i, i+1)
	for !x.IsLeaf() {
		left := s.ExpandWithLabel(secret, "tree", []byte("left"), n)
		right := s.ExpandWithLabel(secret, "tree", []byte("right"), n)
		erase(secret)
		if l.Node().Within(x.Left()) {
			c.frontier = append(c.frontier, frontierNode{x.Right(), right})
			x, secret = x.Left(), left
		} else {
			c.frontier = append(c.frontier, frontierNode{x.Left(), left})
			x, secret = x.Right(), right
		}
	}
	slices.SortFunc(c.frontier, func(a, b frontierNode) int { return int(a.node) - int(b.node) })
	r := &leafRatchets{leaf: l}
	r.hs.secret = s.ExpandWithLabel(secret, "handshake", nil, n)
	r.app.secret = s.ExpandWithLabel(secret, "application", nil, n)
	erase(secret)
	c.leaves = slices.Insert(slices.Clone(t.leaves), at, r)
	return c, nil
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
	at, _ := t.find(l)
	r := t.leaves[at].app
	if handshake {
		r = t.leaves[at].hs
	}
	var key, nonce []byte
	if generation < r.generation {
		i, ok := slices.BinarySearchFunc(r.skipped, generation, func(k skippedKey, g uint32) int { return int(k.generation) - int(g) })
		if !ok {
			return nil, nil, nil, ErrReplay
		}
		key, nonce = slices.Clone(r.skipped[i].key), slices.Clone(r.skipped[i].nonce)
		r.skipped = slices.Delete(slices.Clone(r.skipped), i, i+1)
		return t.with(at, handshake, r), key, nonce, nil
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
	return t.with(at, handshake, r), key, nonce, nil
}

func (t *secretTree) with(at int, handshake bool, r ratchet) *secretTree {
	c := *t
	c.leaves = slices.Clone(t.leaves)
	l := *t.leaves[at]
	if handshake {
		l.hs = r
	} else {
		l.app = r
	}
	c.leaves[at] = &l
	return &c
}

func (t *secretTree) countSkipped() int {
	n := 0
	for i := range t.leaves {
		n += len(t.leaves[i].hs.skipped) + len(t.leaves[i].app.skipped)
	}
	return n
}

// expire drops skipped keys from before the given time.
func (t *secretTree) expire(before time.Time) *secretTree {
	old := func(k skippedKey) bool { return k.at < before.Unix() }
	for at := range t.leaves {
		for _, hs := range [2]bool{true, false} {
			r := t.leaves[at].app
			if hs {
				r = t.leaves[at].hs
			}
			if slices.ContainsFunc(r.skipped, old) {
				r.skipped = slices.DeleteFunc(slices.Clone(r.skipped), old)
				t = t.with(at, hs, r)
			}
		}
	}
	return t
}
