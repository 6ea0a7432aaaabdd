package group

import (
	"github.com/entente-im/entente/mls"
)

// epochSecrets are the secrets of one epoch (RFC 9420 §8, table 4) that outlive
// its beginning. encryption_secret goes into the secret tree and
// confirmation_key is used once; neither is kept.
type epochSecrets struct {
	initSecret    []byte // of the next epoch
	senderData    []byte
	exporter      []byte
	external      []byte
	membership    []byte
	resumption    []byte
	authenticator []byte
}

// fields lists the secrets in the order of their encoding.
func (e *epochSecrets) fields() []*[]byte {
	return []*[]byte{&e.initSecret, &e.senderData, &e.exporter, &e.external, &e.membership, &e.resumption, &e.authenticator}
}

// newEpoch is everything that the key schedule yields at once.
type newEpoch struct {
	epochSecrets
	joiner       []byte
	welcome      []byte
	encryption   []byte
	confirmation []byte
}

// advance runs the key schedule from the init secret of the epoch before (§8,
// figure 22) under the new GroupContext.
func advance(s *mls.Suite, initSecret, commitSecret, pskSecret, context []byte) *newEpoch {
	pre := s.Extract(initSecret, commitSecret)
	joiner := s.ExpandWithLabel(pre, "joiner", context, s.HashLen())
	erase(pre)
	return fromJoiner(s, joiner, pskSecret, context)
}

// fromJoiner goes on from the joiner secret, as a new member does.
func fromJoiner(s *mls.Suite, joiner, pskSecret, context []byte) *newEpoch {
	member := s.Extract(joiner, pskSecret)
	defer erase(member)
	epoch := s.ExpandWithLabel(member, "epoch", context, s.HashLen())
	e := fromEpoch(s, epoch)
	e.joiner = joiner
	e.welcome = s.DeriveSecret(member, "welcome")
	return e
}

// fromEpoch derives the secrets of table 4 and erases the epoch secret.
func fromEpoch(s *mls.Suite, epoch []byte) *newEpoch {
	defer erase(epoch)
	e := &newEpoch{
		encryption:   s.DeriveSecret(epoch, "encryption"),
		confirmation: s.DeriveSecret(epoch, "confirm"),
	}
	e.senderData = s.DeriveSecret(epoch, "sender data")
	e.exporter = s.DeriveSecret(epoch, "exporter")
	e.external = s.DeriveSecret(epoch, "external")
	e.membership = s.DeriveSecret(epoch, "membership")
	e.resumption = s.DeriveSecret(epoch, "resumption")
	e.authenticator = s.DeriveSecret(epoch, "authentication")
	e.initSecret = s.DeriveSecret(epoch, "init")
	return e
}

// welcomeSecret is what the GroupInfo of a Welcome is encrypted under (§12.4.3.1).
func welcomeSecret(s *mls.Suite, joiner, pskSecret []byte) []byte {
	member := s.Extract(joiner, pskSecret)
	defer erase(member)
	return s.DeriveSecret(member, "welcome")
}

func welcomeKey(s *mls.Suite, welcome []byte) (key, nonce []byte) {
	return s.ExpandWithLabel(welcome, "key", nil, s.KeyLen()), s.ExpandWithLabel(welcome, "nonce", nil, s.NonceLen())
}

// exporter is MLS-Exporter of §8.5.
func exporter(s *mls.Suite, secret []byte, label string, context []byte, n int) []byte {
	d := s.DeriveSecret(secret, label)
	defer erase(d)
	return s.ExpandWithLabel(d, "exported", s.Hash(context), n)
}

// erase overwrites a secret that nobody else holds. Go may have copied it
// before; what is durable is the caller's to destroy (package comment).
func erase(b []byte) { clear(b) }
