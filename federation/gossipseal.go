package federation

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/entente-im/entente/wire"
)

// What is gossiped about an organization is sealed under its ID, which those know who deal
// with it (docs/protocol.md 5.12). Others see that something is passed on, and neither
// about whom nor what. Equal contents make equal messages, whoever makes them, so that the
// network drops copies.
//
//	message = 1 ‖ tag 16 ‖ nonce 24 ‖ XChaCha20-Poly1305(kind ‖ body; 1 ‖ tag)

const (
	gossipVersion = 1
	gossipTagLen  = 16
	gossipHeader  = 1 + gossipTagLen + chacha20poly1305.NonceSizeX

	// maxGossip bounds a message: a proof of a fork, of 128 nodes and two heads.
	maxGossip = 8 << 10

	gossipHead = 1 // body: a checkpoint (note), without cosignatures
	gossipFork = 2 // body: a Fork without its manifests
)

type gossipTag [gossipTagLen]byte

var errSealed = errors.New("federation: gossip that does not open")

func gossipHash(id wire.OrganizationID, domain string, data ...byte) []byte {
	h := hmac.New(sha256.New, id[:])
	h.Write([]byte("entente.im/gossip/" + domain + "/v1\n"))
	h.Write(data)
	return h.Sum(nil)
}

func tagOf(id wire.OrganizationID) gossipTag { return gossipTag(gossipHash(id, "tag")) }

// sealGossip makes the message about an organization.
func sealGossip(id wire.OrganizationID, kind byte, body []byte) ([]byte, error) {
	plain := append([]byte{kind}, body...)
	aead, err := chacha20poly1305.NewX(gossipHash(id, "key"))
	if err != nil {
		return nil, err
	}
	nonce := gossipHash(id, "nonce", plain...)[:chacha20poly1305.NonceSizeX]
	tag := tagOf(id)
	out := append([]byte{gossipVersion}, tag[:]...)
	out = append(out, nonce...)
	out = aead.Seal(out, nonce, plain, out[:1+gossipTagLen])
	if len(out) > maxGossip {
		return nil, errors.New("federation: too large to be gossiped")
	}
	return out, nil
}

// gossipAbout reads whom a message is about, if anybody that the caller knows.
func gossipAbout(data []byte) (gossipTag, bool) {
	if len(data) <= gossipHeader+chacha20poly1305.Overhead || len(data) > maxGossip || data[0] != gossipVersion {
		return gossipTag{}, false
	}
	return gossipTag(data[1:]), true
}

// openGossip opens a message about an organization; gossipAbout has been asked before.
func openGossip(id wire.OrganizationID, data []byte) (kind byte, body []byte, err error) {
	aead, err := chacha20poly1305.NewX(gossipHash(id, "key"))
	if err != nil {
		return 0, nil, err
	}
	nonce := data[1+gossipTagLen : gossipHeader]
	plain, err := aead.Open(nil, nonce, data[gossipHeader:], data[:1+gossipTagLen])
	if err != nil || !hmac.Equal(nonce, gossipHash(id, "nonce", plain...)[:len(nonce)]) {
		return 0, nil, errSealed // another nonce would make another message of one content
	}
	return plain[0], plain[1:], nil
}

// gossipID is a message's ID: an HMAC under its tag, so that IDs alone, which are offered
// to everybody who listens, say nothing.
func gossipID(data []byte) string {
	tag, ok := gossipAbout(data)
	if !ok {
		tag = gossipTag{}
	}
	h := hmac.New(sha256.New, tag[:])
	h.Write(data)
	return string(h.Sum(nil))
}
