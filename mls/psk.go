package mls

import (
	"bytes"

	"github.com/entente-im/entente/mls/internal/tls"
)

// MaxPSKs bounds the pre-shared keys of one Commit or Welcome.
const MaxPSKs = 64

// Usages of a resumption pre-shared key (RFC 9420 §8.4). Groups here take
// UsageApplication only: the others belong to the first Commit of a group that
// continues or branches off another one (§11.2, §11.3), which is not made here.
const (
	UsageApplication uint8 = 1
	UsageReInit      uint8 = 2
	UsageBranch      uint8 = 3
)

// PreSharedKeyID names a pre-shared key (§8.4).
type PreSharedKeyID struct {
	Resumption bool
	ID         []byte // external: what the application calls it
	Usage      uint8  // resumption
	GroupID    []byte // resumption: the group that the key is of
	Epoch      uint64 // resumption: its epoch
	Nonce      []byte // KDF.Nh bytes, fresh for each use
}

func (p *PreSharedKeyID) write(w *tls.Writer) {
	if p.Resumption {
		w.U8(2)
		w.U8(p.Usage)
		w.Vec(p.GroupID)
		w.U64(p.Epoch)
	} else {
		w.U8(1)
		w.Vec(p.ID)
	}
	w.Vec(p.Nonce)
}

func readPSK(r *tls.Reader) *PreSharedKeyID {
	p := &PreSharedKeyID{}
	switch kind := r.U8(); kind {
	case 1:
		p.ID = r.Vec()
	case 2:
		p.Resumption = true
		if p.Usage = r.U8(); p.Usage < UsageApplication || p.Usage > UsageBranch {
			r.Fail(refuse(ErrDecode, "resumption usage %d", p.Usage))
		}
		p.GroupID = r.Vec()
		p.Epoch = r.U64()
	default:
		r.Fail(refuse(ErrDecode, "pre-shared key type %d", kind))
	}
	p.Nonce = r.Vec()
	return p
}

// Label is PSKLabel (§8.4): the identity and the place in the list.
func (p *PreSharedKeyID) Label(index, count int) []byte {
	var w tls.Writer
	p.write(&w)
	w.U16(uint16(index))
	w.U16(uint16(count))
	return w.B
}

// Same says whether both name one key. Nonces do not count: they are fresh for
// each use, so with them no list could ever name a key twice.
func (p *PreSharedKeyID) Same(o *PreSharedKeyID) bool {
	return p.Resumption == o.Resumption && p.Usage == o.Usage && p.Epoch == o.Epoch &&
		bytes.Equal(p.ID, o.ID) && bytes.Equal(p.GroupID, o.GroupID)
}

// check is §12.1.4: what can be said of a PreSharedKey proposal by itself.
func (p *PreSharedKeyID) check(s *Suite) error {
	if p.Resumption && p.Usage != UsageApplication {
		return refuse(ErrProposal, "resumption usage %d outside a new group's first commit", p.Usage)
	}
	if len(p.Nonce) != s.HashLen() {
		return refuse(ErrProposal, "pre-shared key nonce of %d bytes", len(p.Nonce))
	}
	return nil
}

// CheckPSKs checks the list of a Commit or of a Welcome's GroupSecrets: each by
// itself, none twice, at most MaxPSKs (§12.2, §12.4.3.1).
func (s *Suite) CheckPSKs(list []*PreSharedKeyID) error {
	if len(list) > MaxPSKs {
		return refuse(ErrLimit, "more than %d pre-shared keys", MaxPSKs)
	}
	for i, p := range list {
		if err := p.check(s); err != nil {
			return err
		}
		for _, o := range list[:i] {
			if o.Same(p) {
				return refuse(ErrCommit, "pre-shared key twice")
			}
		}
	}
	return nil
}
