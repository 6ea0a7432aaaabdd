package notice

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// noteType is the first line of a notice's text (docs/protocol.md 2.7).
const noteType = "entente.im/notice/v1"

// Limits of one notice: the text stays below wire.MaxNote with room to spare.
const (
	MaxRanges  = 256
	MaxHandles = 4_096
)

// Notice is a signed statement of an organization about what became of envelopes
// of one room at its members. Layout in the
// package comment.
type Notice struct {
	Organization wire.OrganizationID // who states it
	Origin       wire.OrganizationID // whose node resolves the return handles
	Room         wire.RoomID
	Issued       time.Time // whole seconds, UTC
	Ranges       []Range   // 1 to MaxRanges
}

// Range is one line of a notice: what became of the envelopes From to To (room
// sequences, inclusive, at least 1) at one member. Envelopes of other senders that
// lie within are not meant: Handles name those that are.
type Range struct {
	State   State
	From    uint64
	To      uint64
	Member  wire.MemberID
	Until   time.Time // StateStored only: kept until then
	Reason  pb.Code   // StateRefused only
	Handles [][wire.ReturnHandleLen]byte
}

// New signs n with the node key of the organization that states it. It
// refuses what Parse would refuse.
func New(n Notice, key wire.NoteKey) (string, error) {
	r, err := n.record()
	if err != nil {
		return "", err
	}
	text, err := r.Text()
	if err != nil {
		return "", err
	}
	if _, err := parseText(text); err != nil {
		return "", err
	}
	return wire.SignNote(r, key)
}

// Parse opens a notice that org states under key, its current node key
// ("<organization>/node"). Nothing of it may be believed when an error is returned.
func Parse(signed string, org wire.OrganizationID, key wire.NoteKey) (*Notice, error) {
	text, err := wire.OpenNote(signed, key)
	if err != nil {
		return nil, fmt.Errorf("notice: a notice: %w", err)
	}
	n, err := parseText(text)
	if err != nil {
		return nil, err
	}
	if n.Organization != org {
		return nil, fmt.Errorf("notice: a notice of another organization: %w", wire.ErrMalformed)
	}
	return n, nil
}

// OrganizationOf tells whose key a notice wants to be checked with, and
// nothing else: no signature is verified.
func OrganizationOf(signed string) (wire.OrganizationID, error) {
	text, err := wire.NoteText(signed)
	if err != nil {
		return wire.OrganizationID{}, fmt.Errorf("notice: a notice: %w", err)
	}
	n, err := parseText(text)
	if err != nil {
		return wire.OrganizationID{}, err
	}
	return n.Organization, nil
}

func (n Notice) record() (wire.Record, error) {
	r := wire.Record{Type: noteType}
	r.Add("organization", "%s", n.Organization)
	r.Add("origin", "%s", n.Origin)
	r.Add("room", "%s", n.Room)
	r.Add("issued", "%s", wire.FormatTime(n.Issued))
	for _, g := range n.Ranges {
		r.Add("range", "%s", g.line())
	}
	return r, nil
}

func parseText(text string) (*Notice, error) {
	f := wire.Read(text, noteType)
	n := &Notice{
		Organization: f.Hash("organization"), Origin: f.Hash("origin"),
		Room: f.Hash("room"), Issued: f.Time("issued"),
	}
	n.Ranges = parseRanges(f)
	if err := f.Done(); err != nil {
		return nil, fmt.Errorf("notice: a notice: %w", err)
	}
	return n, nil
}

func parseRanges(f *wire.Fields) []Range {
	lines := f.All("range", MaxRanges)
	if len(lines) == 0 {
		f.Fail("a notice without ranges")
		return nil
	}
	handles := 0
	out := make([]Range, len(lines))
	for i, line := range lines {
		g, err := parseRange(line)
		if handles += len(g.Handles); err == nil && handles > MaxHandles {
			err = fmt.Errorf("more than %d handles", MaxHandles)
		}
		if err != nil {
			f.Fail("range %d: %v", i, err)
			return nil
		}
		out[i] = g
	}
	return out
}

// line is the value of a range field: state, from, to, member, then until or reason
// or "-", then the handles with commas between or "-".
func (g Range) line() string {
	extra, handles := "-", "-"
	switch g.State {
	case StateStored:
		extra = wire.FormatTime(g.Until)
	case StateRefused:
		extra = wire.CodeName(g.Reason)
	}
	if len(g.Handles) > 0 {
		words := make([]string, len(g.Handles))
		for i, h := range g.Handles {
			words[i] = hex.EncodeToString(h[:])
		}
		handles = strings.Join(words, ",")
	}
	return fmt.Sprintf("%s %d %d %s %s %s", g.State, g.From, g.To, g.Member, extra, handles)
}

func parseRange(line string) (Range, error) {
	var g Range
	words := strings.Split(line, " ")
	if len(words) != 6 {
		return g, fmt.Errorf("%d words, not 6", len(words))
	}
	var ok bool
	if g.State, ok = ParseState(words[0]); !ok {
		return g, fmt.Errorf("the state %.20q", words[0])
	}
	var err error
	if g.From, err = parseSeq(words[1]); err != nil {
		return g, err
	}
	if g.To, err = parseSeq(words[2]); err != nil {
		return g, err
	}
	if g.To < g.From {
		return g, fmt.Errorf("from %d to %d", g.From, g.To)
	}
	if g.Member, err = wire.ParseMemberID(words[3]); err != nil {
		return g, fmt.Errorf("a member that is no ID")
	}
	if err = g.parseExtra(words[4]); err != nil {
		return g, err
	}
	return g, g.parseHandles(words[5])
}

func (g *Range) parseExtra(word string) error {
	switch g.State {
	case StateStored:
		t, err := time.Parse(time.RFC3339, word)
		if err != nil || wire.FormatTime(t) != word {
			return fmt.Errorf("a time that is not as 2026-11-23T00:00:00Z")
		}
		g.Until = t.UTC()
	case StateRefused:
		code, ok := codeByName[word]
		if !ok {
			return fmt.Errorf("the reason %.20q", word)
		}
		g.Reason = code
	default:
		if word != "-" {
			return fmt.Errorf("%.20q in the state %s", word, g.State)
		}
	}
	return nil
}

func (g *Range) parseHandles(word string) error {
	if word == "-" {
		return nil
	}
	// 33 characters each: the note's limit bounds what is split here.
	words := strings.Split(word, ",")
	if uint64(len(words)-1) > g.To-g.From {
		return fmt.Errorf("more handles than envelopes")
	}
	g.Handles = make([][wire.ReturnHandleLen]byte, len(words))
	for i, w := range words {
		b, err := hex.DecodeString(w)
		if err != nil || len(b) != wire.ReturnHandleLen || hex.EncodeToString(b) != w {
			return fmt.Errorf("a handle that is not 32 characters of hex")
		}
		g.Handles[i] = [wire.ReturnHandleLen]byte(b)
	}
	return nil
}

// codeByName holds the refusals only: a success is no reason.
var codeByName = func() map[string]pb.Code {
	m := make(map[string]pb.Code)
	for n := range pb.Code_name {
		c := pb.Code(n)
		if name := wire.CodeName(c); name != "unknown" && wire.ClassOf(c) != wire.Success {
			m[name] = c
		}
	}
	return m
}()

// parseSeq reads a room sequence: decimal, no leading zeros, at least 1.
func parseSeq(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("the sequence %.24q", s)
	}
	return n, nil
}
