package group

import (
	"bytes"
	"maps"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// encodeGroup encodes what changes with proposals and Commits: tree, context,
// pending proposals, private keys and the epoch's secrets, and the members of
// past epochs where they differ from today's. It has nothing that opens an
// application message.
func (s *State) encodeGroup() []byte {
	var w tls.Writer
	w.U8(groupVersion)
	w.U64(s.revision)
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

// decodeGroup reads the group's record, of any version. The ratchets are missing.
func decodeGroup(cfg Config, b []byte) (s *State, version uint8, err error) {
	r := tls.NewReader(b)
	version = r.U8()
	if r.Err() == nil && (version < 1 || version > groupVersion) {
		return nil, 0, ErrRecord
	}
	s = &State{cfg: cfg, priv: privateTree{keys: map[mls.NodeIndex][]byte{}}}
	if version > 2 {
		s.revision = r.U64()
	}
	if s.pub, err = mls.UnmarshalPublicGroup(r.Vec(), cfg.public()); err != nil {
		return nil, 0, err
	}
	suite := s.pub.Suite()
	if err := cfg.check(suite); err != nil {
		return nil, 0, err
	}
	s.priv.leaf = mls.LeafIndex(r.U32())
	r.Each(func(r *tls.Reader) { s.priv.keys[mls.NodeIndex(r.U32())] = r.Vec() })
	for _, f := range s.secrets.fields() {
		if *f = r.Vec(); len(*f) != suite.HashLen() {
			r.Fail(ErrRecord)
		}
	}
	r.Each(func(r *tls.Reader) { s.past = append(s.past, readPast(r, s.pub.RatchetTree(), version)) })
	if version > 1 {
		s.readUpdates(r)
	}
	if err := r.Done(); err != nil {
		return nil, 0, err
	}
	return s, version, s.checkOwn()
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

// Marshal encodes the staged Commit with the state that it leads to, to be sealed
// and stored until the Commit is answered.
func (st *Staged) Marshal() []byte {
	var w tls.Writer
	w.U8(stagedVersion)
	for _, b := range [][]byte{st.Commit, st.Welcome, st.GroupInfo, st.Tree, st.base, st.next.bundle()} {
		w.Vec(b)
	}
	return w.B
}

// UnmarshalStaged is the inverse of Marshal, without Effects.
func UnmarshalStaged(cfg Config, b []byte) (*Staged, error) {
	r := tls.NewReader(b)
	version := r.U8()
	if r.Err() == nil && (version < 1 || version > stagedVersion) {
		return nil, ErrRecord
	}
	st := &Staged{}
	var next []byte
	for _, f := range []*[]byte{&st.Commit, &st.Welcome, &st.GroupInfo, &st.Tree, &st.base, &next} {
		if *f = r.Vec(); len(*f) == 0 {
			*f = nil
		}
	}
	var records []Record
	if version == 1 { // the two records of that time
		records = []Record{{groupKey, next}, {headKey, r.Vec()}}
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	var err error
	if version > 1 {
		if records, err = parseBundle(next); err != nil {
			return nil, err
		}
	}
	if st.next, err = Restore(cfg, records); err != nil {
		return nil, err
	}
	return st, nil
}
