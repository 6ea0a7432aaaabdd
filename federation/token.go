package federation

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Bounds of partner tokens.
const (
	DefaultTokenLifetime = wire.LinkLifetime
	MaxTokenLifetime     = 30 * 24 * time.Hour
	MaxTokens            = 256 // outstanding at once
	MaxWrongProofs       = 16  // then the token is burned
)

// tokenRecord is a token of ours and what became of it. It holds the secret until the
// token's time is over, because a lost answer may be asked for again; the store seals it.
type tokenRecord struct {
	Version   int       `json:"version"`
	Token     string    `json:"token"`
	Partner   string    `json:"partner"` // whom it was made for, by name; empty: anybody
	Expires   time.Time `json:"expires"`
	Wrong     int       `json:"wrong,omitempty"`     // proofs that failed
	UsedBy    string    `json:"usedBy,omitempty"`    // organization ID
	UsedPeer  string    `json:"usedPeer,omitempty"`  // its node
	Agreement string    `json:"agreement,omitempty"` // the answer, with both signatures
}

// Invite makes a token that the named organization turns into an agreement with these
// terms by Accept: one use, until ttl has passed (0: DefaultTokenLifetime). It is a
// secret: whoever has it may become the partner. An empty name lets anybody.
func (f *Federation) Invite(ctx context.Context, partnerName string, terms identity.Terms, ttl time.Duration) (string, error) {
	if err := f.makes(); err != nil {
		return "", err
	}
	if ttl == 0 {
		ttl = DefaultTokenLifetime
	}
	if ttl < time.Second || ttl > MaxTokenLifetime {
		return "", wire.Refuse(pb.Code_CODE_MALFORMED, "a token is good for a second or more, and for %s at most", MaxTokenLifetime)
	}
	if partnerName != "" {
		if err := wire.CheckOrganizationName(partnerName); err != nil {
			return "", err
		}
		if partnerName == f.opts.Organization.Manifest.Name {
			return "", wire.Refuse(pb.Code_CODE_FORBIDDEN, "an organization cannot be its own partner")
		}
	}
	addresses := f.Addrs()
	if len(addresses) == 0 {
		return "", wire.Refuse(pb.Code_CODE_UNREACHABLE, "this node listens nowhere, so nobody could use its token: let the partner invite you")
	}
	f.making.Lock()
	defer f.making.Unlock()
	if n, err := f.countTokens(); err != nil || n >= MaxTokens {
		return "", errOr(err, wire.Refuse(pb.Code_CODE_FULL, "%d tokens wait to be used: let some expire", n))
	}
	t := identity.Token{
		Organization: f.opts.Organization.ID, Name: f.opts.Organization.Manifest.Name, Peer: f.self,
		Expires: f.clock.Now().Add(ttl).UTC().Truncate(time.Second), Terms: terms,
	}
	for _, a := range addresses {
		t.Addresses = append(t.Addresses, a.String())
	}
	rand.Read(t.ID[:])
	rand.Read(t.Secret[:])
	text := t.String()
	if _, err := identity.ParseToken(text); err != nil {
		return "", fmt.Errorf("federation: terms that make no agreement: %w", err)
	}
	rec := tokenRecord{Version: recordVersion, Token: text, Partner: partnerName, Expires: t.Expires}
	return text, f.put(ctx, tokenKey(t.ID), rec)
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (f *Federation) countTokens() (n int, err error) {
	err = f.scan(tokenPrefix, func([]byte, []byte) error { n++; return nil })
	return n, err
}

// Preview reads a token without contacting anybody, so that a person can look at who
// invites and to what terms.
func (f *Federation) Preview(token string) (*identity.Token, error) {
	t, err := identity.ParseToken(token)
	if err != nil {
		return nil, err
	}
	if !f.clock.Now().Before(t.Expires) {
		return nil, wire.Refuse(pb.Code_CODE_LINK_EXPIRED, "the token has expired: ask for a new one")
	}
	if t.Organization == f.opts.Organization.ID {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "this token is our own: give it to the partner")
	}
	return t, nil
}

// ForgetTokens makes every token unknown, for a node that has lost records: one of them
// may have been used in what is lost.
func (f *Federation) ForgetTokens(ctx context.Context) error {
	f.making.Lock()
	defer f.making.Unlock()
	var b store.Batch
	err := f.scan(tokenPrefix, func(key, _ []byte) error {
		b.Delete(append([]byte(tokenPrefix), key...))
		return nil
	})
	if err != nil || b.Len() == 0 {
		return err
	}
	return f.write(ctx, &b)
}

// sweepTokens forgets tokens whose time is over, used or not.
func (f *Federation) sweepTokens(ctx context.Context) error {
	f.making.Lock()
	defer f.making.Unlock()
	var b store.Batch
	now := f.clock.Now()
	err := f.scan(tokenPrefix, func(key, value []byte) error {
		var rec tokenRecord
		if err := decode(value, &rec); err != nil {
			return err
		}
		if now.After(rec.Expires) {
			b.Delete(append([]byte(tokenPrefix), key...))
		}
		return nil
	})
	if err != nil || b.Len() == 0 {
		return err
	}
	return f.write(ctx, &b)
}

// Directions of a proof.
const (
	fromAcceptor = 1
	fromInviter  = 2
)

// transcript is what a proof covers; doc.go has the order.
type transcript struct {
	direction         byte
	acceptor, inviter wire.DeviceID
	token             [16]byte
	request           [32]byte // the proof of the request; zeros in a request
	sent              [4]string
}

// proof is HMAC-SHA256 under the token's secret.
func (t transcript) proof(secret [32]byte) [32]byte {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte("entente.im/lobby/v1\n"))
	h.Write([]byte{t.direction})
	h.Write(t.acceptor[:])
	h.Write(t.inviter[:])
	h.Write(t.token[:])
	h.Write(t.request[:])
	for _, s := range t.sent {
		sum := sha256.Sum256([]byte(s))
		h.Write(sum[:])
	}
	return [32]byte(h.Sum(nil))
}

// proves compares in constant time.
func (t transcript) proves(secret [32]byte, proof []byte) bool {
	want := t.proof(secret)
	return hmac.Equal(want[:], proof)
}

func requestTranscript(r *pb.LobbyRequest, acceptor, inviter wire.DeviceID) transcript {
	return transcript{
		direction: fromAcceptor, acceptor: acceptor, inviter: inviter, token: [16]byte(r.TokenId),
		sent: [4]string{r.Manifest, r.Genesis, r.NodeCertificate, r.Agreement},
	}
}

// responseTranscript covers the request by its proof, so that an answer to another
// question does not pass.
func responseTranscript(q *pb.LobbyRequest, r *pb.LobbyResponse, acceptor, inviter wire.DeviceID) transcript {
	t := transcript{
		direction: fromInviter, acceptor: acceptor, inviter: inviter, token: [16]byte(q.TokenId),
		sent: [4]string{r.Manifest, r.Genesis, r.NodeCertificate, r.Agreement},
	}
	copy(t.request[:], q.Proof)
	return t
}
