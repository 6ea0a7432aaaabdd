package device

import (
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
)

func TestAMentionIsALinkToSomebodyInTheRoom(t *testing.T) {
	bob, bobby := memberKey{wire.OrganizationID{1}, wire.MemberID{2}}, memberKey{wire.OrganizationID{1}, wire.MemberID{3}}
	people := []person{{"bob@globex.example.net", bobby}, {"bob@globex.example", bob}}
	link := func(p person) string {
		return "[@" + p.address + "](" + wire.MemberURI(p.key.Org, p.key.Member) + ")"
	}
	for text, want := range map[string]string{
		"@bob@globex.example":              link(people[1]),
		"hello @bob@globex.example.":       "hello " + link(people[1]) + ".",
		"(@BOB@Globex.Example, look)":      "(" + link(people[1]) + ", look)",
		"@bob@globex.example.net!":         link(people[0]) + "!",
		"@bob@globex.example\n@nobody@x":   link(people[1]) + "\n@nobody@x",
		"@carol@globex.example":            "@carol@globex.example",
		"bob@globex.example":               "bob@globex.example",
		"x@bob@globex.example":             "x@bob@globex.example",
		"@bob@globex.examples":             "@bob@globex.examples",
		"@bob@globex.example.org":          "@bob@globex.example.org",
		"`@bob@globex.example` is code":    "`@bob@globex.example` is code",
		"[@bob@globex.example](mimi://x)":  "[@bob@globex.example](mimi://x)",
		"https://x/@bob@globex.example":    "https://x/@bob@globex.example",
		"an @ and @@bob@globex.example, é": "an @ and @@bob@globex.example, é",
	} {
		got, whom := mention(text, people)
		if got != want || (got != text) != (len(whom) == 1) {
			t.Errorf("%q becomes %q (%v), want %q", text, got, whom, want)
		}
	}
}

func TestWhoIsMentionedIsToldAlsoByAnEdit(t *testing.T) {
	p := newPair(t)
	to, bob, alice := p.bob.Address(), p.bob.Address().String(), p.alice.Address().String()
	text := "@" + bob + " and @" + alice + " meet @nobody@globex.example"
	send(t, p.alice, to, text, SendOptions{})
	shown := receiveUntil(t, p.bob, "the message", hasTexts(1))
	got := shown[len(shown)-1]
	if got.Text != text || !slices.Equal(got.Mentions, []string{bob, alice}) || !got.MentionsYou {
		t.Errorf("bob is shown %+v", got)
	}
	own := lastSent(t, p.alice)
	if own.Text != text || !slices.Equal(own.Mentions, []string{bob, alice}) {
		t.Errorf("alice has %+v", own)
	}
	id, err := ParseMessageID(own.ID)
	must(t, err)
	send(t, p.alice, to, "no, only @"+bob, SendOptions{Action: ActionEdit, About: id})
	edited := func(s Shown) bool { return s.Event == "edited" && s.Text == "no, only @"+bob }
	shown = receiveUntil(t, p.bob, "the edit", func(all []Shown) bool { return slices.ContainsFunc(all, edited) })
	if at := slices.IndexFunc(shown, edited); !shown[at].MentionsYou || !slices.Equal(shown[at].Mentions, []string{bob}) {
		t.Errorf("the edit: %+v", shown[at])
	}
	if row := find(t, p.bob, "no, only @"+bob); !row.MentionsYou || !slices.Equal(row.Mentions, []string{bob}) {
		t.Errorf("in the history: %+v", row)
	}
	// What it is shown as is not the writer's word, and a stranger's URI stays a link.
	p.alice.mu.Lock()
	k := p.bob.ownKey()
	p.alice.mu.Unlock()
	stranger := "[@" + bob + "](" + mentionedURI() + ")"
	forge(t, p.alice, message{Text: "[@" + alice + "](" + wire.MemberURI(k.Org, k.Member) + ") " + stranger})
	send(t, p.alice, to, "as it is: @"+bob, SendOptions{Plain: true})
	shown = receiveUntil(t, p.bob, "both", hasTexts(2))
	said := texts(shown)
	if !slices.Contains(said, "@"+bob+" "+stranger) || !slices.Contains(said, "as it is: @"+bob) {
		t.Errorf("shown: %q", said)
	}
	for _, s := range shown {
		if strings.HasPrefix(s.Text, "as it is") && s.MentionsYou {
			t.Errorf("a plain text mentions: %+v", s)
		}
	}
}
