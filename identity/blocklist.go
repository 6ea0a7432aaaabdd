package identity

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
)

// blockListType is the first line of a block list: docs/protocol.md 2.17.
const blockListType = wire.BlockListType

// MaxBlockListLife bounds how long a block list may hold after it was issued.
const MaxBlockListLife = 90 * 24 * time.Hour

// BlockReasons are the reasons that an entry of a block list may have.
var BlockReasons = []string{"spam", "phishing", "harassment", "malware", "impersonation", "other"}

// BlockList is whom an organization has blocked and tells its partners, who choose whether
// they enforce it. It is signed by "<name>/directory".
type BlockList struct {
	Organization  wire.OrganizationID // the issuer
	Sequence      uint64              // rises with every list; two lists with one sequence are equivocation
	Issued, Until time.Time
	Entries       []BlockEntry // in the order of their IDs, each once
}

// BlockEntry is one of a block list: a whole organization when Member is zero.
type BlockEntry struct {
	Organization wire.OrganizationID
	Member       wire.MemberID
	Reason       string    // one of BlockReasons
	Until        time.Time // zero: as long as the list
}

// who is the entry's name in the text; lists are sorted by it.
func (e BlockEntry) who() string {
	if e.Member == (wire.MemberID{}) {
		return e.Organization.String()
	}
	return e.Organization.String() + "/" + e.Member.String()
}

// forever stands for an entry without an end of its own.
const forever = "list"

func (e BlockEntry) text() string {
	until := forever
	if !e.Until.IsZero() {
		until = wire.FormatTime(e.Until)
	}
	return e.who() + " " + e.Reason + " " + until
}

func (l BlockList) record() wire.Record {
	r := wire.Record{Type: blockListType}
	r.Add("organization", "%s", l.Organization)
	r.Add("sequence", "%d", l.Sequence)
	r.Add("issued", "%s", wire.FormatTime(l.Issued))
	r.Add("valid-until", "%s", wire.FormatTime(l.Until))
	for _, e := range l.Entries {
		r.Add("entry", "%s", e.text())
	}
	return r
}

// Sign sorts the entries and signs the list with its issuer's directory key. A list that
// would not stand is not signed.
func (l BlockList) Sign(organization string, key ed25519.PrivateKey) (string, error) {
	l.Entries = slices.Clone(l.Entries)
	slices.SortFunc(l.Entries, func(a, b BlockEntry) int { return strings.Compare(a.who(), b.who()) })
	r := l.record()
	text, err := r.Text()
	if err == nil {
		_, err = parseBlockList(text)
	}
	if err != nil {
		return "", err
	}
	return wire.SignNote(r, noteKey(organization+"/directory", key))
}

// VerifyBlockList checks form and signature of an issuer's block list. Whether it holds at a
// time (Holds), and whether it is newer than the last, the caller compares.
func VerifyBlockList(note string, issuer *Organization) (*BlockList, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return nil, refuse("block list: %v", err)
	}
	l, err := parseBlockList(text)
	if err != nil {
		return nil, err
	}
	if l.Organization != issuer.ID {
		return nil, refuse("block list: of another organization")
	}
	if err := signed(note, text, issuer.DirectoryKey()); err != nil {
		return nil, refuse("block list: %v", err)
	}
	return l, nil
}

// BlockListIssuer reads, without checking anything, whose list a note says it is: only to
// learn whose key to check it with.
func BlockListIssuer(note string) (wire.OrganizationID, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return wire.OrganizationID{}, refuse("block list: %v", err)
	}
	l, err := parseBlockList(text)
	if err != nil {
		return wire.OrganizationID{}, err
	}
	return l.Organization, nil
}

// Holds reports whether the list is in force; tolerance is for the issuer's clock.
func (l *BlockList) Holds(now time.Time) bool {
	return now.Before(l.Until) && !now.Add(wire.ClockTolerance).Before(l.Issued)
}

func parseBlockList(text string) (*BlockList, error) {
	f := wire.Read(text, blockListType)
	l := &BlockList{Organization: f.Hash("organization"), Sequence: f.Uint("sequence"), Issued: f.Time("issued"), Until: f.Time("valid-until")}
	before := ""
	for _, v := range f.All("entry", wire.MaxBlockListEntries) {
		e, ok := parseBlockEntry(v)
		switch who := e.who(); {
		case !ok:
			f.Fail("an entry that does not parse")
		case who <= before:
			f.Fail("entries that are not in the order of their IDs, or twice")
		case e.Organization == l.Organization:
			f.Fail("an entry about the issuer itself")
		default:
			before = who
		}
		l.Entries = append(l.Entries, e)
	}
	if life := l.Until.Sub(l.Issued); life <= 0 || life > MaxBlockListLife {
		f.Fail("valid for no time, or for more than 90 days")
	}
	if l.Sequence == 0 {
		f.Fail("a sequence of 0")
	}
	if err := f.Done(); err != nil {
		return nil, refuse("block list: %v", err)
	}
	return l, nil
}

// parseBlockEntry accepts exactly what BlockEntry.text writes.
func parseBlockEntry(v string) (e BlockEntry, ok bool) {
	parts := strings.Split(v, " ")
	if len(parts) != 3 {
		return e, false
	}
	org, member, both := strings.Cut(parts[0], "/")
	var err error
	if e.Organization, err = wire.ParseOrganizationID(org); err != nil {
		return e, false
	}
	if both {
		if e.Member, err = wire.ParseMemberID(member); err != nil || e.Member == (wire.MemberID{}) {
			return e, false
		}
	}
	if e.Reason = parts[1]; !slices.Contains(BlockReasons, e.Reason) {
		return e, false
	}
	if parts[2] != forever {
		if e.Until, err = time.Parse(time.RFC3339, parts[2]); err != nil {
			return e, false
		}
	}
	return e, e.text() == v
}
