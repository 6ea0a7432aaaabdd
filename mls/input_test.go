package mls

import (
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/entente-im/entente/mls/internal/tls"
)

func TestLengthsAreCheckedBeforeAnythingIsAllocated(t *testing.T) {
	gi, tree := ownTree(t)
	_ = gi
	huge := [][]byte{
		{0xbf, 0xff, 0xff, 0xff},
		append([]byte{0, 1, 0, 3, 0, 1, 0xbf, 0xff, 0xff, 0xff}, make([]byte, 400)...),
		append([]byte{0, 1, 0, 4, 0, 1, 0, 1, 0xbf, 0xff, 0xff, 0xff}, make([]byte, 400)...),
		append([]byte{0, 1, 0, 1, 0xbf, 0xff, 0xff, 0xff}, make([]byte, 400)...),
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, b := range huge {
		if _, err := ParseMessage(b); err == nil {
			t.Fatalf("%x accepted", b[:8])
		}
		if _, err := ParseTree(tree.suite, b); err == nil {
			t.Fatal("tree accepted")
		}
		if _, err := UnmarshalPublicGroup(append([]byte{1}, b...), PublicOptions{Validator: acceptAll{}}); err == nil {
			t.Fatal("public group accepted")
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Fatalf("%d bytes allocated for lengths that were not there", n)
	}
}

func TestUnknownNumbersAreErrors(t *testing.T) {
	for _, h := range []string{
		"", "00", "0001", "0002000300010000", "00010000", "0001000600", "0001ffff00",
		"00010003ffff0000",         // Welcome of an unknown suite: parses, see below
		"000100010000000000000000", // no sender
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseMessage(b)
		if err == nil && m.Welcome == nil {
			t.Fatalf("%s accepted", h)
		}
		if err == nil {
			if _, err := LookupSuite(m.Welcome.Suite); !errors.Is(err, ErrSuite) {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []SuiteID{0, 2, 4, 0x0a0a, 0xffff} {
		if _, err := LookupSuite(id); !errors.Is(err, ErrSuite) {
			t.Fatalf("suite %d: %v", id, err)
		}
	}
	gi, _ := ownTree(t)
	odd := *gi
	odd.Context.Suite = 0xffff
	if _, err := NewPublicGroup(odd.Encode(), nil, PublicOptions{Validator: acceptAll{}}); !errors.Is(err, ErrSuite) {
		t.Fatal(err)
	}
}

func TestOnlyTheShortestEncodingIsRead(t *testing.T) {
	for _, h := range []string{"4001", "403f", "80000001", "80003fff", "c0", "c000000000000001", "ff"} {
		b, _ := hex.DecodeString(h)
		r := tls.NewReader(append(b, make([]byte, 1<<15)...))
		if r.VectorLen(); r.Err() == nil {
			t.Fatalf("header %s accepted", h)
		}
	}
	r := tls.NewReader([]byte{2})
	if r.Bool(); r.Err() == nil {
		t.Fatal("optional marker 2 accepted")
	}
	gi, _ := ownTree(t)
	if _, err := ParseMessage(append(gi.Encode(), 0)); !errors.Is(err, ErrDecode) {
		t.Fatal("a byte left over was accepted")
	}
	twice := EncodeExtensions([]Extension{{Type: 7}, {Type: 7}})
	if _, err := ParseExtensions(twice); !errors.Is(err, ErrDecode) {
		t.Fatal("an extension twice was accepted")
	}
}

func TestExternalPubHasItsLengthPrefix(t *testing.T) {
	gi, tree := ownTree(t)
	data, ok := FindExtension(gi.Extensions, ExtensionExternalPub)
	if !ok || len(data) != 1+tree.suite.pubLen || int(data[0]) != tree.suite.pubLen {
		t.Fatalf("external_pub is %x", data)
	}
	if _, err := ExternalPub([]Extension{{Type: ExtensionExternalPub, Data: data[1:]}}); err == nil {
		t.Fatal("a bare key was accepted")
	}
}

// seeds are messages of our own, one of each kind, in testdata.
func seeds(f testing.TB) [][]byte {
	f.Helper()
	files, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	var out [][]byte
	for _, e := range files {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile("testdata/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, b)
	}
	if len(out) < 6 {
		f.Fatalf("%d seeds in testdata", len(out))
	}
	return out
}

func TestOurOwnMessagesRoundTrip(t *testing.T) {
	for _, b := range seeds(t) {
		m, err := ParseMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Encode()) != string(b) {
			t.Fatal("encodes to something else")
		}
	}
}
