package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Cosignatures say that somebody else has recomputed a log up to a head: C2SP
// tlog-cosignature, the Ed25519 kind "cosignature/v1", made with an organization's cosigner
// key under the name CosignerName.

// MaxCosignatures bounds the cosignatures that a head carries.
const MaxCosignatures = 64

// maxHeadNote bounds a head with its cosignatures: about 250 bytes a line.
const maxHeadNote = 32 << 10

// CosignerName is the name of an organization's cosigner key in signatures
// (docs/protocol.md 2.2).
func CosignerName(organization string) string { return organization + "/cosigner" }

// Cosigner checks the cosignatures of one organization, or of a public witness.
type Cosigner struct {
	Owner  string // the key's name
	Public ed25519.PublicKey
}

// CosignerOf is the cosigner of an organization.
func CosignerOf(o *Organization) Cosigner {
	return Cosigner{CosignerName(o.KeyName()), o.Manifest.Cosigner}
}

// cosignerKey is a note.Signer and note.Verifier of cosignature/v1.
type cosignerKey struct {
	Cosigner
	private ed25519.PrivateKey
	at      time.Time
}

func (k cosignerKey) Name() string { return k.Owner }

// KeyHash: SHA-256(name ‖ 0x0A ‖ 0x04 ‖ key), the first four bytes.
func (k cosignerKey) KeyHash() uint32 {
	h := sha256.New()
	h.Write([]byte(k.Owner))
	h.Write([]byte{'\n', 0x04})
	h.Write(k.Public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// cosigned is what is signed: the domain, the time, the checkpoint's text.
func cosigned(at uint64, text []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}

// Sign implements note.Signer: time uint64 ‖ signature.
func (k cosignerKey) Sign(text []byte) ([]byte, error) {
	at := uint64(k.at.Unix())
	return append(binary.BigEndian.AppendUint64(nil, at), ed25519.Sign(k.private, cosigned(at, text))...), nil
}

// Verify implements note.Verifier.
func (k cosignerKey) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize || len(k.Public) != ed25519.PublicKeySize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at > 0 && at < 1<<62 && ed25519.Verify(k.Public, cosigned(at, text), sig[8:])
}

// Cosign adds the cosignature of a cosigner, by the name of its key, as of now, to a head that
// the caller has recomputed the log of, in the place of one that it had. What head carries
// beside the log's own signature is left out.
func Cosign(head *Checkpoint, by string, key ed25519.PrivateKey, now time.Time) (string, error) {
	n, err := openHead(head.Note)
	if err != nil {
		return "", err
	}
	k := cosignerKey{Cosigner{by, public(key)}, key, now}
	if now.Unix() <= 0 {
		return "", refuse("a cosignature before 1970")
	}
	n.Sigs, n.UnverifiedSigs = nil, slices.DeleteFunc(n.UnverifiedSigs, func(s note.Signature) bool {
		return s.Name != LogOrigin(head.Organization, head.Log)
	})
	b, err := note.Sign(n, k)
	return string(b), err
}

// openHead parses a head's note without checking signatures.
func openHead(signed string) (*note.Note, error) {
	if len(signed) > maxHeadNote {
		return nil, refuse("a head of %d bytes", len(signed))
	}
	_, err := note.Open([]byte(signed), note.VerifierList())
	unverified, ok := err.(*note.UnverifiedNoteError)
	if !ok {
		return nil, refuse("a head that is no note")
	}
	if len(unverified.Note.UnverifiedSigs) > 1+MaxCosignatures {
		return nil, refuse("a head with %d signatures", len(unverified.Note.UnverifiedSigs))
	}
	return unverified.Note, nil
}

// Cosignature is one that stands.
type Cosignature struct {
	By Cosigner
	At time.Time // by the cosigner's clock
}

// Cosignatures returns those on a head that stand, of the cosigners that the caller
// recognizes, one each. Others' are passed over (C2SP signed-note).
func Cosignatures(head string, recognized []Cosigner) ([]Cosignature, error) {
	if len(head) > maxHeadNote {
		return nil, refuse("a head of %d bytes", len(head))
	}
	var out []Cosignature
	for _, c := range recognized {
		n, err := note.Open([]byte(head), note.VerifierList(cosignerKey{Cosigner: c}))
		if err != nil {
			continue
		}
		for _, s := range n.Sigs {
			if at, ok := cosignedAt(s.Base64); ok && s.Name == c.Owner {
				out = append(out, Cosignature{c, at})
				break
			}
		}
	}
	return out, nil
}

// cosignedAt reads the time of a verified cosignature: key hash 4 ‖ time uint64 ‖ signature.
func cosignedAt(b64 string) (time.Time, bool) {
	b, err := canonical64(b64)
	if err != nil || len(b) != 4+8+ed25519.SignatureSize {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b[4:])), 0), true
}

// SaidCosignature is what a head says of who has cosigned it, whoever that is.
type SaidCosignature struct {
	Name string // of the key
	At   time.Time
	Hash uint32 // of the key: Cosigner.KeyHash
}

// KeyHash is by what notes name a cosigner's key, beside its name.
func (c Cosigner) KeyHash() uint32 { return cosignerKey{Cosigner: c}.KeyHash() }

// SaidCosignatures lists what a head's lines have the form of, in their order. Nothing of it
// is verified: Cosignatures does that for those whose keys are known.
func SaidCosignatures(head string) ([]SaidCosignature, error) {
	n, err := openHead(head)
	if err != nil {
		return nil, err
	}
	var out []SaidCosignature
	for _, s := range n.UnverifiedSigs {
		if at, ok := cosignedAt(s.Base64); ok {
			out = append(out, SaidCosignature{s.Name, at, s.Hash})
		}
	}
	return out, nil
}

// MergeCosignatures puts the cosignatures of one head, by those that are recognized,
// onto another note of the same head: newer ones of one cosigner in the place of older.
func MergeCosignatures(head *Checkpoint, add string, recognized []Cosigner) (string, error) {
	a, err := openHead(head.Note)
	if err != nil {
		return "", err
	}
	b, err := openHead(add)
	if err != nil {
		return "", err
	}
	if a.Text != b.Text {
		return "", refuse("cosignatures of another head")
	}
	var keep []note.Signature
	for _, c := range recognized {
		newest, at := note.Signature{}, time.Time{}
		for _, s := range slices.Concat(a.UnverifiedSigs, b.UnverifiedSigs) {
			if t, ok := standing(a.Text, s, c); ok && t.After(at) {
				newest, at = s, t
			}
		}
		if newest.Name != "" && len(keep) < MaxCosignatures {
			keep = append(keep, newest)
		}
	}
	own := slices.IndexFunc(a.UnverifiedSigs, func(s note.Signature) bool { return s.Name == LogOrigin(head.Organization, head.Log) })
	if own < 0 {
		return "", refuse("a head without its log's signature")
	}
	out, err := note.Sign(&note.Note{Text: a.Text, UnverifiedSigs: append([]note.Signature{a.UnverifiedSigs[own]}, keep...)})
	return string(out), err
}

// standing checks one signature line of a text against one cosigner.
func standing(text string, s note.Signature, c Cosigner) (time.Time, bool) {
	k := cosignerKey{Cosigner: c}
	b, err := canonical64(s.Base64)
	if err != nil || s.Name != c.Owner || len(b) < 4 || binary.BigEndian.Uint32(b) != k.KeyHash() || !k.Verify([]byte(text), b[4:]) {
		return time.Time{}, false
	}
	return cosignedAt(s.Base64)
}
