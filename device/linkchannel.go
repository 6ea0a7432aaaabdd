package device

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/entente-im/entente/device/home"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// linkChannel is how two devices of a member talk through a slot at their node until the
// second one is a device (docs/protocol.md 7.12). Everything is sealed with keys from the
// link's secret, which no node sees, so a node can delay and drop, not read or write.
type linkChannel struct {
	home    *home.Home
	slot    [16]byte
	joining bool
	keys    [2][]byte // of what the old device writes, of what the joining one writes
	next    [2]uint32
}

const linkLabel = "entente.im/device-link/v1"

func openLinkChannel(h *home.Home, secret [32]byte, joining bool) (*linkChannel, error) {
	c := &linkChannel{home: h, joining: joining}
	derive := func(info string, n int) ([]byte, error) {
		return hkdf.Key(sha256.New, secret[:], []byte(linkLabel), info, n)
	}
	slot, err := derive("slot", 16)
	if err != nil {
		return nil, err
	}
	c.slot = [16]byte(slot)
	for i, info := range []string{"old", "joining"} {
		if c.keys[i], err = derive(info, chacha20poly1305.KeySize); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *linkChannel) close() {
	clear(c.keys[0])
	clear(c.keys[1])
}

// place binds a message to its slot, its side and its number.
func (c *linkChannel) place(side int, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(append([]byte(linkLabel), c.slot[:]...), byte(side)), n)
}

func (c *linkChannel) sides() (own, other int) {
	if c.joining {
		return 1, 0
	}
	return 0, 1
}

// say leaves the next message of this side.
func (c *linkChannel) say(ctx context.Context, v any) error {
	own, _ := c.sides()
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("device: a link's message: %w", err)
	}
	defer clear(plain)
	aead, err := chacha20poly1305.NewX(c.keys[own])
	if err != nil {
		return err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	sealed := aead.Seal(nonce, nonce, plain, c.place(own, c.next[own]))
	if len(sealed) > wire.MaxLinkMessage {
		return fmt.Errorf("device: a link's message of %d bytes", len(sealed))
	}
	if err := c.home.PutLinkMessage(ctx, &pb.PutLinkMessageRequest{Slot: c.slot[:], Joining: c.joining, N: c.next[own], Message: sealed}); err != nil {
		return err
	}
	c.next[own]++
	return nil
}

// hear waits for the other side's next message.
func (c *linkChannel) hear(ctx context.Context, v any) error {
	_, other := c.sides()
	var sealed []byte
	for len(sealed) == 0 {
		var err error
		sealed, err = c.home.GetLinkMessage(ctx, &pb.GetLinkMessageRequest{Slot: c.slot[:], Joining: !c.joining, N: c.next[other], WaitMs: 15_000})
		if err != nil {
			return err
		}
	}
	aead, err := chacha20poly1305.NewX(c.keys[other])
	if err != nil {
		return err
	}
	if len(sealed) < aead.NonceSize() || len(sealed) > wire.MaxLinkMessage {
		return errLinkAltered
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], c.place(other, c.next[other]))
	if err != nil {
		return errLinkAltered
	}
	defer clear(plain)
	if json.Unmarshal(plain, v) != nil {
		return errLinkAltered
	}
	c.next[other]++
	return nil
}

var errLinkAltered = errors.New("device: what came over the link was not written by the other device: stop, and make a new link")

// What the sides say, in their order: linkOffer (joining), linkNonce (old), linkReveal
// (joining), linkAnswer and linkVerified (old), linkDone (joining).
type (
	linkOffer struct {
		Device wire.DeviceID `json:"device"`
		KEM    []byte        `json:"kem"`    // public key, X-Wing
		Commit [32]byte      `json:"commit"` // SHA-256 of the joining side's nonce
		Name   string        `json:"name"`
		Clock  int64         `json:"clock,omitempty"` // Unix
	}
	linkNonce struct {
		Nonce [32]byte
		Clock int64 `json:",omitempty"` // Unix
	}
	linkReveal struct {
		Nonce     [32]byte
		Signature []byte // of the device key over the transcript
	}
	linkAnswer struct {
		Refused bool
		Sealed  []byte // linkSecrets by HPKE to KEM; info is the transcript
	}
	linkDone struct{ Done bool }

	// linkSecrets make the joining device one of the member's.
	linkSecrets struct {
		Organization wire.OrganizationID
		MemberKey    []byte // seed
		Genesis      string
		Certificate  string
		Pins         map[string]wire.OrganizationID
		Parts        int `json:",omitempty"` // linkVerified that follow

		verified map[string]*verifiedRow // of those, at the joining device
	}
)

func commitTo(nonce [32]byte) [32]byte {
	return sha256.Sum256(append([]byte(linkLabel+" commit\n"), nonce[:]...))
}

// transcript hashes what both sides have said before the code is shown.
func (c *linkChannel) transcript(offer linkOffer, old, joining [32]byte) []byte {
	h := sha256.New()
	h.Write(c.place(2, 0))
	for _, b := range [][]byte{offer.Device[:], offer.KEM, offer.Commit[:], []byte(offer.Name), old[:], joining[:]} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	return h.Sum(nil)
}

// linkCode is what people compare on both screens: six digits. The joining side is bound to
// its nonce before it sees the other's, so that who stands between them with a stolen
// link has one guess in a million, not a search.
func linkCode(transcript []byte) string {
	sum := sha256.Sum256(append([]byte(linkLabel+" code\n"), transcript...))
	n := binary.BigEndian.Uint64(sum[:]) % 1_000_000
	return fmt.Sprintf("%03d %03d", n/1000, n%1000)
}

// kem of the joining device's key: hybrid, so that a recorded answer stays closed.
func kem() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.ChaCha20Poly1305()
}

func (s *linkSecrets) seal(to []byte, transcript []byte) ([]byte, error) {
	k, kdf, aead := kem()
	pub, err := k.NewPublicKey(to)
	if err != nil {
		return nil, errLinkAltered
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("device: a link's secrets: %w", err)
	}
	defer clear(plain)
	return hpke.Seal(pub, kdf, aead, transcript, plain)
}

func openSecrets(key hpke.PrivateKey, sealed, transcript []byte) (*linkSecrets, error) {
	_, kdf, aead := kem()
	plain, err := hpke.Open(key, kdf, aead, transcript, sealed)
	if err != nil {
		return nil, errLinkAltered
	}
	defer clear(plain)
	s := &linkSecrets{}
	if json.Unmarshal(plain, s) != nil || len(s.MemberKey) != ed25519.SeedSize {
		return nil, errLinkAltered
	}
	return s, nil
}

// verify checks the reveal against the offer.
func (r *linkReveal) verify(o linkOffer, transcript []byte) error {
	commit := commitTo(r.Nonce)
	if subtle.ConstantTimeCompare(commit[:], o.Commit[:]) != 1 || !ed25519.Verify(o.Device[:], linkSigned(transcript), r.Signature) {
		return errLinkAltered
	}
	return nil
}

// linkSigned is what the joining device signs: that it has the key that it names.
func linkSigned(transcript []byte) []byte {
	return append([]byte(linkLabel+" device key\n"), transcript...)
}

// linkClock refuses a device whose clock, as this one hears it, is too far from this one's: what
// one of them signs would not be in force for the other, or for the node. It is looked at before
// anything is given or added. 0 is of a device that does not say it.
func linkClock(now time.Time, other int64, joining bool) error {
	by := time.Unix(other, 0).Sub(now)
	if other == 0 || by.Abs() <= wire.NotBeforeSlack {
		return nil
	}
	whose, of := "the other device's clock", "this one's"
	if joining {
		by, whose, of = -by, "this device's clock", "the other one's"
	}
	way := "ahead of"
	if by < 0 {
		way = "behind"
	}
	return wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s is %s %s %s: nothing was given; set right the one that is wrong, and begin again with a new link", whose, roughly(by.Abs()), way, of)
}

// check holds what the joining device was given against what it knows: the secrets are of
// a member of that organization, and certify this device.
func (s *linkSecrets) check(l identity.Link, device wire.DeviceID, now time.Time) (*account, error) {
	key := ed25519.NewKeyFromSeed(s.MemberKey)
	g, member, err := identity.VerifyGenesis(s.Genesis)
	if err != nil {
		return nil, err
	}
	c, err := identity.VerifyDeviceCertificate(s.Certificate, member, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	if g.Organization != s.Organization || g.Name != l.Name || c.Device != device {
		return nil, errLinkAltered
	}
	if !c.InForce(now) {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a certificate from %s to %s, and here it is %s: is the clock right, here and on the other device?", wire.FormatTime(c.Issued), wire.FormatTime(c.Expires), wire.FormatTime(now))
	}
	return &account{Organization: s.Organization, OrgName: l.Organization, Member: member, Name: g.Name, MemberKey: key,
		Genesis: s.Genesis, Certificate: s.Certificate, Hash: c.Hash, URL: "https://" + l.Host, Pin: l.Pin, Web: l.Web}, nil
}
