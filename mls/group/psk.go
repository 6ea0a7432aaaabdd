package group

import (
	"bytes"
	"errors"

	"github.com/entente-im/entente/mls"
)

// ErrNoPSK is returned when a Commit or a Welcome needs a pre-shared key that is
// not here. Nothing has changed: with the key the same message can be taken.
var ErrNoPSK = errors.New("group: pre-shared key is not here")

// PSKSource is the application's store of pre-shared keys. It is asked for
// external ones, and for resumption ones that a State does not hold itself: of
// another group, or of an epoch that is forgotten. What it returns is a copy,
// erased after use; nil when there is no such key. It may be asked for a message
// that is refused afterwards.
type PSKSource func(id mls.PreSharedKeyID) []byte

// ResumptionPSK names and returns the resumption secret of this epoch (RFC 9420
// §8.6), for an application that binds another group to this one. The last two
// epochs need no keeping: their secrets are part of the State where
// Config.PSK is set.
func (s *State) ResumptionPSK() (mls.PreSharedKeyID, []byte) {
	id := mls.PreSharedKeyID{Resumption: true, Usage: mls.UsageApplication, GroupID: s.GroupID(), Epoch: s.Epoch()}
	return id, bytes.Clone(s.secrets.resumption)
}

// psk finds a key: our own epochs', then the application's.
func (s *State) psk(id *mls.PreSharedKeyID) []byte {
	if id.Resumption && bytes.Equal(id.GroupID, s.pub.GroupContext().GroupID) {
		if id.Epoch == s.Epoch() {
			return bytes.Clone(s.secrets.resumption)
		}
		for _, p := range s.past {
			if p.epoch == id.Epoch && len(p.resumption) > 0 {
				return bytes.Clone(p.resumption)
			}
		}
	}
	return s.cfg.psk(id)
}

func (c Config) psk(id *mls.PreSharedKeyID) []byte {
	if c.PSK == nil {
		return nil
	}
	return c.PSK(*id)
}

// pskSecret is psk_secret of §8.4 for the keys in the order of the list.
func pskSecret(s *mls.Suite, list []*mls.PreSharedKeyID, find func(*mls.PreSharedKeyID) []byte) ([]byte, error) {
	secret, zero := make([]byte, s.HashLen()), make([]byte, s.HashLen())
	for i, id := range list {
		key := find(id)
		if len(key) == 0 {
			erase(secret)
			return nil, ErrNoPSK
		}
		extracted := s.Extract(zero, key)
		erase(key)
		input := s.ExpandWithLabel(extracted, "derived psk", id.Label(i, len(list)), s.HashLen())
		erase(extracted)
		next := s.Extract(input, secret)
		erase(input)
		erase(secret)
		secret = next
	}
	return secret, nil
}

// freshPSKs are the identities with new nonces (§12.1.4).
func freshPSKs(s *mls.Suite, ids []mls.PreSharedKeyID) []*mls.Proposal {
	var out []*mls.Proposal
	for _, id := range ids {
		id.Nonce = mls.Random(s.HashLen())
		out = append(out, &mls.Proposal{Type: mls.ProposalPSK, PSK: &id})
	}
	return out
}

// ProposePSK makes a proposal to mix a pre-shared key into the next epoch, and the
// state that knows of it. Config.PSK must be set. The nonce of id is chosen anew.
func (s *State) ProposePSK(id mls.PreSharedKeyID, aad []byte) (*State, []byte, error) {
	return s.propose(freshPSKs(s.pub.Suite(), []mls.PreSharedKeyID{id})[0], aad)
}
