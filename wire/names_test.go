package wire

import (
	"slices"
	"strings"
	"testing"
)

// ace writes labels as Punycode, as a registrar would.
func ace(name string) string {
	labels := strings.Split(name, ".")
	for i, l := range labels {
		if strings.ContainsFunc(l, func(r rune) bool { return r >= 0x80 }) {
			labels[i] = acePrefix + encodePunycode([]rune(l))
		}
	}
	return strings.Join(labels, ".")
}

// Labels of RFC 3492 §7.1 and of the root zone.
func TestPunycodeIsReadAndWrittenAsInTheRFC(t *testing.T) {
	for text, label := range map[string]string{
		"bücher": "bcher-kva", "münchen": "mnchen-3ya", "ليهمابتكلموشعربي؟": "egbpdaj6bu4bxfgehfvwxn", "他们为什么不说中文": "ihqwcrb4cv8a8dqg056pqjye",
		"почемужеонинеговорятпорусски": "b1abfaaepdrnnbgefbadotcwatmq2g4l", "испытание": "80akhbyknj4f", "例え": "r8jz45g", "aаb": "ab-7kc",
	} {
		if got := encodePunycode([]rune(text)); text != "aаb" && got != label {
			t.Errorf("%s is written %s, not %s", text, got, label)
		}
		if text == "aаb" {
			label = encodePunycode([]rune(text))
		}
		if got, ok := decodePunycode(label); !ok || string(got) != text {
			t.Errorf("%s is read as %q, %v", label, string(got), ok)
		}
	}
}

func TestNamesAreASCIIAndPunycodeThatStands(t *testing.T) {
	for _, good := range []string{"acme.example", "a-b.example", "xn--mnchen-3ya.example", ace("испытание.example"), ace("例え.example"), ace("हिन्दी.example")} {
		if err := CheckOrganizationName(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for what, bad := range map[string]string{
		"Unicode itself": "münchen.example", "a capital": "Acme.example", "Punycode of ASCII": "xn--acme-.example", "an empty Punycode": "xn--.example",
		"Punycode that breaks off": "xn--mnchen-3y.example", "another prefix": "ab--cd.example", "Punycode that overflows": "xn--99999999999999.example",
		"a capital in Punycode": ace("Änderung.example"), "a mark at the beginning": ace("\u0301a.example"), "a mark on a Latin letter": ace("cafe\u0301.example"),
		"a sign": ace("a♥b.example"), "a joiner": ace("a\u200db.example"), "full width": ace("ａcme.example"), "a letter for mathematics": ace("𝐚cme.example"),
		"a hyphen at the end": ace("ä-.example"), "a space": ace("ä b.example"), "a surrogate": "xn--a-tc1g.example" + "-", "an underscore in Punycode": ace("ä_b.example"),
	} {
		if err := CheckOrganizationName(bad); err == nil {
			t.Errorf("%s: %s is taken", what, bad)
		}
	}
}

func TestNamesThatLookAlikeHaveOneSkeleton(t *testing.T) {
	for _, pair := range [][2]string{
		{"acme.example", "аcme.example"}, {"acme.example", "αcme.example"}, {"acme.example", "acmе.example"}, {"acme.example", "acrne.example"},
		{"globex.example", "g1obex.example"}, {"globex.example", "gl0bex.example"}, {"globex.example", "giobex.example"}, {"wonka.example", "vvonka.example"},
		{"paypal.example", "раураl.example"}, {"hooli.example", "hoo1i.example"}, {"hooli.example", "hoolı.example"}, {"soylent.example", "ѕoylent.example"},
		{"munchen.example", "münchen.example"}, {"umbrella.example", "umbrellạ.example"}, {"cloud.example", "doud.example"}, {"acme.example", "acme.exаmple"},
	} {
		a, b := ace(pair[0]), ace(pair[1])
		if a == b || Skeleton(a) != Skeleton(b) {
			t.Errorf("%s and %s: %q, %q", pair[0], pair[1], Skeleton(a), Skeleton(b))
		}
	}
	for _, pair := range [][2]string{{"acme.example", "acne.example"}, {"acme.example", "acme.org"}, {"globex.example", "globe.example"}, {"a.b.example", "ab.example"}, {"例え.example", "試験.example"}} {
		if Skeleton(ace(pair[0])) == Skeleton(ace(pair[1])) {
			t.Errorf("%s and %s look alike", pair[0], pair[1])
		}
	}
}

func TestALabelOfSeveralScriptsIsNamed(t *testing.T) {
	for name, want := range map[string][]string{
		"acme.example": nil, "münchen.example": nil, "испытание.example": nil, "例え.example": nil, "tokyo東京.example": nil, "asd-2.例え": nil,
		"аcme.example": {"Cyrillic", "Latin"}, "αcme.example": {"Greek", "Latin"}, "acme.exаmple": {"Cyrillic", "Latin"}, "раураl.example": {"Cyrillic", "Latin"},
	} {
		if _, got := MixedScripts(ace(name)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestWhatDiffersIsMarked(t *testing.T) {
	got := Differences("acme.example", ace("аcme.example"))
	want := "acme.example  (acme.example)\n^\nаcme.example  (" + ace("аcme.example") + ")\n^\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Differences("acme.example", "acrne.example"); !strings.Contains(got, "  ^\nacrne.example  (acrne.example)\n  ^^\n") {
		t.Errorf("%q", got)
	}
}

// FuzzOrganizationName: what is taken is read and written the same, and has a skeleton.
func FuzzOrganizationName(f *testing.F) {
	for _, s := range []string{"acme.example", "xn--mnchen-3ya.example", ace("аcme.example"), ace("हिन्दी.example"), "xn--99999999999999.example", "xn--.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckOrganizationName(s) != nil {
			return
		}
		if again := ace(DisplayName(s)); again != s {
			t.Errorf("%q is shown as %q, which is written %q", s, DisplayName(s), again)
		}
		if Skeleton(s) == "" {
			t.Errorf("%q has no skeleton", s)
		}
		MixedScripts(s)
	})
}
