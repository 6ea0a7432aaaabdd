package wire

import (
	"slices"
	"strings"
	"unicode"
)

// What names look like (docs/protocol.md 1.4), after UTS #39: two names with one skeleton
// are easily taken for each other. The table is our own and small: the letters of Cyrillic,
// Greek, Armenian and of Latin with marks that look like a Latin letter, digits, and pairs.

// alike lists, after each letter, what looks like it.
var alike = func() map[rune]rune {
	out := make(map[rune]rune)
	for _, row := range strings.Fields(`aаαạàáâãäåāăąǎɑ bьƅ cсϲçćčċĉ dԁđďḍ eеёèéêëēĕėęěẹєε fғƒ gɡģğġĝǥ hһĥħнḥ
		lіїıíìîïĩīĭįịι1iłľĺļɩӏן kкκķḳ mмṃ nոñńņňŋṇпηռ oоοσòóôõöøōŏőơọօ໐0 pрρṗ qԛգ rгŕŗřɾ sѕśŝşšșṣ tтτţťŧțṭ
		uυùúûüũūŭůűųụսцư vνѵṿ wԝŵωшѡẁẃẅẉ xхχҳ yуүýÿŷγỳỵ zźżžẓᴢ`) {
		letters := []rune(row)
		for _, r := range letters[1:] {
			out[r] = letters[0]
		}
	}
	return out
}()

// pairs are letters that together look like another one.
var pairs = strings.NewReplacer("rn", "m", "vv", "w", "cl", "d")

// Skeleton is what a name is compared by: two names with the same one look alike.
func Skeleton(name string) string {
	labels := strings.Split(name, ".")
	for i, label := range labels {
		runes, ok := unicodeLabel(label)
		if !ok {
			runes = []rune(label)
		}
		for j, r := range runes {
			if to, ok := alike[r]; ok {
				runes[j] = to
			}
		}
		labels[i] = pairs.Replace(string(runes))
	}
	return strings.Join(labels, ".")
}

// DisplayName is how a name looks where its Punycode is shown as what it stands for. Names
// are compared, sent and typed as ASCII; this is for people who look at them.
func DisplayName(name string) string {
	labels := strings.Split(name, ".")
	for i, label := range labels {
		if runes, ok := unicodeLabel(label); ok {
			labels[i] = string(runes)
		}
	}
	return strings.Join(labels, ".")
}

// scripts are those that names are looked at for, by their Unicode names; letters of others
// count as "other".
var scripts = []struct {
	name  string
	table *unicode.RangeTable
}{
	{"Latin", unicode.Latin}, {"Greek", unicode.Greek}, {"Cyrillic", unicode.Cyrillic}, {"Armenian", unicode.Armenian}, {"Hebrew", unicode.Hebrew},
	{"Arabic", unicode.Arabic}, {"Devanagari", unicode.Devanagari}, {"Thai", unicode.Thai}, {"Georgian", unicode.Georgian}, {"Hangul", unicode.Hangul},
	{"Han", unicode.Han}, {"Hiragana", unicode.Hiragana}, {"Katakana", unicode.Katakana},
}

// MixedScripts returns the first label of a name, as it looks, that has letters of several
// scripts, with these; nothing when none has. Han with kana, or with Hangul, is one way to
// write, with or without Latin (UTS #39 §5.2, highly restrictive).
func MixedScripts(name string) (label string, mixed []string) {
	for _, l := range strings.Split(name, ".") {
		runes, ok := unicodeLabel(l)
		if !ok {
			continue
		}
		var found []string
		for _, r := range runes {
			if s := scriptOf(r); s != "" && !slices.Contains(found, s) {
				found = append(found, s)
			}
		}
		if len(found) > 1 && !writtenTogether(found) {
			slices.Sort(found)
			return string(runes), found
		}
	}
	return "", nil
}

func scriptOf(r rune) string {
	if !unicode.IsLetter(r) {
		return ""
	}
	for _, s := range scripts {
		if unicode.Is(s.table, r) {
			return s.name
		}
	}
	return "other"
}

func writtenTogether(found []string) bool {
	for _, together := range [][]string{{"Latin", "Han", "Hiragana", "Katakana"}, {"Latin", "Han", "Hangul"}} {
		if !slices.ContainsFunc(found, func(s string) bool { return !slices.Contains(together, s) }) {
			return true
		}
	}
	return false
}

// Differences shows two names one under the other with marks below what differs, for people.
func Differences(a, b string) string {
	x, y := []rune(DisplayName(a)), []rune(DisplayName(b))
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	marks := func(n int) string { return strings.Repeat(" ", head) + strings.Repeat("^", max(n-head-tail, 1)) }
	return string(x) + "  (" + a + ")\n" + marks(len(x)) + "\n" + string(y) + "  (" + b + ")\n" + marks(len(y)) + "\n"
}
