package device

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/entente-im/entente/wire"
)

var updateVectors = flag.Bool("update-vectors", false, "write testdata/content.json anew")

// contentVector is a message as it comes out of MLS: with its text and ID, or
// refused. Content and ID are hexadecimal.
type contentVector struct {
	Name    string `json:"name"`
	Sender  string `json:"sender"`
	Room    string `json:"room"`
	Content string `json:"content"`
	Status  string `json:"status"` // accepted, refused
	Text    string `json:"text,omitempty"`
	ID      string `json:"id,omitempty"`
}

var contentFile = filepath.Join("testdata", "content.json")

func testURIs() (sender, room string) {
	org, member := wire.OrganizationID{1, 2, 3}, wire.MemberID{4, 5, 6}
	return wire.MemberURI(org, member), wire.RoomURI(org, wire.RoomID{7, 8, 9})
}

func mentionedURI() string { return wire.MemberURI(wire.OrganizationID{1, 2, 3}, wire.MemberID{9}) }

func encodeContent(t testing.TB, v any) []byte {
	t.Helper()
	b, err := contentEncoder.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// madeVectors are the inputs of the committed file.
func madeVectors(t *testing.T) []contentVector {
	salt := []byte("0123456789abcdef")
	body := func(kind string, text []byte) []any {
		return []any{dispositionRender, "", cardinalitySingle, kind, text}
	}
	plainMessage := func(nested any) []any { return []any{salt, nil, []byte{}, nil, nil, map[any]any{}, nested} }
	plain := encodeContent(t, plainMessage(body(contentPlain, []byte("plain"))))
	with := func(at int, v any) []any {
		m := plainMessage(body(contentMarkdown, []byte("text")))
		m[at] = v
		return m
	}
	deep := []any{}
	for range 9 {
		deep = []any{deep}
	}
	inputs := []struct {
		name string
		in   any
	}{
		{"markdown", plainMessage(body(contentMarkdown, []byte("**hello**")))},
		{"plain text", plain},
		{"an empty text", plainMessage(body(contentMarkdown, []byte{}))},
		{"text/plain without a charset", plainMessage(body("text/plain", []byte("x")))},
		{"a text that is not UTF-8 is repaired", plainMessage(body(contentMarkdown, []byte("a\xff\xfeb")))},
		{"an expiry, relative", with(3, []any{true, 3600})},
		{"a reply", with(4, bytes.Repeat([]byte{1}, 32))},
		{"an edit", with(1, bytes.Repeat([]byte{1}, 32))},
		{"an expiry, absolute", with(3, []any{false, 1_900_000_000})},
		{"a reaction", []any{salt, nil, []byte{}, nil, bytes.Repeat([]byte{1}, 32), map[any]any{}, []any{dispositionReaction, "", cardinalitySingle, contentPlain, []byte("\U0001F44D")}}},
		{"a deletion", []any{salt, bytes.Repeat([]byte{1}, 32), []byte{}, nil, nil, map[any]any{}, []any{dispositionRender, "", cardinalityNull}}},
		{"a deletion of nothing", []any{salt, nil, []byte{}, nil, nil, map[any]any{}, []any{dispositionRender, "", cardinalityNull}}},
		{"a reaction to nothing", plainMessage([]any{dispositionReaction, "", cardinalitySingle, contentPlain, []byte("+1")})},
		{"a reaction that is a text", []any{salt, nil, []byte{}, nil, bytes.Repeat([]byte{1}, 32), map[any]any{}, []any{dispositionReaction, "", cardinalitySingle, contentPlain, make([]byte, maxReaction+1)}}},
		{"an edit of a short ID", with(1, bytes.Repeat([]byte{1}, 31))},
		{"a reply to an ID of another algorithm", with(4, bytes.Repeat([]byte{2}, 32))},
		{"an expiry of nothing", with(3, []any{true, 0})},
		{"an expiry beyond 32 bits", with(3, []any{true, uint64(1) << 32})},
		{"an expiry that is text", with(3, []any{"true", 5})},
		{"an unknown extension", with(5, map[any]any{"x": 1})},
		{"a burning message with a last time", []any{salt, nil, []byte{}, []any{true, 60}, nil, map[any]any{extensionUntil: 1_900_000_000}, body(contentMarkdown, []byte("text"))}},
		{"a mention", plainMessage(body(contentMarkdown, []byte("[@alice]("+mentionedURI()+") comes")))},
		{"a choice of Markdown and another type", plainMessage([]any{1, "", 3, 0, []any{[]any{1, "", 1, "image/png", []byte("x")}, body(contentMarkdown, []byte("a *picture*"))}})},
		{"a choice of two texts", plainMessage([]any{1, "", 3, 0, []any{body(contentPlain, []byte("plain")), body(contentMarkdown, []byte("rich"))}})},
		{"a text with a picture, as a unit", plainMessage([]any{1, "", 3, 1, []any{body(contentMarkdown, []byte("see")), []any{4, "", 1, "image/png", []byte("x")}}})},
		{"a text and a picture", plainMessage([]any{1, "", 3, 2, []any{body(contentMarkdown, []byte("see")), []any{4, "", 1, "image/png", []byte("x")}}})},
		{"a text with a preview", plainMessage([]any{1, "", 3, 2, []any{body(contentMarkdown, []byte("see")), []any{8, "", 1, "image/png", []byte("x")}}})},
		{"three reactions", []any{salt, nil, []byte{}, nil, bytes.Repeat([]byte{1}, 32), map[any]any{}, []any{2, "", 3, 2, []any{
			[]any{2, "", 1, contentPlain, []byte("\u2764")}, []any{2, "", 1, contentPlain, []byte("\U0001F973")}, []any{2, "", 1, contentPlain, []byte("\U0001F91E")}}}}},
		{"a file kept elsewhere", plainMessage([]any{6, "", 2, "video/mp4", "https://example.com/storage/x", 0, 708234961, 1, make([]byte, 16), make([]byte, 12), []byte{}, 1, make([]byte, 32), "a talk", "talk.mp4"})},
		{"several parts of which there is one", plainMessage([]any{1, "", 3, 0, []any{body(contentPlain, []byte("x"))}})},
		{"several parts in an unknown way", plainMessage([]any{1, "", 3, 3, []any{body(contentPlain, []byte("x")), body(contentPlain, []byte("x"))}})},
		{"several parts, one of them none", plainMessage([]any{1, "", 3, 0, []any{body(contentPlain, []byte("x")), 7}})},
		{"no bytes", []byte{}},
		{"a salt of 15 bytes", with(0, salt[:15])},
		{"a salt of 17 bytes", with(0, append(bytes.Clone(salt), 1))},
		{"six fields", plainMessage(nil)[:6]},
		{"eight fields", append(plainMessage(body(contentPlain, []byte("x"))), 1)},
		{"no part", plainMessage(nil)},
		{"a part of four fields", plainMessage(body(contentPlain, []byte("x"))[:4])},
		{"a body that is a text string", plainMessage([]any{1, "", 1, contentPlain, "x"})},
		{"a content type that is a number", plainMessage([]any{1, "", 1, 7, []byte("x")})},
		{"another content type", plainMessage(body("image/png", []byte("x")))},
		{"a byte after the end", append(bytes.Clone(plain), 0)},
		{"cut short", plain[:len(plain)-1]},
		{"an array without a length", append(append([]byte{0x9f}, plain[1:]...), 0xff)},
		{"a tag", append([]byte{0xd8, 0x2a}, plain...)},
		{"a key twice in a map", bytes.Replace(plain, []byte{0xf6, 0xf6, 0xa0}, []byte{0xf6, 0xf6, 0xa2, 1, 1, 1, 1}, 1)},
		{"nested too deeply", with(5, map[any]any{"x": deep})},
		{"an array of more bytes than there are", append(bytes.Clone(plain[:1]), 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
	}
	sender, room := testURIs()
	var out []contentVector
	for _, i := range inputs {
		b, ok := i.in.([]byte)
		if !ok {
			b = encodeContent(t, i.in)
		}
		v := contentVector{Name: i.name, Sender: sender, Room: room, Content: hex.EncodeToString(b), Status: "refused"}
		if m, err := parseContent(sender, room, b); err == nil {
			v.Status, v.Text, v.ID = "accepted", m.Text, m.ID.String()
		}
		out = append(out, v)
	}
	return out
}

func TestCommittedContentVectorsHold(t *testing.T) {
	if *updateVectors {
		b, err := json.MarshalIndent(madeVectors(t), "", "\t")
		must(t, err)
		must(t, os.WriteFile(contentFile, append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile(contentFile)
	must(t, err)
	var vectors []contentVector
	must(t, json.Unmarshal(b, &vectors))
	accepted := 0
	for _, v := range vectors {
		content, err := hex.DecodeString(v.Content)
		must(t, err)
		text, id, err := parseText(v.Sender, v.Room, content)
		if (err == nil) != (v.Status == "accepted") {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Status)
			continue
		}
		if err != nil {
			if !errors.Is(err, errContent) || text != "" {
				t.Errorf("%s: refused with %q, %v", v.Name, text, err)
			}
			continue
		}
		accepted++
		if text != v.Text || id.String() != v.ID {
			t.Errorf("%s: %q %s, want %q %s", v.Name, text, id, v.Text, v.ID)
		}
	}
	if accepted != 22 || len(vectors)-accepted != 27 {
		t.Errorf("%d vectors accept, %d refuse", accepted, len(vectors)-accepted)
	}
}

func TestAMessageIDNamesContentSenderAndRoom(t *testing.T) {
	sender, room := testURIs()
	b, id, err := newContent(sender, room, message{Text: "hello"})
	must(t, err)
	text, again, err := parseText(sender, room, b)
	if text != "hello" || again != id || err != nil {
		t.Fatalf("%q %s %v, want %s", text, again, err, id)
	}
	if id[0] != messageIDAlgorithm {
		t.Errorf("an ID of algorithm %d", id[0])
	}
	if _, other, _ := parseText(sender+"x", room, b); other == id {
		t.Error("another sender, the same ID")
	}
	if _, other, _ := parseText(sender, room+"x", b); other == id {
		t.Error("another room, the same ID")
	}
	if messageID("ab", "c", b, nil) == messageID("a", "bc", b, nil) {
		t.Error("a border between sender and room that does not count")
	}
	_, second, err := newContent(sender, room, message{Text: "hello"})
	must(t, err)
	if second == id {
		t.Error("the same text twice has one ID: the salt is not fresh")
	}
}

func TestATextIsBoundedBeforeItIsEncoded(t *testing.T) {
	sender, room := testURIs()
	b, _, err := newContent(sender, room, message{Text: strings.Repeat("x", maxContent)})
	must(t, err)
	if text, _, err := parseText(sender, room, b); len(text) != maxContent || err != nil {
		t.Errorf("the longest text: %d, %v", len(text), err)
	}
	if _, _, err := newContent(sender, room, message{Text: strings.Repeat("x", maxContent+1)}); err == nil {
		t.Error("a longer text was taken")
	}
	long := encodeContent(t, []any{bytes.Repeat([]byte{1}, saltLen), nil, []byte{}, nil, nil, map[any]any{},
		[]any{1, "", 1, contentPlain, make([]byte, maxContent+4<<10)}})
	if _, _, err := parseText(sender, room, long); !errors.Is(err, errContent) {
		t.Errorf("a longer text from elsewhere: %v", err)
	}
}

func TestLengthsAreHiddenInBuckets(t *testing.T) {
	for n, want := range map[int]int{0: 256, 1: 256, 256: 256, 257: 1 << 10, 1 << 10: 1 << 10, 5_000: 16 << 10, 16<<10 + 1: 64 << 10, 64<<10 + 1: 250 << 10, maxContent: 250 << 10} {
		if got := padTo(n); got != want {
			t.Errorf("%d bytes are padded to %d, want %d", n, got, want)
		}
	}
	if b := encodeContent(t, content{Salt: make([]byte, saltLen), Nested: []any{1, "", 1, contentMarkdown, make([]byte, maxContent)}}); padTo(len(b)) != 250<<10 {
		t.Errorf("the longest text is in no bucket: %d", padTo(len(b)))
	}
}

func FuzzParseContent(f *testing.F) {
	b, err := os.ReadFile(contentFile)
	if err != nil {
		f.Fatal(err)
	}
	var vectors []contentVector
	if err := json.Unmarshal(b, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		content, err := hex.DecodeString(v.Content)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	sender, room := testURIs()
	f.Fuzz(func(t *testing.T, b []byte) {
		text, id, err := parseText(sender, room, b)
		if err != nil {
			if text != "" {
				t.Fatal("a text beside a refusal")
			}
			return
		}
		if !utf8.ValidString(text) || len(text) > 3*len(b)+maxUnknown*(maxFileType+64) {
			t.Fatalf("a text of %d bytes, valid %v", len(text), utf8.ValidString(text))
		}
		var c content
		if err := contentDecoder.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		again := encodeContent(t, c)
		round, _, err := parseText(sender, room, again)
		if err != nil || round != text {
			t.Fatalf("encoded again: %q, %v, want %q", round, err, text)
		}
		if id != messageID(sender, room, b, c.Salt) {
			t.Fatal("another ID")
		}
	})
}

// parseText is parseContent of a message that is a text.
func parseText(sender, room string, b []byte) (string, MessageID, error) {
	m, err := parseContent(sender, room, b)
	return m.Text, m.ID, err
}

// The examples of draft-ietf-mimi-content-08, as its authors have encoded them.
func TestTheDraftsExamplesAreReadUnderTheDraftsIDs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "draft08.json"))
	must(t, err)
	var vectors []contentVector
	must(t, json.Unmarshal(b, &vectors))
	for _, v := range vectors {
		content, err := hex.DecodeString(v.Content)
		must(t, err)
		m, err := parseContent(v.Sender, v.Room, content)
		if err != nil || m.ID.String() != v.ID || m.Text != v.Text {
			t.Errorf("%s: %q %s %v, want %q %s", v.Name, m.Text, m.ID, err, v.Text, v.ID)
		}
	}
	if len(vectors) != 10 {
		t.Errorf("%d examples", len(vectors))
	}
}
