package identity

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// WitnessesNeeded is how many of the recognized witnesses a head needs at most.
const WitnessesNeeded = 2

// StaleAfter is the age of the newest cosignature from which a head is called stale.
const StaleAfter = 24 * time.Hour

// Witnessing is what a verifier makes of a head: a grade that is shown, never a gate
// (docs/protocol.md 2.13).
type Witnessing struct {
	Recognized int       // witnesses that the verifier recognizes for this log
	Have       int       // of them, those that have cosigned this head
	Newest     time.Time // of their cosignatures; zero: there is none
}

// Witness counts the cosignatures on a head by the verifier's view. The caller leaves the
// log's owner out of those that it recognizes: nobody witnesses for himself.
func Witness(head string, recognized []Cosigner) Witnessing {
	w := Witnessing{Recognized: len(recognized)}
	got, err := Cosignatures(head, recognized)
	if err != nil {
		return w
	}
	w.Have = len(got)
	for _, c := range got {
		if c.At.After(w.Newest) {
			w.Newest = c.At
		}
	}
	return w
}

// Needed is min(2, those recognized).
func (w Witnessing) Needed() int { return min(WitnessesNeeded, w.Recognized) }

// Grade is a word for people: "unwitnessed organization" when the verifier recognizes
// nobody, "witnessed", "stale" when that was long ago, "awaiting witnesses" when fewer than
// needed have cosigned.
func (w Witnessing) Grade(now time.Time) string {
	switch {
	case w.Recognized == 0:
		return "unwitnessed organization"
	case w.Have < w.Needed():
		return "awaiting witnesses"
	case now.Sub(w.Newest) > StaleAfter:
		return "stale"
	}
	return "witnessed"
}

// ParseWitness reads a public witness's verifier key: "name+hash+base64(0x04 ‖ key)" (C2SP
// signed-note, tlog-cosignature).
func ParseWitness(text string) (Cosigner, error) {
	name, rest, _ := strings.Cut(text, "+")
	hash, b64, ok := strings.Cut(rest, "+")
	b, err := canonical64(b64)
	if !ok || err != nil || name == "" || strings.ContainsAny(name, " \n") || len(b) != 1+ed25519.PublicKeySize || b[0] != 0x04 {
		return Cosigner{}, refuse("a witness that is not name+hash+base64 of an Ed25519 cosigner key (type 4)")
	}
	c := Cosigner{name, b[1:]}
	var want [4]byte
	binary.BigEndian.PutUint32(want[:], cosignerKey{Cosigner: c}.KeyHash())
	if hash != hex.EncodeToString(want[:]) {
		return Cosigner{}, refuse("the witness %.80q with another hash than its key's", name)
	}
	return c, nil
}
