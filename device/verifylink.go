package device

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/binary"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
)

// A device that is being linked takes over whom its person has verified: in messages of
// their own after the secrets, sealed like those to the joining device and bound to the
// transcript (docs/protocol.md 7.12). No node reads them or can change one.

const (
	// maxVerifiedParts is how many messages there may be; with what comes before it, as many
	// as a node keeps for one side of a link.
	maxVerifiedParts = 2
	// maxVerifiedPart bounds one in bytes, so that it is no longer than wire.MaxLinkMessage
	// when it is sealed and encoded twice.
	maxVerifiedPart = 10 << 10
)

// linkVerified is what the old device says after its answer, linkSecrets.Parts times.
type linkVerified struct{ Sealed []byte }

func verifiedInfo(transcript []byte, part int) []byte {
	return append(append([]byte(linkLabel+" verified\n"), byte(part)), transcript...)
}

// encodeVerified is a row: organization, member and key, 32 bytes each, the time as uint64
// seconds, 1 for digits or 2 for a QR code, and the address after its uint16 length.
func encodeVerified(address string, v *verifiedRow) []byte {
	out := append(append(append([]byte(nil), v.Organization[:]...), v.Member[:]...), v.Key...)
	out = binary.BigEndian.AppendUint64(out, uint64(v.At.Unix()))
	how := byte(1)
	if v.How == howQR {
		how = 2
	}
	out = binary.BigEndian.AppendUint16(append(out, how), uint16(len(address)))
	return append(out, address...)
}

const verifiedFixed = 3*32 + 8 + 1 + 2

// decodeVerified reads rows to the last byte.
func decodeVerified(b []byte, into map[string]*verifiedRow) error {
	for len(b) > 0 {
		if len(b) < verifiedFixed {
			return errLinkAltered
		}
		v := &verifiedRow{Organization: wire.OrganizationID(b[:32]), Member: wire.MemberID(b[32:64]), Key: slices.Clone(b[64:96])}
		v.At = time.Unix(int64(binary.BigEndian.Uint64(b[96:])), 0).UTC()
		switch b[104] {
		case 1:
			v.How = howDigits
		case 2:
			v.How = howQR
		default:
			return errLinkAltered
		}
		n := int(binary.BigEndian.Uint16(b[105:]))
		if b = b[verifiedFixed:]; n > len(b) {
			return errLinkAltered
		}
		a, err := wire.ParseAddress(string(b[:n]))
		if err != nil || into[a.String()] != nil || len(into) >= maxVerified || v.At.Unix() < 0 || v.At.Year() > 9999 {
			return errLinkAltered
		}
		into[a.String()], b = v, b[n:]
	}
	return nil
}

// verifiedParts are the rows of this device, the newest first; d.mu is held. More than fit
// stay behind: those that were verified first.
func (d *Device) verifiedParts() (parts [][]byte) {
	addresses := make([]string, 0, len(d.verified))
	for a := range d.verified {
		addresses = append(addresses, a)
	}
	slices.SortFunc(addresses, func(a, b string) int { return d.verified[b].At.Compare(d.verified[a].At) })
	for _, a := range addresses {
		row := encodeVerified(a, d.verified[a])
		if n := len(parts); n == 0 || len(parts[n-1])+len(row) > maxVerifiedPart {
			if n == maxVerifiedParts {
				return parts
			}
			parts = append(parts, nil)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], row...)
	}
	return parts
}

func sealVerified(to, transcript []byte, member ed25519.PrivateKey, n int, rows []byte) (linkVerified, error) {
	k, kdf, aead := kem()
	pub, err := k.NewPublicKey(to)
	if err != nil {
		return linkVerified{}, errLinkAltered
	}
	signature := ed25519.Sign(member, append(verifiedInfo(transcript, n), rows...))
	sealed, err := hpke.Seal(pub, kdf, aead, verifiedInfo(transcript, n), append(slices.Clone(rows), signature...))
	return linkVerified{sealed}, err
}

// open adds the rows of a part that the member key has signed: sealing alone says nothing
// of who has sealed.
func (l *linkVerified) open(key hpke.PrivateKey, transcript []byte, member ed25519.PublicKey, n int, into map[string]*verifiedRow) error {
	_, kdf, aead := kem()
	plain, err := hpke.Open(key, kdf, aead, verifiedInfo(transcript, n), l.Sealed)
	if err != nil || len(plain) < ed25519.SignatureSize {
		return errLinkAltered
	}
	rows, signature := plain[:len(plain)-ed25519.SignatureSize], plain[len(plain)-ed25519.SignatureSize:]
	if !ed25519.Verify(member, append(verifiedInfo(transcript, n), rows...), signature) {
		return errLinkAltered
	}
	return decodeVerified(rows, into)
}

// sealVerified seals to the joining device whom this one's person has verified.
func (l *Linking) sealVerified() (out []linkVerified, err error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	for n, rows := range l.d.verifiedParts() {
		v, err := sealVerified(l.offer.KEM, l.transcript, l.d.account.MemberKey, n, rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// hearVerified takes what follows the secrets.
func (s *linkSecrets) hearVerified(ctx context.Context, c *linkChannel, key hpke.PrivateKey, transcript []byte) error {
	if s.Parts < 0 || s.Parts > maxVerifiedParts {
		return errLinkAltered
	}
	s.verified = make(map[string]*verifiedRow)
	member := ed25519.NewKeyFromSeed(s.MemberKey).Public().(ed25519.PublicKey)
	for n := range s.Parts {
		var v linkVerified
		if err := c.hear(ctx, &v); err != nil {
			return err
		}
		if err := v.open(key, transcript, member, n, s.verified); err != nil {
			return err
		}
	}
	return nil
}
