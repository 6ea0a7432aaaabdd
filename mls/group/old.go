package group

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// Records of versions 1 and 2 had all ratchets in one. Version 1 had no use counter, no
// resumption secrets of past epochs and no Updates of our own.

// decodeOldRatchets reads the one record of all ratchets.
func (s *State) decodeOldRatchets(b []byte) error {
	suite := s.pub.Suite()
	r := tls.NewReader(b)
	version := r.U8()
	if r.Err() == nil && (version < 1 || version > 2) {
		return ErrRecord
	}
	if !bytes.Equal(r.Vec(), s.binding()) {
		return ErrRecord
	}
	if version > 1 {
		s.uses = r.U64()
	}
	s.own.hs.read(r, suite)
	s.own.app.read(r, suite)
	s.own.reserved = s.own.app
	s.tree = readOldTree(r, suite)
	trees := map[uint64]*secretTree{}
	r.Each(func(r *tls.Reader) {
		epoch := r.U64()
		trees[epoch] = readOldTree(r, suite)
	})
	if err := r.Done(); err != nil {
		return err
	}
	// The younger record may have dropped a past epoch already.
	s.past = slices.DeleteFunc(s.past, func(p *pastEpoch) bool { return trees[p.epoch] == nil })
	for epoch := range trees {
		if !slices.ContainsFunc(s.past, func(p *pastEpoch) bool { return p.epoch == epoch }) {
			delete(trees, epoch)
		}
	}
	return s.fitTrees(trees)
}

func readOldTree(r *tls.Reader, s *mls.Suite) *secretTree {
	t := &secretTree{suite: s, width: r.U32(), key: mls.Random(32), oldest: never}
	if t.width == 0 || t.width > mls.MaxMembers || t.width&(t.width-1) != 0 {
		r.Fail(ErrRecord)
		return t
	}
	r.Each(func(r *tls.Reader) {
		if node, secret := r.U32(), r.Vec(); t.readNode(node, secret) != nil {
			r.Fail(ErrRecord)
		}
	})
	r.Each(func(r *tls.Reader) {
		l := &leafRatchets{leaf: mls.LeafIndex(r.U32())}
		l.hs.read(r, s)
		l.app.read(r, s)
		if r.Err() != nil || uint32(l.leaf) >= t.width || t.senders.get(l.leaf) != nil {
			r.Fail(ErrRecord)
			return
		}
		t.put(l)
	})
	if !t.sortFrontier() {
		r.Fail(ErrRecord)
	}
	return t
}
