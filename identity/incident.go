package identity

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/entente-im/entente/wire"
)

// An organization whose directory's log has two pasts is blocked by whoever has the proof.
// It comes back by an incident statement: a manifest, signed by its root, that says what has
// happened and begins a new log under an origin of its own (docs/protocol.md 2.16). The old
// log and its proof stay what they are.

const (
	// MaxIncidents bounds the statements of one organization.
	MaxIncidents = 16
	// MaxIncidentReason bounds what one says, in bytes.
	MaxIncidentReason = 200
)

// Incident is the statement that begins a log. Its time is the log's number.
type Incident struct {
	At     time.Time // when the manifest that adds it was issued
	Reason string    // what has happened, in the organization's words
}

// Log is the number of the directory's log that a manifest is about: 0 is the first one,
// another is the Unix time, in seconds, of the statement that has begun it.
func (m *Manifest) Log() uint64 {
	if n := len(m.Incidents); n > 0 {
		return uint64(m.Incidents[n-1].At.Unix())
	}
	return 0
}

// CheckIncidentReason reports whether a statement could say this.
func CheckIncidentReason(s string) error {
	if s == "" || len(s) > MaxIncidentReason || !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		return refuse("an incident is told in 1 to %d bytes of text", MaxIncidentReason)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return refuse("an incident is told in one line of printable text")
	}
	return nil
}

func parseIncident(f *wire.Fields, v string) Incident {
	at, reason, _ := strings.Cut(v, " ")
	t, err := wire.ParseTime(at)
	if err != nil || t.Unix() <= 0 || CheckIncidentReason(reason) != nil {
		f.Fail("incident %.80q", v)
	}
	return Incident{t, reason}
}

// checkIncidents reports whether the times rise.
func (m *Manifest) checkIncidents() bool {
	for i := 1; i < len(m.Incidents); i++ {
		if !m.Incidents[i-1].At.Before(m.Incidents[i].At) {
			return false
		}
	}
	return true
}

// keepsIncidents reports whether a successor has the statements of the manifest before it,
// and at most one more, of its own time.
func (m *Manifest) keepsIncidents(before *Manifest) bool {
	n := len(before.Incidents)
	switch {
	case len(m.Incidents) < n || len(m.Incidents) > n+1 || !slices.Equal(m.Incidents[:n], before.Incidents):
		return false
	case len(m.Incidents) == n+1:
		return m.Incidents[n].At.Equal(m.Issued)
	}
	return true
}

// Declare signs an incident statement with the present root, and verifies the longer chain as
// everybody else will: from it on, the directory's log is a new one.
func (o *Organization) Declare(root ed25519.PrivateKey, reason string, now time.Time) (*Organization, error) {
	if err := CheckIncidentReason(reason); err != nil {
		return nil, err
	}
	if len(o.Manifest.Incidents) >= MaxIncidents {
		return nil, refuse("%d incidents, the most that an organization can tell of", MaxIncidents)
	}
	at := now.UTC().Truncate(time.Second)
	return o.extend(root, at, func(m *Manifest) { m.Incidents = append(m.Incidents, Incident{at, reason}) })
}
