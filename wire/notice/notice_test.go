package notice

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

var update = flag.Bool("update", false, "write testdata/notices.json anew")

func noteKey(seed byte, owner string) wire.NoteKey {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	return wire.NoteKey{Owner: owner, Public: k.Public().(ed25519.PublicKey), Private: k}
}

func sampleNotice() Notice {
	until := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	h := func(n uint64) [wire.ReturnHandleLen]byte { return [wire.ReturnHandleLen]byte(handle(n)) }
	return Notice{
		Organization: partner('b'), Origin: partner('a'), Room: roomID(1),
		Issued: time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC),
		Ranges: []Range{
			{State: StateAcknowledged, From: 17, To: 19, Member: wire.MemberID{1}, Handles: [][wire.ReturnHandleLen]byte{h(1), h(2)}},
			{State: StateStored, From: 20, To: 20, Member: wire.MemberID{1}, Until: until},
			{State: StateRefused, From: 21, To: 21, Member: wire.MemberID{2}, Reason: pb.Code_CODE_FULL, Handles: [][wire.ReturnHandleLen]byte{h(3)}},
		},
	}
}

func TestANoticeComesBackAndOnlyUnderItsOwnKeyAndOrganization(t *testing.T) {
	key := noteKey(1, "globex.example/node")
	n := sampleNotice()
	signed, err := New(n, key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(signed, partner('b'), key)
	if err != nil || !reflect.DeepEqual(*got, n) {
		t.Fatalf("%+v, %v", got, err)
	}
	if who, err := OrganizationOf(signed); err != nil || who != partner('b') {
		t.Fatalf("stated by %v, %v", who, err)
	}
	for name, c := range map[string]struct {
		signed string
		org    wire.OrganizationID
		key    wire.NoteKey
	}{
		"another key":          {signed, partner('b'), noteKey(2, "globex.example/node")},
		"the key's other name": {signed, partner('b'), noteKey(1, "acme.example/node")},
		"another organization": {signed, partner('c'), key},
		"a changed text":       {strings.Replace(signed, "acknowledged", "expired", 1), partner('b'), key},
		"no signature":         {strings.SplitAfter(signed, "\n\n")[0], partner('b'), key},
	} {
		if _, err := Parse(c.signed, c.org, c.key); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// vector is one note text and whether it stands.
type vector struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Accept bool   `json:"accept"`
}

func noticeVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/notices.json")
	if err != nil {
		t.Fatal(err)
	}
	var v []vector
	if err := json.Unmarshal(b, &v); err != nil || len(v) < 30 {
		t.Fatalf("%d vectors, %v", len(v), err)
	}
	return v
}

func TestNoticeVectors(t *testing.T) {
	if *update {
		writeNoticeVectors(t)
	}
	key := noteKey(1, "globex.example/node")
	for _, v := range noticeVectors(t) {
		n, err := parseText(v.Text)
		if (err == nil) != v.Accept {
			t.Errorf("%s: error %v, accept %v", v.Name, err, v.Accept)
		}
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%s: error %v is not ErrMalformed", v.Name, err)
			}
			continue
		}
		signed, err := New(*n, key)
		if err != nil || !strings.HasPrefix(signed, v.Text+"\n") {
			t.Errorf("%s: comes back as %q, %v", v.Name, signed, err)
		}
	}
}

// writeNoticeVectors is how the committed vectors were made.
func writeNoticeVectors(t *testing.T) {
	r, err := sampleNotice().record()
	if err != nil {
		t.Fatal(err)
	}
	good, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	head, acked, stored, refused := strings.Join(lines[:5], ""), lines[5], lines[6], lines[7]
	h := strings.Repeat("ab", 16)
	out := []vector{
		{"three states", good, true}, {"one range", head + acked, true}, {"no handles", head + stored, true},
		{"256 ranges", head + strings.Repeat(stored, 256), true},
		{"all states", head + acked + stored + refused + every(acked, "delivered", "unreadable", "expired", "dropped"), true},
	}
	refuse := func(name, text string) { out = append(out, vector{name, text, false}) }
	swap := func(name, line, old, new string) {
		if !strings.Contains(line, old) {
			t.Fatalf("%s: no %q in %q", name, old, line)
		}
		refuse(name, head+strings.Replace(line, old, new, 1))
	}
	refuse("empty", "")
	refuse("no ranges", head)
	refuse("another version", strings.Replace(good, "/v1", "/v2", 1))
	refuse("fields in another order", lines[0]+lines[2]+lines[1]+lines[3]+lines[4]+acked)
	refuse("a field missing", lines[0]+lines[1]+lines[3]+lines[4]+acked)
	refuse("a field too many", good+"more 1\n")
	refuse("a range before the rest", lines[0]+acked+lines[1]+lines[2]+lines[3]+lines[4])
	refuse("no last newline", strings.TrimSuffix(good, "\n"))
	refuse("257 ranges", head+strings.Repeat(stored, 257))
	refuse("a time with a fraction", strings.Replace(good, ":03Z", ":03.5Z", 1))
	refuse("an organization that is no ID", strings.Replace(good, "organization ", "organization x", 1))
	swap("an unknown state", acked, "acknowledged", "read")
	swap("an upper-case state", acked, "acknowledged", "Acknowledged")
	swap("the sequence 0", acked, " 17 ", " 0 ")
	swap("a sequence with a leading zero", acked, " 17 ", " 017 ")
	swap("a negative sequence", acked, " 17 ", " -17 ")
	swap("a sequence over 64 bits", acked, " 19 ", " 18446744073709551616 ")
	swap("from after to", acked, " 17 ", " 20 ")
	swap("two spaces", acked, " 17 ", "  17 ")
	swap("a member too short", acked, "aaaa -", "aaa -")
	swap("upper-case handles", acked, "0000000000000001", "000000000000000A")
	swap("a handle too short", acked, ",", "0,")
	swap("an empty handle", acked, ",", ",,")
	swap("a time without need", acked, " - ", " 2026-12-01T10:00:00Z ")
	swap("stored without a time", stored, "2026-12-01T10:00:00Z", "-")
	swap("stored until no time", stored, "2026-12-01T10:00:00Z", "2026-12-01")
	swap("stored until a time of another zone", stored, "10:00:00Z", "10:00:00+01:00")
	swap("refused without a reason", refused, " full ", " - ")
	swap("refused for a success", refused, " full ", " accepted ")
	swap("refused for an unknown reason", refused, " full ", " unknown ")
	swap("more handles than envelopes", refused, "\n", ","+h+"\n")
	swap("a seventh word", refused, "\n", " x\n")
	b, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/notices.json", append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func every(line string, states ...string) (out string) {
	for _, s := range states {
		out += strings.Replace(line, "acknowledged", s, 1)
	}
	return out
}

func TestANoticeOverItsLimitsIsNotSigned(t *testing.T) {
	key := noteKey(1, "globex.example/node")
	n := sampleNotice()
	for name, change := range map[string]func(){
		"handles": func() {
			n.Ranges = []Range{{State: StateExpired, From: 1, To: 1 << 20, Handles: make([][wire.ReturnHandleLen]byte, MaxHandles+1)}}
		},
		"handles in two ranges": func() {
			half := Range{State: StateExpired, From: 1, To: 1 << 20, Handles: make([][wire.ReturnHandleLen]byte, MaxHandles/2+1)}
			n.Ranges = []Range{half, half}
		},
		"ranges":           func() { n.Ranges = make([]Range, MaxRanges+1) },
		"none":             func() { n.Ranges = nil },
		"no state":         func() { n.Ranges = []Range{{From: 1, To: 1}} },
		"refused for none": func() { n.Ranges = []Range{{State: StateRefused, From: 1, To: 1}} },
		"state out of set": func() { n.Ranges = []Range{{State: 99, From: 1, To: 1}} },
	} {
		n = sampleNotice()
		change()
		if _, err := New(n, key); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	n = sampleNotice()
	n.Ranges = []Range{{State: StateExpired, From: 1, To: 1 << 20, Handles: make([][wire.ReturnHandleLen]byte, MaxHandles)}}
	if _, err := New(n, key); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func FuzzNotice(f *testing.F) {
	for _, v := range noticeVectors(f) {
		f.Add(v.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseText(text)
		if err != nil {
			return
		}
		r, err := n.record()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := r.Text(); err != nil || again != text {
			t.Fatalf("%q comes back as %q, %v", text, again, err)
		}
	})
}

func handle(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 8, 16), n) }

func partner(c byte) (id wire.OrganizationID) { id[0] = c; return id }

func roomID(n byte) (id wire.RoomID) { id[0] = n; return id }
