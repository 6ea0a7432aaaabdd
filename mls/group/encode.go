package group

import (
	"bytes"
	"maps"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

const (
	groupVersion    = 2 // 1, without resumption secrets and Updates of our own, is still read
	ratchetsVersion = 2 // 1, without the use counter, is still read
	stagedVersion   = 1
)

// EncodeGroup encodes what changes with proposals and Commits: tree, context,
// pending proposals, private keys and the epoch's secrets, and the members of
// past epochs where they differ from today's. It has nothing that opens an
// application message: that is in EncodeRatchets. Both are to be sealed and
// stored in one transaction, in place of those before.
func (s *State) EncodeGroup() []byte {
	var w tls.Writer
	w.U8(groupVersion)
	w.Vec(s.pub.Marshal())
	w.U32(uint32(s.priv.leaf))
	w.Vector(func(w *tls.Writer) {
		for _, x := range slices.Sorted(maps.Keys(s.priv.keys)) {
			w.U32(uint32(x))
			w.Vec(s.priv.keys[x])
		}
	})
	for _, f := range s.secrets.fields() {
		w.Vec(*f)
	}
	w.Vector(func(w *tls.Writer) {
		for _, p := range s.past {
			p.write(w, s.pub.RatchetTree())
		}
	})
	s.writeUpdates(&w)
	return w.B
}

// write encodes a past epoch without its ratchets, and only the members that
// differ from the present tree's.
func (p *pastEpoch) write(w *tls.Writer, t *mls.Tree) {
	w.U64(p.epoch)
	w.U64(uint64(p.ended))
	w.Vec(p.context)
	w.Vec(p.senderData)
	w.Vec(p.resumption)
	w.U32(uint32(p.own))
	w.U32(uint32(len(p.members)))
	w.Vector(func(w *tls.Writer) {
		for i, m := range p.members {
			if same(m, memberNow(t, mls.LeafIndex(i))) {
				continue
			}
			w.U32(uint32(i))
			w.Vec(m.key)
			w.U16(uint16(m.credential.Type))
			w.Vec(m.credential.Identity)
		}
	})
}

func memberNow(t *mls.Tree, l mls.LeafIndex) pastMember {
	if n := t.Leaf(l); n != nil {
		return pastMember{key: n.SignatureKey, credential: n.Credential}
	}
	return pastMember{}
}

func same(a, b pastMember) bool {
	return bytes.Equal(a.key, b.key) && a.credential.Equal(b.credential)
}

// readPast is the inverse of write.
func readPast(r *tls.Reader, t *mls.Tree, version uint8) *pastEpoch {
	p := &pastEpoch{epoch: r.U64(), ended: int64(r.U64()), context: r.Vec(), senderData: r.Vec()}
	if version > 1 {
		p.resumption = r.Vec()
	}
	p.own = mls.LeafIndex(r.U32())
	width := r.U32()
	if width > mls.MaxMembers || r.Err() != nil {
		r.Fail(mls.ErrDecode)
		return p
	}
	p.members = make([]pastMember, width)
	for i := range p.members {
		p.members[i] = memberNow(t, mls.LeafIndex(i))
	}
	r.Each(func(r *tls.Reader) {
		i, m := r.U32(), pastMember{key: r.Vec()}
		m.credential.Type = mls.CredentialType(r.U16())
		m.credential.Identity = r.Vec()
		if i >= width {
			r.Fail(mls.ErrDecode)
			return
		}
		if len(m.key) == 0 {
			m = pastMember{}
		}
		p.members[i] = m
	})
	return p
}

// EncodeRatchets encodes what changes with every message: our own generation (as
// reserved), and the ratchets and skipped keys of who has sent, for this epoch and
// the past ones. Its size grows with those, not with the group.
func (s *State) EncodeRatchets() []byte {
	w := tls.NewWriter(s.ratchetsSize())
	w.U8(ratchetsVersion)
	w.Vec(s.binding())
	w.U64(s.uses)
	s.own.hs.write(w)
	s.own.reserved.write(w)
	s.tree.write(w)
	w.Vector(func(w *tls.Writer) {
		for _, p := range s.past {
			w.U64(p.epoch)
			p.tree.write(w)
		}
	})
	return w.B
}

// ratchetsSize is a little more than EncodeRatchets needs: when everybody has sent
// the record is long, and growing it would copy secrets about.
func (s *State) ratchetsSize() int {
	n := 512 + s.own.hs.size() + s.own.reserved.size() + s.tree.size()
	for _, p := range s.past {
		n += 16 + p.tree.size()
	}
	return n
}

func (t *secretTree) size() int {
	n := 16 + 38*len(t.frontier)
	for _, l := range t.leaves {
		n += 4 + l.hs.size() + l.app.size()
	}
	return n
}

func (r *ratchet) size() int { return 42 + (14+32+12)*len(r.skipped) }

// binding ties the ratchets to the epoch they belong to.
func (s *State) binding() []byte { return s.pub.Suite().Hash(s.pub.Context()) }

func (r *ratchet) write(w *tls.Writer) {
	w.Vec(r.secret)
	w.U32(r.generation)
	w.Vector(func(w *tls.Writer) {
		for _, k := range r.skipped {
			w.U32(k.generation)
			w.U64(uint64(k.at))
			w.Vec(k.key)
			w.Vec(k.nonce)
		}
	})
}

func (r *ratchet) read(in *tls.Reader, s *mls.Suite) {
	r.secret, r.generation = in.Vec(), in.U32()
	if len(r.secret) != s.HashLen() {
		in.Fail(ErrRecord)
	}
	in.Each(func(in *tls.Reader) {
		k := skippedKey{generation: in.U32(), at: int64(in.U64()), key: in.Vec(), nonce: in.Vec()}
		n := len(r.skipped)
		if len(k.key) != s.KeyLen() || len(k.nonce) != s.NonceLen() || k.generation >= r.generation ||
			n >= MaxSkipped || n > 0 && r.skipped[n-1].generation >= k.generation {
			in.Fail(ErrRecord)
			return
		}
		r.skipped = append(r.skipped, k)
	})
}

func (t *secretTree) write(w *tls.Writer) {
	w.U32(t.width)
	w.Vector(func(w *tls.Writer) {
		for _, f := range t.frontier {
			w.U32(uint32(f.node))
			w.Vec(f.secret)
		}
	})
	w.Vector(func(w *tls.Writer) {
		for i := range t.leaves {
			w.U32(uint32(t.leaves[i].leaf))
			t.leaves[i].hs.write(w)
			t.leaves[i].app.write(w)
		}
	})
}

func readSecretTree(r *tls.Reader, s *mls.Suite) *secretTree {
	t := &secretTree{suite: s, width: r.U32()}
	if t.width == 0 || t.width > mls.MaxMembers || t.width&(t.width-1) != 0 {
		r.Fail(ErrRecord)
		return t
	}
	r.Each(func(r *tls.Reader) {
		f := frontierNode{node: mls.NodeIndex(r.U32()), secret: r.Vec()}
		if n := len(t.frontier); uint32(f.node) >= 2*t.width-1 || len(f.secret) != s.HashLen() || n > 0 && t.frontier[n-1].node >= f.node {
			r.Fail(ErrRecord)
			return
		}
		t.frontier = append(t.frontier, f)
	})
	r.Each(func(r *tls.Reader) {
		l := &leafRatchets{leaf: mls.LeafIndex(r.U32())}
		l.hs.read(r, s)
		l.app.read(r, s)
		if n := len(t.leaves); uint32(l.leaf) >= t.width || n > 0 && t.leaves[n-1].leaf >= l.leaf {
			r.Fail(ErrRecord)
			return
		}
		t.leaves = append(t.leaves, l)
	})
	return t
}

// Decode restores a State from its two records, which must be of one epoch. They
// are the caller's own and authentic: shape, tree hash and own keys are checked,
// signatures and credentials are not again.
func Decode(cfg Config, group, ratchets []byte) (*State, error) {
	r := tls.NewReader(group)
	version := r.U8()
	if r.Err() == nil && (version < 1 || version > groupVersion) {
		return nil, ErrRecord
	}
	pub, err := mls.UnmarshalPublicGroup(r.Vec(), cfg.public())
	if err != nil {
		return nil, err
	}
	if err := cfg.check(pub.Suite()); err != nil {
		return nil, err
	}
	s := &State{cfg: cfg, pub: pub, priv: privateTree{keys: map[mls.NodeIndex][]byte{}}}
	s.priv.leaf = mls.LeafIndex(r.U32())
	r.Each(func(r *tls.Reader) { s.priv.keys[mls.NodeIndex(r.U32())] = r.Vec() })
	for _, f := range s.secrets.fields() {
		if *f = r.Vec(); len(*f) != pub.Suite().HashLen() {
			r.Fail(ErrRecord)
		}
	}
	r.Each(func(r *tls.Reader) { s.past = append(s.past, readPast(r, pub.RatchetTree(), version)) })
	if version > 1 {
		s.readUpdates(r)
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	if err := s.checkOwn(); err != nil {
		return nil, err
	}
	if err := s.decodeRatchets(ratchets); err != nil {
		return nil, err
	}
	return s, nil
}

// checkOwn makes sure that our leaf is there, under the signer's key, and that
// its private key fits.
func (s *State) checkOwn() error {
	leaf, suite := s.pub.Member(s.priv.leaf), s.pub.Suite()
	signer, err := suite.CheckSigner(s.cfg.Signer)
	if err != nil {
		return err
	}
	if leaf == nil || !bytes.Equal(leaf.SignatureKey, signer) {
		return ErrRecord
	}
	if pub, err := suite.PublicOf(s.priv.keys[s.priv.leaf.Node()]); err != nil || !bytes.Equal(pub, leaf.EncryptionKey) {
		return ErrRecord
	}
	return nil
}

func (s *State) decodeRatchets(b []byte) error {
	suite := s.pub.Suite()
	r := tls.NewReader(b)
	version := r.U8()
	if r.Err() == nil && (version < 1 || version > ratchetsVersion) {
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
	s.tree = readSecretTree(r, suite)
	trees := map[uint64]*secretTree{}
	r.Each(func(r *tls.Reader) {
		epoch := r.U64()
		trees[epoch] = readSecretTree(r, suite)
	})
	if err := r.Done(); err != nil {
		return err
	}
	if s.tree.width != s.pub.RatchetTree().Width() {
		return ErrRecord
	}
	// A past epoch that the younger record has dropped is gone.
	s.past = slices.DeleteFunc(s.past, func(p *pastEpoch) bool { return trees[p.epoch] == nil })
	for _, p := range s.past {
		if p.tree = trees[p.epoch]; int(p.tree.width) != len(p.members) {
			return ErrRecord
		}
	}
	return nil
}

// Marshal encodes the staged Commit with the state that it leads to, to be sealed
// and stored until the Commit is answered.
func (st *Staged) Marshal() []byte {
	var w tls.Writer
	w.U8(stagedVersion)
	for _, b := range [][]byte{st.Commit, st.Welcome, st.GroupInfo, st.Tree, st.base, st.next.EncodeGroup(), st.next.EncodeRatchets()} {
		w.Vec(b)
	}
	return w.B
}

// UnmarshalStaged is the inverse of Marshal, without Effects.
func UnmarshalStaged(cfg Config, b []byte) (*Staged, error) {
	r := tls.NewReader(b)
	if v := r.U8(); r.Err() == nil && v != stagedVersion {
		return nil, ErrRecord
	}
	st := &Staged{}
	var group, ratchets []byte
	for _, f := range []*[]byte{&st.Commit, &st.Welcome, &st.GroupInfo, &st.Tree, &st.base, &group, &ratchets} {
		if *f = r.Vec(); len(*f) == 0 {
			*f = nil
		}
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	var err error
	if st.next, err = Decode(cfg, group, ratchets); err != nil {
		return nil, err
	}
	return st, nil
}
