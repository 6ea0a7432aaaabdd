package device

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func verifiedRows(n int, address func(int) string) map[string]*verifiedRow {
	out := make(map[string]*verifiedRow)
	for i := range n {
		how := howDigits
		if i%2 == 1 {
			how = howQR
		}
		out[address(i)] = &verifiedRow{Organization: wire.OrganizationID{1, byte(i)}, Member: wire.MemberID{2, byte(i)}, Key: slices.Repeat([]byte{byte(i)}, 32),
			At: time.Unix(1_800_000_000+int64(i), 0).UTC(), How: how}
	}
	return out
}

// handed is what a joining device makes of the parts that change has gone over.
func handed(t *testing.T, rows map[string]*verifiedRow, change func(parts []linkVerified)) (map[string]*verifiedRow, error) {
	t.Helper()
	k, _, _ := kem()
	private, err := k.GenerateKey()
	must(t, err)
	pub, member, err := ed25519.GenerateKey(nil)
	must(t, err)
	transcript := make([]byte, 32)
	l := Linking{d: &Device{mu: make(lock, 1), verified: rows, account: account{MemberKey: member}}, transcript: transcript,
		offer: linkOffer{KEM: private.PublicKey().Bytes()}}
	parts, err := l.sealVerified()
	must(t, err)
	for _, p := range parts {
		// As linkChannel.say has it: JSON, then a nonce and a tag.
		if n := (len(p.Sealed)+2)/3*4 + len(`{"Sealed":""}`) + 24 + 16; n > wire.MaxLinkMessage {
			t.Fatalf("a part of %d bytes", n)
		}
	}
	if change != nil {
		change(parts)
	}
	got := make(map[string]*verifiedRow)
	for n, p := range parts {
		if err := p.open(private, transcript, pub, n, got); err != nil {
			return nil, err
		}
	}
	return got, nil
}

func TestWhomAPersonHasVerifiedIsHandedOverWhole(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		rows := verifiedRows(n, func(i int) string { return fmt.Sprintf("member%d@globex.example", i) })
		got, err := handed(t, rows, nil)
		must(t, err)
		if !reflect.DeepEqual(got, rows) {
			t.Errorf("%d rows: %d came over", n, len(got))
		}
	}
	// Of addresses of the greatest length not all fit: the newest do.
	long := verifiedRows(maxVerified, func(i int) string {
		label := strings.Repeat("a", 60) + "."
		return fmt.Sprintf("%s%03d@%s", strings.Repeat("m", 61), i, strings.Repeat(label, 4)+"example")
	})
	got, err := handed(t, long, nil)
	must(t, err)
	if len(got) < 40 || len(got) == len(long) {
		t.Fatalf("%d of %d came over", len(got), len(long))
	}
	oldest := slices.MinFunc(slices.Collect(maps.Values(got)), func(a, b *verifiedRow) int { return a.At.Compare(b.At) })
	if n := 1_800_000_000 + int64(len(long)-len(got)); oldest.At.Unix() != n {
		t.Errorf("the oldest that came is of %d, not %d", oldest.At.Unix(), n)
	}
}

func TestAListOfTheVerifiedThatTheMemberKeyHasNotSignedIsRefused(t *testing.T) {
	rows := verifiedRows(100, func(i int) string { return fmt.Sprintf("member%d@globex.example", i) })
	stranger, err := handedByStranger(t, rows)
	if !errors.Is(err, errLinkAltered) {
		t.Errorf("a stranger's list: %d rows, %v", len(stranger), err)
	}
	for name, change := range map[string]func([]linkVerified){
		"the parts changed about": func(p []linkVerified) { p[0], p[1] = p[1], p[0] },
		"a part twice":            func(p []linkVerified) { p[1] = p[0] },
		"a flipped bit":           func(p []linkVerified) { p[1].Sealed[len(p[1].Sealed)-1] ^= 1 },
		"an empty part":           func(p []linkVerified) { p[1].Sealed = nil },
	} {
		if _, err := handed(t, rows, change); !errors.Is(err, errLinkAltered) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// handedByStranger seals a list to the joining device, whose KEM key and transcript a node
// could have seen, without the member key.
func handedByStranger(t *testing.T, rows map[string]*verifiedRow) (map[string]*verifiedRow, error) {
	t.Helper()
	k, _, _ := kem()
	private, err := k.GenerateKey()
	must(t, err)
	pub, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	_, other, err := ed25519.GenerateKey(nil)
	must(t, err)
	transcript := make([]byte, 32)
	part, err := sealVerified(private.PublicKey().Bytes(), transcript, other, 0, encodeVerified("m@globex.example", slices.Collect(maps.Values(rows))[0]))
	must(t, err)
	got := make(map[string]*verifiedRow)
	return got, part.open(private, transcript, pub, 0, got)
}

func TestRowsOfTheVerifiedAreReadToTheLastByteOrNotAtAll(t *testing.T) {
	row := encodeVerified("bob@globex.example", verifiedRows(1, func(int) string { return "x" })["x"])
	must(t, decodeVerified(row, make(map[string]*verifiedRow)))
	edit := func(at int, b byte) []byte { c := slices.Clone(row); c[at] = b; return c }
	for name, b := range map[string][]byte{
		"a byte less":        row[:len(row)-1],
		"a byte more":        append(slices.Clone(row), 0),
		"no address":         row[:verifiedFixed],
		"a way of no name":   edit(104, 3),
		"a long address":     edit(105, 1),
		"no address in it":   edit(len(row)-1, '@'),
		"the same row twice": append(slices.Clone(row), row...),
		"a time without end": edit(96, 0x7f),
		"a negative time":    edit(96, 0xff),
	} {
		if err := decodeVerified(b, make(map[string]*verifiedRow)); !errors.Is(err, errLinkAltered) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerifiedRows(f *testing.F) {
	for a, v := range verifiedRows(2, func(i int) string { return fmt.Sprintf("m%d@globex.example", i) }) {
		f.Add(encodeVerified(a, v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := make(map[string]*verifiedRow)
		if decodeVerified(b, got) != nil {
			return
		}
		n := 0
		for a, v := range got {
			row := encodeVerified(a, v)
			if !strings.Contains(string(b), string(row)) {
				t.Fatalf("%q is written otherwise than it was read", a)
			}
			n += len(row)
		}
		if n != len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
	})
}
