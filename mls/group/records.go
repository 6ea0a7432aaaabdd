package group

import (
	"bytes"
	"fmt"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// Record is one of the records that a State is stored as: Value under Key, which is at
// most 13 bytes and unique within a group; a nil Value deletes it. Values are secret.
type Record struct {
	Key   string
	Value []byte
}

// Keys of the two records that every State has; the others are partKey's.
const (
	groupKey = "g"
	headKey  = "r"
)

const (
	groupVersion    = 3 // 1 and 2 are still read: see old.go
	ratchetsVersion = 3
	stagedVersion   = 2 // and 1
)

// Records lists what has to be written, in one transaction, so that what is stored is s:
// since is the State that was stored last, nil when there is none, and then nothing else
// may be stored of the group. None are listed when nothing has to be written.
//
// What a message changes is small at any size of the group: our own ratchets, and those of
// who has sent it (docs/protocol.md 7.5). The tree, keys and pending proposals are in a
// record of their own, which is listed when they changed.
func (s *State) Records(since *State) []Record {
	if since != nil && since.old {
		since = nil
	}
	out := make([]Record, 0, 4)
	if since == nil || s.revision != since.revision || s.pub != since.pub || len(s.past) != len(since.past) {
		out = append(out, Record{Key: groupKey, Value: s.encodeGroup()})
	}
	head := s.encodeHead()
	if since == nil || s.uses != since.uses || !bytes.Equal(head, since.encodeHead()) {
		out = append(out, Record{Key: headKey, Value: head})
	}
	for epoch, t := range s.trees() {
		out = t.records(out, epoch, since.treeOf(epoch))
	}
	if since == nil {
		return out
	}
	for epoch, t := range since.trees() {
		if s.treeOf(epoch) == nil {
			var gone *secretTree
			out = gone.records(out, epoch, t)
		}
	}
	return out
}

// treeOf is the secret tree of an epoch, nil when there is none.
func (s *State) treeOf(epoch uint64) *secretTree {
	if s == nil {
		return nil
	}
	for e, t := range s.trees() {
		if e == epoch {
			return t
		}
	}
	return nil
}

// trees calls yield for each epoch's secret tree, the present one first.
func (s *State) trees() func(yield func(uint64, *secretTree) bool) {
	return func(yield func(uint64, *secretTree) bool) {
		if !yield(s.Epoch(), s.tree) {
			return
		}
		for _, p := range s.past {
			if !yield(p.epoch, p.tree) {
				return
			}
		}
	}
}

// encodeHead is what changes with every message of ours or others': the counts, our own
// ratchets (as reserved), and of each epoch the sum over its records.
func (s *State) encodeHead() []byte {
	w := tls.NewWriter(192 + s.own.hs.size() + s.own.reserved.size() + 80*len(s.past))
	w.U8(ratchetsVersion)
	w.Vec(s.binding())
	w.U64(s.uses)
	w.U64(s.revision)
	s.own.hs.write(w)
	s.own.reserved.write(w)
	s.tree.writeHead(w)
	w.Vector(func(w *tls.Writer) {
		for _, p := range s.past {
			w.U64(p.epoch)
			p.tree.writeHead(w)
		}
	})
	return w.B
}

func (t *secretTree) writeHead(w *tls.Writer) {
	w.U32(t.width)
	w.Raw(t.key)
	w.Raw(t.sum[:])
}

func readTreeHead(r *tls.Reader, s *mls.Suite) *secretTree {
	t := &secretTree{suite: s, width: r.U32(), key: r.Fixed(32)}
	copy(t.sum[:], r.Fixed(len(t.sum)))
	if t.width == 0 || t.width > mls.MaxMembers || t.width&(t.width-1) != 0 {
		r.Fail(ErrRecord)
	}
	return t
}

// binding ties the ratchets to the epoch they belong to.
func (s *State) binding() []byte { return s.pub.Suite().Hash(s.pub.Context()) }

// Restore takes a State up again from all its records, in any order. An ErrRecord says
// that they are not of one State: one is missing, too many, of another group, epoch or
// sender, or older than the others; then nothing can be said of which keys were used, and
// the way back into the group is ExternalJoin. Records are the caller's own and authentic:
// shape, tree hash and own keys are checked, signatures and credentials are not again.
// Older versions are read; the first Records after that lists all.
func Restore(cfg Config, records []Record) (*State, error) {
	byKey := make(map[string][]byte, 2)
	var parts []Record
	for _, r := range records {
		if r.Key != groupKey && r.Key != headKey {
			parts = append(parts, r)
			continue
		}
		if byKey[r.Key] != nil || r.Value == nil {
			return nil, ErrRecord
		}
		byKey[r.Key] = r.Value
	}
	s, version, err := decodeGroup(cfg, byKey[groupKey])
	if err != nil {
		return nil, err
	}
	head := byKey[headKey]
	if version < groupVersion {
		if len(parts) > 0 {
			return nil, ErrRecord
		}
		s.old = true
		return s, s.decodeOldRatchets(head)
	}
	if err := s.decodeHead(head); err != nil {
		return nil, err
	}
	return s, s.takeParts(parts)
}

func (s *State) decodeHead(b []byte) error {
	suite := s.pub.Suite()
	r := tls.NewReader(b)
	if v := r.U8(); r.Err() == nil && v != ratchetsVersion {
		return ErrRecord
	}
	if !bytes.Equal(r.Vec(), s.binding()) {
		return ErrRecord
	}
	s.uses = r.U64()
	if revision := r.U64(); revision != s.revision {
		return fmt.Errorf("%w: of two states", ErrRecord)
	}
	s.own.hs.read(r, suite)
	s.own.app.read(r, suite)
	s.own.reserved = s.own.app
	s.tree = readTreeHead(r, suite)
	trees := map[uint64]*secretTree{}
	r.Each(func(r *tls.Reader) {
		epoch := r.U64()
		if trees[epoch] != nil || epoch == s.Epoch() {
			r.Fail(ErrRecord)
		}
		trees[epoch] = readTreeHead(r, suite)
	})
	if err := r.Done(); err != nil {
		return err
	}
	return s.fitTrees(trees)
}

// fitTrees gives the epochs their secret trees.
func (s *State) fitTrees(past map[uint64]*secretTree) error {
	if s.tree.width != s.pub.RatchetTree().Width() || len(past) != len(s.past) {
		return ErrRecord
	}
	for _, p := range s.past {
		if p.tree = past[p.epoch]; p.tree == nil || int(p.tree.width) != len(p.members) {
			return ErrRecord
		}
	}
	return nil
}

// takeParts fills the secret trees and compares their sums.
func (s *State) takeParts(parts []Record) error {
	want := map[uint64]tag{}
	trees := map[uint64]*secretTree{}
	for epoch, t := range s.trees() {
		want[epoch], trees[epoch] = t.sum, t
		t.sum, t.oldest = tag{}, never
	}
	for _, p := range parts {
		kind, epoch, index, ok := parsePartKey(p.Key)
		t := trees[epoch]
		if !ok || t == nil {
			return ErrRecord
		}
		read := t.readNode
		if kind == partSender {
			read = t.readSender
		}
		if err := read(index, p.Value); err != nil {
			return err
		}
	}
	for epoch, t := range trees {
		if !t.sortFrontier() || t.sum != want[epoch] {
			return fmt.Errorf("%w: the ratchets of epoch %d are not of one state", ErrRecord, epoch)
		}
	}
	return nil
}

func (t *secretTree) readNode(index uint32, value []byte) error {
	if index >= 2*t.width-1 || len(value) != t.suite.HashLen() {
		return ErrRecord
	}
	f := frontierNode{mls.NodeIndex(index), bytes.Clone(value)}
	t.frontier = append(t.frontier, f)
	t.sum.add(t.tagNode(f))
	return nil
}

func (t *secretTree) readSender(index uint32, value []byte) error {
	l := &leafRatchets{leaf: mls.LeafIndex(index)}
	if index >= t.width || t.senders.get(l.leaf) != nil {
		return ErrRecord
	}
	r := tls.NewReader(value)
	l.hs.read(r, t.suite)
	l.app.read(r, t.suite)
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: a sender's ratchets: %w", ErrRecord, err)
	}
	t.put(l)
	return nil
}

// bundle encodes all records of a State as one value.
func (s *State) bundle() []byte {
	var w tls.Writer
	w.Vector(func(w *tls.Writer) {
		for _, r := range s.Records(nil) {
			w.Vec([]byte(r.Key))
			w.Vec(r.Value)
		}
	})
	return w.B
}

func parseBundle(b []byte) (out []Record, err error) {
	r := tls.NewReader(b)
	r.Each(func(r *tls.Reader) { out = append(out, Record{Key: string(r.Vec()), Value: r.Vec()}) })
	return out, r.Done()
}
