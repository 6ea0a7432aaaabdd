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

const (
	agreementType = "entente.im/agreement/v1"
	maxAbuse      = 256
)

// Contact says who may write first.
type Contact string

// The contact rules.
const (
	ContactOpen    Contact = "open"    // anybody of the partner
	ContactRequest Contact = "request" // after the recipient has accepted
)

// Terms are what two organizations agree on.
type Terms struct {
	Directory  string // none, exact or groups: whose look-ups are answered
	Rooms      bool
	FileSize   uint64 // bytes; 0: no files
	Calls      bool
	Guests     bool
	Contact    Contact
	Transit    string        // none, named, any
	Retention  time.Duration // ceiling, whole seconds; 0: none of its own
	Rate       uint64        // items per second each way; 0: the default
	ValidFrom  time.Time
	ValidUntil time.Time
	Abuse      string // contact for abuse, one line; "-": none
}

// DefaultTerms are those that `partner invite` proposes.
func DefaultTerms(from, until time.Time) Terms {
	return Terms{Directory: "exact", Rooms: true, Guests: true, FileSize: 2 << 30, Contact: ContactOpen, Transit: "none",
		ValidFrom: from.UTC().Truncate(time.Second), ValidUntil: until.UTC().Truncate(time.Second), Abuse: "-"}
}

// Party is one side of an agreement.
type Party struct {
	ID   wire.OrganizationID
	Name string
	Root [32]byte // SHA-256 of the root key when it was signed: its fingerprint
}

// PartyOf describes an organization as a party.
func PartyOf(o *Organization) Party {
	return Party{ID: o.ID, Name: o.Manifest.Name, Root: RootFingerprint(o.Manifest.Root)}
}

// RootFingerprint is SHA-256 of a root key.
func RootFingerprint(k ed25519.PublicKey) [32]byte { return wire.TextHash(string(k)) }

// Agreement is a verified agreement. The note's fields: version, then for the
// (above 1) previous, inviter and the acceptor each organization, name and root, then directory,
// rooms, file-size, calls, guests, contact, transit, retention (seconds), rate,
// valid-from, valid-until, abuse.
type Agreement struct {
	Version  uint64   // rises by one with each amendment
	Previous [32]byte // of the text that this one replaces; zeros in version 1
	Inviter  Party
	Acceptor Party
	Terms    Terms
	Hash     [32]byte // of its text
	Note     string
}

// Partner returns the other party.
func (a *Agreement) Partner(own wire.OrganizationID) Party {
	if a.Inviter.ID == own {
		return a.Acceptor
	}
	return a.Inviter
}

func (a *Agreement) record() wire.Record {
	r := wire.Record{Type: agreementType}
	r.Add("version", "%d", a.Version)
	if a.Version > 1 {
		r.Add("previous", "%s", wire.FormatHash(a.Previous))
	}
	for _, p := range []struct {
		role string
		Party
	}{{"inviter", a.Inviter}, {"acceptor", a.Acceptor}} {
		r.Add(p.role, "%s", p.ID)
		r.Add(p.role+"-name", "%s", p.Name)
		r.Add(p.role+"-root", "%s", wire.FormatHash(p.Root))
	}
	t := a.Terms
	r.Add("directory", "%s", t.Directory)
	r.Add("rooms", "%t", t.Rooms)
	r.Add("file-size", "%d", t.FileSize)
	r.Add("calls", "%t", t.Calls)
	r.Add("guests", "%t", t.Guests)
	r.Add("contact", "%s", t.Contact)
	r.Add("transit", "%s", t.Transit)
	r.Add("retention", "%d", uint64(t.Retention/time.Second))
	r.Add("rate", "%d", t.Rate)
	r.Add("valid-from", "%s", wire.FormatTime(t.ValidFrom))
	r.Add("valid-until", "%s", wire.FormatTime(t.ValidUntil))
	r.Add("abuse", "%s", t.Abuse)
	return r
}

// NewAgreement is what the two will sign; nothing is checked yet.
func NewAgreement(inviter, acceptor *Organization, t Terms) *Agreement {
	return &Agreement{Version: 1, Inviter: PartyOf(inviter), Acceptor: PartyOf(acceptor), Terms: t}
}

// Amend is what the two will sign to replace an agreement by one with other terms.
func (a *Agreement) Amend(t Terms) *Agreement {
	return &Agreement{Version: a.Version + 1, Previous: a.Hash, Inviter: a.Inviter, Acceptor: a.Acceptor, Terms: t}
}

// Text returns the text that both sign; an error when the terms do not stand.
func (a *Agreement) Text() (string, error) {
	if err := a.Terms.Check(); err != nil {
		return "", err
	}
	return a.record().Text()
}

// SignAgreement is the first signature: the acceptor's, or that of who proposes an
// amendment.
func SignAgreement(a *Agreement, key wire.NoteKey) (string, error) {
	if err := a.check(); err != nil {
		return "", err
	}
	return wire.SignNote(a.record(), key)
}

// VerifyAgreement checks a note that both organizations, in either order, have
// signed with their node keys, and that it is between these two.
func VerifyAgreement(note string, a, b *Organization) (*Agreement, error) {
	text, err := wire.OpenNote(note, a.NodeKey(), b.NodeKey())
	if err != nil {
		return nil, refuse("agreement: %v", err)
	}
	return between(text, note, a, b)
}

// VerifyProposal checks a note that one of two organizations has signed: an agreement
// once the other signs it too.
func VerifyProposal(note string, proposer, other *Organization) (*Agreement, error) {
	text, err := wire.OpenNote(note, proposer.NodeKey())
	if err != nil {
		return nil, refuse("proposal: %v", err)
	}
	return between(text, note, proposer, other)
}

// between reads an agreement whose signatures were checked and holds it against its parties.
func between(text, note string, a, b *Organization) (*Agreement, error) {
	out, err := parseAgreement(text)
	if err != nil {
		return nil, err
	}
	theirs := out.Inviter.is(a) && out.Acceptor.is(b) || out.Inviter.is(b) && out.Acceptor.is(a)
	if !theirs {
		return nil, refuse("an agreement between others")
	}
	for _, o := range []*Organization{a, b} {
		p := out.Inviter
		if p.ID != o.ID {
			p = out.Acceptor
		}
		if !o.hadRoot(p.Root) {
			return nil, refuse("an agreement with a root that %s never had", o.Manifest.Name)
		}
	}
	out.Note = note
	return out, nil
}

// is compares identity; root and name may have changed since (hadRoot).
func (p Party) is(o *Organization) bool { return p.ID == o.ID && slices.Contains(o.Names(), p.Name) }

func parseAgreement(text string) (*Agreement, error) {
	f := wire.Read(text, agreementType)
	a := &Agreement{Version: f.Uint("version"), Hash: wire.TextHash(text)}
	if a.Version > 1 {
		a.Previous = f.Hash("previous")
	}
	readParty(f, "inviter", &a.Inviter)
	readParty(f, "acceptor", &a.Acceptor)
	t := &a.Terms
	t.Directory = f.One("directory")
	t.Rooms = f.Bool("rooms")
	t.FileSize = f.Uint("file-size")
	t.Calls, t.Guests = f.Bool("calls"), f.Bool("guests")
	t.Contact = Contact(f.One("contact"))
	t.Transit = f.One("transit")
	if s := f.Uint("retention"); s <= uint64(wire.RetentionCeiling/time.Second) {
		t.Retention = time.Duration(s) * time.Second
	} else {
		f.Fail("retention over the ceiling")
	}
	t.Rate = f.Uint("rate")
	t.ValidFrom, t.ValidUntil = f.Time("valid-from"), f.Time("valid-until")
	t.Abuse = f.One("abuse")
	if err := f.Done(); err != nil {
		return nil, refuse("agreement: %v", err)
	}
	return a, a.check()
}

func readParty(f *wire.Fields, role string, p *Party) {
	p.ID = f.Hash(role)
	p.Name = f.One(role + "-name")
	p.Root = f.Hash(role + "-root")
}

func (a *Agreement) check() error {
	t := a.Terms
	switch {
	case a.Version == 0:
		return refuse("an agreement of version 0")
	case a.Inviter.ID == a.Acceptor.ID:
		return refuse("an agreement of an organization with itself")
	case wire.CheckOrganizationName(a.Inviter.Name) != nil || wire.CheckOrganizationName(a.Acceptor.Name) != nil:
		return refuse("an agreement with a party that has no name")
	}
	return t.Check()
}

// Check refuses terms that no agreement may have.
func (t Terms) Check() error {
	switch {
	case t.Directory != "none" && t.Directory != "exact" && t.Directory != "groups":
		return refuse("directory %.20q is not none, exact or groups", t.Directory)
	case t.Contact != ContactOpen && t.Contact != ContactRequest:
		return refuse("contact %.20q is not open or request", string(t.Contact))
	case t.Transit != "none" && t.Transit != "named" && t.Transit != "any":
		return refuse("transit %.20q is not none, named or any", t.Transit)
	case t.Retention < 0 || t.Retention > wire.RetentionCeiling:
		return refuse("a retention of %s is not between 0 (no ceiling of its own) and %s", t.Retention, wire.RetentionCeiling)
	case t.Rate > wire.MaxAgreementRate:
		return refuse("a rate of %d is over %d", t.Rate, wire.MaxAgreementRate)
	case !t.ValidUntil.After(t.ValidFrom):
		return refuse("the agreement would end before it begins")
	case t.Abuse == "" || len(t.Abuse) > maxAbuse || !printable(t.Abuse):
		return refuse("whom to tell of abuse is one line of 1 to %d bytes of text", maxAbuse)
	}
	return nil
}

// printable refuses what could write elsewhere on a terminal, or show itself in
// another order: terms of strangers are shown to people.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
