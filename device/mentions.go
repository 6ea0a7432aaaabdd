package device

import (
	"regexp"
	"slices"
	"strings"

	"github.com/entente-im/entente/wire"
)

// A mention is a link to the URI of somebody in the room (draft-ietf-mimi-content-08 §5.3
// and "Link and Mention handling"). People write and read @bob@globex.example; what travels
// names the member by ID, so that a mention outlives a change of name, and what it is shown
// as is the reader's word and not the writer's.

// mentionLink is a link in Markdown to a member's URI, with a text or without.
var mentionLink = regexp.MustCompile(`\[[^\[\]\n]{0,300}\]\((mimi://[a-z2-7]{1,64}/u/[a-z2-7]{1,64})\)|<(mimi://[a-z2-7]{1,64}/u/[a-z2-7]{1,64})>`)

// person is somebody in a room, as they are mentioned.
type person struct {
	address string
	key     memberKey
}

// addressees are the people of a room, the longest address first.
func (d *Device) addressees(r *room) (out []person) {
	if r.state == nil {
		return nil
	}
	for _, k := range r.people() {
		out = append(out, person{d.nameOf(k), k})
	}
	slices.SortFunc(out, func(a, b person) int { return len(b.address) - len(a.address) })
	return out
}

// mention turns the addresses of people in the room into links, and lists whom. An address
// of somebody else, or in code or a link, stays text.
func mention(text string, people []person) (linked string, whom []string) {
	if !strings.Contains(text, "@") {
		return text, nil
	}
	var b strings.Builder
	code := false
	for i := 0; i < len(text); i++ {
		if text[i] == '`' {
			code = !code
		}
		p, n := addressAt(text, i, people)
		if n == 0 || code {
			b.WriteByte(text[i])
			continue
		}
		b.WriteString("[@" + p.address + "](" + wire.MemberURI(p.key.Org, p.key.Member) + ")")
		if !slices.Contains(whom, p.address) {
			whom = append(whom, p.address)
		}
		i += n - 1
	}
	return b.String(), whom
}

// addressAt finds whose address stands at i behind an @, and how long both are.
func addressAt(text string, i int, people []person) (person, int) {
	if text[i] != '@' || i > 0 && (wordByte(text[i-1]) || strings.IndexByte("@[/.", text[i-1]) >= 0) {
		return person{}, 0
	}
	for _, p := range people {
		end := i + 1 + len(p.address)
		if end > len(text) || !strings.EqualFold(text[i+1:end], p.address) {
			continue
		}
		rest := text[end:]
		if rest == "" || !wordByte(rest[0]) && rest[0] != '@' && (rest[0] != '.' || len(rest) == 1 || !wordByte(rest[1])) {
			return p, end - i
		}
	}
	return person{}, 0
}

// wordByte reports whether a byte goes on with a name: letters of any script do.
func wordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_' || b >= 0x80
}

// readMentions puts addresses in place of the links to people in the room, and notes whom
// the message mentions. Other links stay as they are.
func (d *Device) readMentions(r *room, m *message) {
	if !m.markdown || !strings.Contains(m.Text, "mimi://") {
		return
	}
	people := d.addressees(r)
	m.Text = mentionLink.ReplaceAllStringFunc(m.Text, func(link string) string {
		found := mentionLink.FindStringSubmatch(link)
		org, member, err := wire.ParseMemberURI(found[1] + found[2])
		at := slices.IndexFunc(people, func(p person) bool { return p.key == memberKey{org, member} })
		if err != nil || at < 0 {
			return link
		}
		if p := people[at]; !slices.Contains(m.Mentions, p.address) {
			m.Mentions = append(m.Mentions, p.address)
			m.MentionsYou = m.MentionsYou || p.key == d.ownKey()
		}
		return "@" + people[at].address
	})
}
