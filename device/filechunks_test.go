package device

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealAll seals a content of n random bytes.
func sealAll(t testing.TB, key [32]byte, n int) (c *chunker, content []byte, chunks [][]byte) {
	t.Helper()
	c, err := newChunker(key, uint64(n))
	if err != nil {
		t.Fatal(err)
	}
	content = make([]byte, n)
	rand.Read(content)
	r, total := bytes.NewReader(content), 0
	for i := range fileChunks(uint64(n)) {
		_, sealed, err := c.seal(i, r, make([]byte, plainChunk+chacha20poly1305.Overhead))
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, sealed)
		total += len(sealed)
	}
	if uint64(total) != sealedSize(uint64(n)) {
		t.Errorf("%d bytes became %d, not %d", n, total, sealedSize(uint64(n)))
	}
	return c, content, chunks
}

func TestChunksOpenToWhatWasSealed(t *testing.T) {
	for _, n := range []int{0, 1, 4096, plainChunk - 1, plainChunk, plainChunk + 1, 3*plainChunk + 7} {
		c, content, chunks := sealAll(t, [32]byte{1}, n)
		var got []byte
		for i, x := range chunks {
			b, err := c.open(uint32(i), bytes.Clone(x))
			if err != nil {
				t.Fatalf("%d bytes, chunk %d: %v", n, i, err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
	}
}

func TestEveryChangeOfChunksIsRefused(t *testing.T) {
	key := [32]byte{1}
	c, _, chunks := sealAll(t, key, 2*plainChunk+9)
	_, _, others := sealAll(t, [32]byte{2}, 2*plainChunk+9)
	last := len(chunks) - 1
	shorter, _ := newChunker(key, 2*plainChunk-100) // a claim that the second is the last
	flipped := bytes.Clone(chunks[0])
	flipped[17] ^= 1
	for name, bad := range map[string]struct {
		c     *chunker
		at    int
		chunk []byte
	}{
		"reordered":    {c, 0, chunks[1]},
		"the last one": {c, 0, chunks[last]},
		"another file": {c, 0, others[0]},
		"flipped":      {c, 0, flipped},
		"cut":          {c, last, chunks[last][:len(chunks[last])-1]},
		"extended":     {c, last, append(bytes.Clone(chunks[last]), 0)},
		"one too many": {c, last + 1, chunks[last]},
		"truncated":    {shorter, 1, chunks[1]},
		"empty":        {c, 0, nil},
	} {
		if _, err := bad.c.open(uint32(bad.at), bytes.Clone(bad.chunk)); err == nil {
			t.Errorf("%s: it opened", name)
		}
	}
	if _, err := c.open(0, bytes.Clone(chunks[0])); err != nil {
		t.Errorf("the control: %v", err)
	}
}

func TestPaddingHidesTheLengthAndCostsAnEighth(t *testing.T) {
	for n := uint64(0); n < 1<<31; n = n*9/8 + 1 {
		p := padded(n)
		if p < n || p < 4096 || n > 4096 && (p-n)*8 > n {
			t.Errorf("%d is padded to %d", n, p)
		}
	}
}

func TestFileNamesOfAMessageAreHarmless(t *testing.T) {
	for name, want := range map[string]string{
		"plan.pdf": "plan.pdf", "../../etc/passwd": "passwd", `..\..\boot.ini`: "boot.ini", "/": "_", "": "file", "..": "file",
		".bashrc": "bashrc", "-rf": "rf", "a\x1b[31mb\n.txt": "a[31mb.txt", "ab\u202egpj.exe": "abgpj.exe", "nul.txt": "_nul.txt", "a:b": "a_b",
		"Übersicht März.ods": "Übersicht März.ods",
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
	if got := safeName(strings.Repeat("ü", 300)); len(got) > maxFileName {
		t.Errorf("a name of %d bytes", len(got))
	}
}

func TestAFilePartThatIsNotExactIsRefused(t *testing.T) {
	good := &attachment{Size: 5, Name: "a.txt", Type: "text/plain", Expires: 1, Key: [32]byte{1}}
	enc, _, err := newContent("s", "r", message{Text: "caption", File: good})
	if err != nil {
		t.Fatal(err)
	}
	m, err := parseContent("s", "r", enc)
	if err != nil || m.Text != "caption" || m.File == nil || m.File.Key != good.Key || m.File.Name != good.Name || m.File.url() != good.url() {
		t.Fatalf("it came back as %+v (%v)", m, err)
	}
	part := func() []any {
		p := good.part("")
		for i, v := range p {
			if n, ok := v.(int); ok {
				p[i] = uint64(n)
			}
		}
		return p
	}
	if _, _, err := parseAttachment(part()); err != nil {
		t.Fatalf("the control: %v", err)
	}
	for i, bad := range map[int]any{3: uint64(1), 4: "https://evil.example/x", 5: uint64(1 << 40), 6: uint64(1 << 31), 7: uint64(1), 8: []byte{1}, 11: uint64(2), 12: []byte{}, 14: strings.Repeat("x", 300)} {
		p := part()
		p[i] = bad
		if _, _, err := parseAttachment(p); err == nil {
			t.Errorf("field %d: %v was taken", i, bad)
		}
	}
}
