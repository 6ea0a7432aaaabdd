package identity

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Token is what an inviting operator hands to the other organization's operator:
// who invites, where its node is, the terms, and a secret that admits once.
type Token struct {
	Organization wire.OrganizationID
	Name         string
	Peer         wire.DeviceID
	Addresses    []string // multiaddrs
	ID           [16]byte
	Secret       [32]byte
	Expires      time.Time
	Terms        Terms
}

const (
	tokenPrefix = "entente-partner-1-"
	// MaxToken bounds a token's text.
	MaxToken    = 8 << 10
	checksumLen = 5
)

var token32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String returns one line that survives copying: JSON in base32 with a checksum.
func (t Token) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		return "" // the type has nothing that cannot be encoded
	}
	return tokenPrefix + token32.EncodeToString(append(tokenChecksum(b), b...))
}

// ParseToken is the inverse of String; its errors never hold the secret.
func ParseToken(s string) (*Token, error) {
	bad := func(what string) (*Token, error) {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "this is no partner token: %s", what)
	}
	body, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok || len(s) > MaxToken {
		return bad("it does not begin with " + tokenPrefix)
	}
	b, err := token32.DecodeString(body)
	if err != nil || len(b) < checksumLen || string(tokenChecksum(b[checksumLen:])) != string(b[:checksumLen]) {
		return bad("it is cut or mistyped: copy it whole")
	}
	t := &Token{}
	if err := json.Unmarshal(b[checksumLen:], t); err != nil || t.String() != s {
		return bad("it was written by another version")
	}
	if wire.CheckOrganizationName(t.Name) != nil || t.Organization.IsZero() || t.Peer.IsZero() || len(t.Addresses) > maxAddresses {
		return bad("its fields do not stand")
	}
	for _, a := range t.Addresses {
		if len(a) > maxAddressLen || !printable(a) {
			return bad("its addresses do not stand")
		}
	}
	if err := t.Terms.Check(); err != nil {
		return bad("its terms do not stand")
	}
	return t, nil
}

func tokenChecksum(b []byte) []byte {
	h := sha256.Sum256(append([]byte("entente.im/token/v1\n"), b...))
	return h[:checksumLen]
}
