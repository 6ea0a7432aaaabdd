package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/entente-im/entente/wire"
)

// A successor whose root nobody has committed to is a recovery (docs/protocol.md 2.15): both
// roots are lost, or in wrong hands. It carries, beside the new root's signature, those of a
// threshold of the custodians that the manifest before it names, and the word of the
// witnesses named there that its text has been public for RecoveryDelay. One note holds all of
// it, so that a chain proves itself to whoever reads it, at any time.

// RecoveryDelay is how long a recovery has to be public before it stands, by the witnesses'
// clocks: the time in which a holder of the pre-committed root can answer it.
const RecoveryDelay = 72 * time.Hour

const (
	maxWitnesses = 16

	// seenDomain keeps a witness's word apart from a cosignature on a checkpoint
	// (2.10), which the same key makes.
	seenDomain = "entente.im/seen/v1"
)

// Recovery is what the signatures on a successor's text add up to.
type Recovery struct {
	Manifest   Manifest
	Custodians []ed25519.PublicKey // of those that the predecessor names, who has signed
	Threshold  uint64              // how many of them are needed
	First      []Cosignature       // each witness's first word, in the predecessor's order
	Last       []Cosignature       // and its last one
	Majority   int                 // how many witnesses have to vouch for the delay
}

// Begun is when a majority of the witnesses had seen the text, by the last clock of that
// majority; zero while there is none.
func (r *Recovery) Begun() time.Time {
	at := make([]time.Time, 0, len(r.First))
	for _, s := range r.First {
		at = append(at, s.At)
	}
	if r.Majority == 0 || len(at) < r.Majority {
		return time.Time{}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at[r.Majority-1]
}

// stands reports what is missing, nil when nothing is.
func (r *Recovery) stands() error {
	if r.Threshold == 0 {
		return errors.New("a root that its predecessor did not commit to")
	}
	if uint64(len(r.Custodians)) < r.Threshold {
		return fmt.Errorf("a root that its predecessor did not commit to, signed by %d custodians of %d needed", len(r.Custodians), r.Threshold)
	}
	if r.Majority == 0 {
		return errors.New("a recovery where the predecessor names no witness of the time")
	}
	waited := 0
	for i, first := range r.First {
		if r.Last[i].At.Sub(first.At) >= RecoveryDelay {
			waited++
		}
	}
	if waited < r.Majority {
		return fmt.Errorf("a recovery that %d witnesses of %d needed have seen for %s", waited, r.Majority, RecoveryDelay)
	}
	return nil
}

// OpenRecovery reads a recovery that may still be pending: a successor of the last manifest of
// o, signed by the new root, with as many custodians and witnesses as have signed until now.
// An error means that it can never stand.
func OpenRecovery(o *Organization, recovery string) (*Recovery, error) {
	text, m, err := readManifest(recovery, len(o.Notes))
	if err != nil {
		return nil, err
	}
	tip, err := wire.NoteText(o.Notes[len(o.Notes)-1])
	if err != nil {
		return nil, err
	}
	m.first = o.KeyName()
	switch {
	case m.Sequence != uint64(len(o.Notes)) || m.Previous != wire.TextHash(tip):
		return nil, refuse("a recovery that does not follow the manifest that is known")
	case m.Name != o.Manifest.Name:
		return nil, refuse("a recovery that renames the organization")
	case m.Root.Equal(o.Manifest.Root) || NextRootHash(m.Root) == o.Manifest.NextRoot:
		return nil, refuse("a recovery to a root that needs none")
	}
	if err := signed(recovery, text, wire.NoteKey{Owner: m.keyName() + "/root", Public: m.Root}); err != nil {
		return nil, refuse("a recovery: %v", err)
	}
	return tally(recovery, text, m, &o.Manifest)
}

// CustodianName is the name of the custodians' keys in signatures (docs/protocol.md 2.2).
func CustodianName(organization string) string { return organization + "/custodian" }

// openLines parses a note without checking signatures.
func openLines(signed string) (*note.Note, error) {
	if len(signed) > wire.MaxNote {
		return nil, refuse("a note of %d bytes", len(signed))
	}
	_, err := note.Open([]byte(signed), note.VerifierList())
	unverified, ok := err.(*note.UnverifiedNoteError)
	if !ok {
		return nil, refuse("a manifest that is no note")
	}
	return unverified.Note, nil
}

// tally collects what stands on a note of those whom the predecessor names. Lines of
// anybody else are passed over (C2SP signed-note).
func tally(recovery, text string, m Manifest, predecessor *Manifest) (*Recovery, error) {
	n, err := openLines(recovery)
	if err != nil {
		return nil, err
	}
	r := &Recovery{Manifest: m, Threshold: predecessor.Threshold}
	if w := len(predecessor.Witnesses); w > 0 {
		r.Majority = w/2 + 1
	}
	for _, k := range predecessor.Custodians {
		if signed(recovery, text, wire.NoteKey{Owner: CustodianName(predecessor.keyName()), Public: k}) == nil {
			r.Custodians = append(r.Custodians, k)
		}
	}
	for _, w := range predecessor.Witnesses {
		first, last := seenBetween(n.UnverifiedSigs, text, w)
		if !first.IsZero() {
			r.First, r.Last = append(r.First, Cosignature{w, first}), append(r.Last, Cosignature{w, last})
		}
	}
	return r, nil
}

// seenBetween returns the first and the last time at which a witness saw a text.
func seenBetween(lines []note.Signature, text string, w Cosigner) (first, last time.Time) {
	for _, s := range lines {
		b, err := canonical64(s.Base64)
		if err != nil || s.Name != w.Owner || len(b) != 4+8+ed25519.SignatureSize || binary.BigEndian.Uint32(b) != seenHash(w) {
			continue
		}
		at := binary.BigEndian.Uint64(b[4:])
		if at == 0 || at >= 1<<38 || !ed25519.Verify(w.Public, seen(at, text), b[12:]) {
			continue
		}
		t := time.Unix(int64(at), 0).UTC()
		if first.IsZero() || t.Before(first) {
			first = t
		}
		if t.After(last) {
			last = t
		}
	}
	return first, last
}

// seen is what a witness signs.
func seen(at uint64, text string) []byte {
	return append(fmt.Appendf(nil, "%s\ntime %d\n", seenDomain, at), text...)
}

// seenHash is the key hash of a witness's line (C2SP signed-note, type 0xff): the first four
// bytes of SHA-256(name ‖ 0x0A ‖ 0xff ‖ domain ‖ key).
func seenHash(w Cosigner) uint32 {
	h := sha256.New()
	h.Write([]byte(w.Owner))
	h.Write([]byte("\n\xff" + seenDomain))
	h.Write(w.Public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// AddSeen adds the word of a witness that it has a recovery's text before it at this time. A
// witness says so once when it learns of the text, and tells everybody; and once when the
// delay is over and no successor of a pre-committed root is known to it.
func AddSeen(recovery, by string, key ed25519.PrivateKey, now time.Time) (string, error) {
	if now.Unix() <= 0 {
		return "", refuse("a witness before 1970")
	}
	n, err := openLines(recovery)
	if err != nil {
		return "", err
	}
	w, at := Cosigner{by, public(key)}, uint64(now.Unix())
	b := binary.BigEndian.AppendUint32(nil, seenHash(w))
	b = binary.BigEndian.AppendUint64(b, at)
	b = append(b, ed25519.Sign(key, seen(at, n.Text))...)
	n.UnverifiedSigs = append(n.UnverifiedSigs, note.Signature{Name: by, Hash: seenHash(w), Base64: base64.StdEncoding.EncodeToString(b)})
	out, err := note.Sign(n)
	return string(out), err
}

// SignRecovery adds a custodian's signature to a recovery of the organization o. It reads the
// recovery first: a custodian signs nothing that can never stand.
func SignRecovery(o *Organization, recovery string, custodian ed25519.PrivateKey) (string, error) {
	if _, err := OpenRecovery(o, recovery); err != nil {
		return "", err
	}
	if !slices.ContainsFunc(o.Manifest.Custodians, func(k ed25519.PublicKey) bool { return k.Equal(public(custodian)) }) {
		return "", refuse("a key that is no custodian of %s", o.Manifest.Name)
	}
	n, err := openLines(recovery)
	if err != nil {
		return "", err
	}
	out, err := note.Sign(n, noteKey(CustodianName(o.KeyName()), custodian))
	return string(out), err
}

// MergeRecovery puts what has been signed on another copy of a recovery onto this one: the
// lines of custodians and witnesses that stand, of each witness its first word and its last.
// Everything else is left out, so that a copy cannot be made to grow.
func MergeRecovery(o *Organization, recovery, add string) (string, error) {
	r, err := OpenRecovery(o, recovery)
	if err != nil {
		return "", err
	}
	a, err := openLines(recovery)
	if err != nil {
		return "", err
	}
	b, err := openLines(add)
	if err != nil {
		return "", err
	}
	if a.Text != b.Text {
		return "", refuse("signatures on another recovery")
	}
	var keep []note.Signature
	lines := slices.Concat(a.UnverifiedSigs, b.UnverifiedSigs)
	keys := []wire.NoteKey{{Owner: o.KeyName() + "/root", Public: r.Manifest.Root}}
	for _, k := range o.Manifest.Custodians {
		keys = append(keys, wire.NoteKey{Owner: CustodianName(o.KeyName()), Public: k})
	}
	for _, k := range keys {
		i := slices.IndexFunc(lines, func(s note.Signature) bool {
			raw, err := canonical64(s.Base64)
			return err == nil && s.Name == k.Owner && s.Hash == k.KeyHash() && k.Verify([]byte(a.Text), raw[4:])
		})
		if i >= 0 {
			keep = append(keep, lines[i])
		}
	}
	for _, w := range o.Manifest.Witnesses {
		keep = append(keep, seenLines(lines, a.Text, w)...)
	}
	out, err := note.Sign(&note.Note{Text: a.Text, UnverifiedSigs: keep})
	return string(out), err
}

// seenLines returns the lines of a witness's first and last word.
func seenLines(lines []note.Signature, text string, w Cosigner) (keep []note.Signature) {
	first, last := seenBetween(lines, text, w)
	for _, at := range []time.Time{first, last} {
		i := slices.IndexFunc(lines, func(s note.Signature) bool {
			from, to := seenBetween([]note.Signature{s}, text, w)
			return !at.IsZero() && from.Equal(at) && to.Equal(at)
		})
		if i >= 0 && !slices.Contains(keep, lines[i]) {
			keep = append(keep, lines[i])
		}
	}
	return keep
}
