package wire

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// vector is one line of testdata/*.json: an input and whether it stands.
type vector struct {
	Name   string `json:"name"`
	Input  string `json:"input"`  // text, or hex where the test says so
	Accept bool   `json:"accept"` // else it is refused
	Result string `json:"result"` // what an accepted input means
}

func readVectors(t *testing.T, file string) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var v []vector
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) == 0 {
		t.Fatalf("%s holds no vectors", file)
	}
	return v
}

func TestAddressVectors(t *testing.T) {
	for _, v := range readVectors(t, "addresses.json") {
		a, err := ParseAddress(v.Input)
		if (err == nil) != v.Accept {
			t.Errorf("%s: %q: error %v, accept %v", v.Name, v.Input, err, v.Accept)
		}
		if err == nil && a.String() != v.Input {
			t.Errorf("%s: %q comes back as %q", v.Name, v.Input, a)
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v is not ErrMalformed", v.Name, err)
		}
	}
}

func TestIdentifierVectors(t *testing.T) {
	for _, v := range readVectors(t, "identifiers.json") {
		kind, text, _ := strings.Cut(v.Input, ":")
		var back string
		var err error
		switch kind {
		case "organization":
			var id OrganizationID
			id, err = ParseOrganizationID(text)
			back = id.String()
		case "device":
			var id DeviceID
			id, err = ParseDeviceID(text)
			back = id.String()
		case "member-uri":
			var o OrganizationID
			var m MemberID
			o, m, err = ParseMemberURI(text)
			back = MemberURI(o, m)
		default:
			t.Fatalf("%s: kind %q", v.Name, kind)
		}
		if (err == nil) != v.Accept {
			t.Errorf("%s: error %v, accept %v", v.Name, err, v.Accept)
		}
		if err == nil && back != text {
			t.Errorf("%s: comes back as %q", v.Name, back)
		}
	}
}

func TestRecordVectors(t *testing.T) {
	for _, v := range readVectors(t, "records.json") {
		r, err := ParseRecord(v.Input, "entente.im/test/v1")
		if (err == nil) != v.Accept {
			t.Errorf("%s: error %v, accept %v", v.Name, err, v.Accept)
		}
		if err != nil {
			continue
		}
		if again, err := r.Text(); err != nil || again != v.Input {
			t.Errorf("%s: re-encodes to %q, %v", v.Name, again, err)
		}
	}
}

func testKey(seed byte, owner string) NoteKey {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	return NoteKey{Owner: owner, Public: k.Public().(ed25519.PublicKey), Private: k}
}

// The vectors are signed by the Ed25519 seed of 32 bytes 0x01, as acme.example/node;
// 0x02 signs as globex.example/node, whom the reader does not know.
func TestSignedNoteVectors(t *testing.T) {
	for _, v := range readVectors(t, "notes.json") {
		text, err := OpenNote(v.Input, testKey(1, "acme.example/node"))
		if (err == nil) != v.Accept {
			t.Errorf("%s: error %v, accept %v", v.Name, err, v.Accept)
		}
		if err == nil && text != "entente.im/test/v1\nname alice\n" {
			t.Errorf("%s: opens as %q", v.Name, text)
		}
	}
}

func TestNoteNeedsEveryKeyThatIsAskedFor(t *testing.T) {
	a, b := testKey(1, "acme.example/node"), testKey(2, "globex.example/node")
	var r Record
	r.Type = "entente.im/test/v1"
	r.Add("name", "x y")
	one, err := SignNote(r, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNote(one, a, b); err == nil {
		t.Error("a note that only one has signed opens for two")
	}
	if _, err := OpenNote(one); err == nil {
		t.Error("a note opens without any key")
	}
	two, err := AddSignature(one, b, a)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := OpenNote(two, b, a); err != nil || text != "entente.im/test/v1\nname x y\n" {
		t.Errorf("two signatures: %q, %v", text, err)
	}
	forged := strings.Replace(two, "name x y", "name x z", 1)
	if _, err := OpenNote(forged, a); err == nil {
		t.Error("a changed note opens")
	}
	stranger := testKey(3, "acme.example/node")
	if _, err := OpenNote(two, stranger); err == nil {
		t.Error("another key of the same name opens the note")
	}
}

func TestFieldsRefuseWhatIsMissingAndWhatIsSuperfluous(t *testing.T) {
	f := Read("entente.im/test/v1\na 1\nb 2\n", "entente.im/test/v1")
	f.One("a")
	if f.Done() == nil {
		t.Error("a superfluous field passes")
	}
	f = Read("entente.im/test/v1\na 1\n", "entente.im/test/v1")
	f.One("b")
	if f.Done() == nil {
		t.Error("a missing field passes")
	}
	f = Read("entente.im/test/v1\na 01\n", "entente.im/test/v1")
	f.Uint("a")
	if f.Done() == nil {
		t.Error("a number with a leading zero passes")
	}
}

func testCore() *pb.EnvelopeCore {
	return &pb.EnvelopeCore{Version: 1, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION,
		Room: bytes.Repeat([]byte{7}, 32), Epoch: 3, Deadline: 1_800_000_000, ReturnHandle: bytes.Repeat([]byte{9}, 16), Body: []byte("ciphertext")}
}

func TestEnvelopeRefusals(t *testing.T) {
	cases := map[string]struct {
		change func(*pb.EnvelopeCore)
		code   pb.Code
	}{
		"another version":         {func(c *pb.EnvelopeCore) { c.Version = 2 }, pb.Code_CODE_UNSUPPORTED},
		"no class":                {func(c *pb.EnvelopeCore) { c.Class = 0 }, pb.Code_CODE_UNSUPPORTED},
		"a kind of another class": {func(c *pb.EnvelopeCore) { c.Kind = pb.Kind_KIND_COMMIT }, pb.Code_CODE_UNSUPPORTED},
		"an unknown kind":         {func(c *pb.EnvelopeCore) { c.Kind = 40 }, pb.Code_CODE_UNSUPPORTED},
		"a body over the limit":   {func(c *pb.EnvelopeCore) { c.Body = make([]byte, MaxMessageBody+1) }, pb.Code_CODE_TOO_LARGE},
		"a short room ID":         {func(c *pb.EnvelopeCore) { c.Room = c.Room[:31] }, pb.Code_CODE_INTERNAL},
		"a short return handle":   {func(c *pb.EnvelopeCore) { c.ReturnHandle = c.ReturnHandle[:15] }, pb.Code_CODE_INTERNAL},
		"no deadline":             {func(c *pb.EnvelopeCore) { c.Deadline = 0 }, pb.Code_CODE_INTERNAL},
		"a negative deadline":     {func(c *pb.EnvelopeCore) { c.Deadline = -1 }, pb.Code_CODE_INTERNAL},
	}
	for name, c := range cases {
		core := testCore()
		c.change(core)
		b, err := proto.Marshal(core)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseCore(b)
		if err == nil {
			t.Errorf("%s is accepted", name)
		} else if got := StatusOf(err).Code; got != c.code {
			t.Errorf("%s: %s", name, CodeName(got))
		}
		if _, err := EncodeCore(core); err == nil {
			t.Errorf("%s is encoded", name)
		}
	}
	fat := append(mustCore(t, testCore()), unknownField(MaxEnvelopeExtra+1)...)
	if _, err := ParseCore(fat); StatusOf(err).Code != pb.Code_CODE_TOO_LARGE {
		t.Errorf("an envelope stuffed with unknown fields: %v", err)
	}
}

func mustCore(t *testing.T, c *pb.EnvelopeCore) []byte {
	t.Helper()
	b, err := EncodeCore(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unknownField is field 100 with n bytes.
func unknownField(n int) []byte {
	b := []byte{0xa2, 0x06}
	for v := n; ; v >>= 7 {
		if v < 0x80 {
			b = append(b, byte(v))
			break
		}
		b = append(b, byte(v)|0x80)
	}
	return append(b, make([]byte, n)...)
}

func TestEnvelopeIDCoversUnknownFields(t *testing.T) {
	a := mustCore(t, testCore())
	b := append(bytes.Clone(a), unknownField(4)...)
	if _, err := ParseCore(b); err != nil {
		t.Fatalf("an unknown field is refused: %v", err)
	}
	if IDOf(a) == IDOf(b) {
		t.Error("an unknown field does not change the ID")
	}
}

func TestEnvelopeVectors(t *testing.T) {
	type envelopeVector struct{ Name, Core, ID, Sequence string }
	var vs []envelopeVector
	b, err := os.ReadFile("testdata/envelopes.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		core := unhex(t, v.Core)
		c, err := ParseCore(core)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		id := IDOf(core)
		if id.String() != v.ID {
			t.Errorf("%s: ID %s", v.Name, id)
		}
		h := SequenceHash(RoomID(c.Room), 1, [32]byte{}, id, 1_763_856_000_000)
		if got := EnvelopeID(h).String(); got != v.Sequence {
			t.Errorf("%s: sequence hash %s", v.Name, got)
		}
	}
	if len(vs) == 0 {
		t.Error("no envelope vectors")
	}
}

func TestFrameRefusesLengthsBeforeReadingThem(t *testing.T) {
	for name, in := range map[string][]byte{
		"over the limit":     {0x81, 0x08},
		"six bytes":          {0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"superfluous zeros":  {0x81, 0x00, 0x00},
		"promised, not sent": {0x20, 0x01},
	} {
		var m pb.Status
		if err := ReadFrame(bufio.NewReader(bytes.NewReader(in)), &m, 1024); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	var m pb.Status
	if err := ReadFrame(bufio.NewReader(bytes.NewReader(nil)), &m, 1024); err != io.EOF {
		t.Errorf("the end between frames is %v", err)
	}
}

func TestCredentialRoundTrip(t *testing.T) {
	c := Credential{Organization: OrganizationID{1}, Member: MemberID{2}, Device: DeviceID{3}, Certificate: [32]byte{4}}
	got, err := ParseCredential(c.Encode())
	if err != nil || got != c {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, c.Encode()[:128], append(c.Encode(), 0), append([]byte{2}, c.Encode()[1:]...)} {
		if _, err := ParseCredential(bad); err == nil {
			t.Errorf("a credential of %d bytes is accepted", len(bad))
		}
	}
}

func testRoom() Room {
	id := bytes.Repeat([]byte{5}, 32)
	return Room{ID: bytes.Repeat([]byte{1}, 32), Hub: id, HubNode: bytes.Repeat([]byte{6}, 32), MinVersion: 1, SuiteFloor: 1,
		DeadlineMin: 5, DeadlineDefault: 604800, DeadlineMax: 2592000, Retention: 604800,
		Organizations: []RoomMember{{Organization: id}}, Transit: "none", Resync: ResyncOwnLeaf}
}

func TestRoomExtensionIsDeterministic(t *testing.T) {
	b, err := testRoom().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRoom(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for _, bit := range []byte{1, 0x80} {
			c := bytes.Clone(b)
			c[i] ^= bit
			r, err := ParseRoom(c)
			if err != nil {
				continue
			}
			if again, _ := r.Encode(); !bytes.Equal(again, c) {
				t.Fatalf("byte %d flipped parses and re-encodes differently", i)
			}
		}
	}
}

func TestRoomExtensionRefusals(t *testing.T) {
	for name, change := range map[string]func(*Room){
		"a deadline of nothing":       func(r *Room) { r.DeadlineMin = 0 },
		"a default below the minimum": func(r *Room) { r.DeadlineDefault = 1 },
		"a maximum over the ceiling":  func(r *Room) { r.DeadlineMax = 31 * 86400 },
		"a hub that is no member":     func(r *Room) { r.Hub = bytes.Repeat([]byte{8}, 32) },
		"organizations out of order": func(r *Room) {
			r.Organizations = append(r.Organizations, RoomMember{Organization: bytes.Repeat([]byte{4}, 32)})
		},
		"another transit":      func(r *Room) { r.Transit = "some" },
		"a later version":      func(r *Room) { r.MinVersion = 2 },
		"another resync rule":  func(r *Room) { r.Resync = 2 },
		"half a roles digest":  func(r *Room) { r.Roles = make([]byte, 16) },
		"half an organization": func(r *Room) { r.Organizations[0].Organization = make([]byte, 16) },
	} {
		r := testRoom()
		change(&r)
		if _, err := r.Encode(); err == nil {
			t.Errorf("%s is encoded", name)
		}
		raw, err := roomEncoder.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRoom(append([]byte{roomVersion}, raw...)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestEveryCodeHasANameAndAClass(t *testing.T) {
	for n, name := range pb.Code_name {
		if n == 0 {
			continue
		}
		if _, ok := codes[pb.Code(n)]; !ok {
			t.Errorf("%s has no row in the table", name)
		}
	}
	if ClassOf(9999) != Permanent {
		t.Error("an unknown code is not permanent")
	}
	if StatusOf(errors.New("the passphrase is hunter2")).Detail != codes[pb.Code_CODE_INTERNAL].text {
		t.Error("an inner error leaks into a status")
	}
}

func TestStatusDetailIsBounded(t *testing.T) {
	if n := len(Status(pb.Code_CODE_FULL, "%s", strings.Repeat("x", 4096)).Detail); n != MaxDetail {
		t.Errorf("a detail of %d bytes", n)
	}
}

func TestProtocolDocumentListsEveryStatus(t *testing.T) {
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range codes {
		row := "| `" + info.name + "` | " + info.class.String() + " | "
		if !bytes.Contains(doc, []byte(row)) {
			t.Errorf("docs/protocol.md 4.2 has no row %q", row)
		}
	}
}
