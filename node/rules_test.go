package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

func TestConfigTextParsesBackToTheSameConfig(t *testing.T) {
	dir := t.TempDir()
	want := DefaultConfig()
	want.Bucket, want.Origins = 5*time.Second, []string{"https://chat.acme.example"}
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(want.ConfigText()), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.ConfigText() != want.ConfigText() {
		t.Errorf("came back as\n%s", got.ConfigText())
	}
}

func TestEveryProblemOfAConfigIsReportedAtOnce(t *testing.T) {
	dir := t.TempDir()
	text := "listen: nowhere\nlisten-too: x\nbucket: 1ms\nretention: 9000h\napi: http://x\nlog: loud\ntls-cert: a\nfederation: [tcp]\norigins: [\"*\"]\nlimits:\n  device-rate: -1\n  speed: 9\n"
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(dir)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"listen-too", "speed", "listen:", "bucket:", "retention:", "api:", "log:", "tls-cert", "federation", "origins:", "limits:"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not mentioned in %v", part, err)
		}
	}
}

func TestOnlyWhatABrowserSendsIsAnOrigin(t *testing.T) {
	for o, want := range map[string]bool{
		"https://chat.acme.example": true, "https://chat.acme.example:8443": true, "http://localhost:3000": true, "http://[::1]:3000": true,
		"": false, "*": false, "null": false, "https://*.acme.example": false, "chat.acme.example": false, "https://": false, "https://chat.acme.example/": false,
		"https://Chat.acme.example": false, "https://chat.acme.example:443": false, "http://chat.acme.example:80": false, "https://u@chat.acme.example": false,
		"https://chat.acme.example?x": false, "https://chat.acme.example:": false, "ftp://chat.acme.example": false,
	} {
		c := DefaultConfig()
		c.Origins = []string{o}
		if got := len(c.problems()) == 0; got != want {
			t.Errorf("%q: accepted is %v", o, got)
		}
	}
}

func TestReturnHandlesOfOthersAreIgnored(t *testing.T) {
	h, err := newHandles([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	other, _ := newHandles([16]byte{2})
	sealed := h.seal(7, 99)
	if d, c, ok := h.open(sealed); !ok || d != 7 || c != 99 {
		t.Errorf("opens as %d, %d, %v", d, c, ok)
	}
	if _, _, ok := other.open(sealed); ok {
		t.Error("another node's key opens it")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, _, ok := h.open(bad); ok {
			t.Errorf("byte %d flipped still opens", i)
		}
	}
	if bytes.Equal(h.seal(7, 99), h.seal(7, 100)) {
		t.Error("two submissions have one handle")
	}
}

func openTestStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Reserve: -1, SegmentSize: store.MinSegmentSize})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResultsAnswerARepeatedSubmissionAndRefuseARolledBackOne(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	device, r := wire.DeviceID{5}, newResults(s)
	for counter := uint64(1); counter <= wire.SubmitResultsKept+3; counter++ {
		var b store.Batch
		digest := digestOf([]byte{byte(counter), byte(counter >> 8)})
		if st, err := r.first(device, counter, digest); err != nil || st != nil {
			t.Fatalf("counter %d is not new: %v, %v", counter, st, err)
		}
		if err := r.put(&b, device, counter, digest, wire.Status(pb.Code_CODE_ACCEPTED, "")); err != nil {
			t.Fatal(err)
		}
		if counter == 3 {
			continue // not committed: as if it had never been
		}
		if _, err := s.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		r.remember(device, counter)
	}
	check := func(r *results) {
		last := uint64(wire.SubmitResultsKept + 3)
		for _, c := range []struct {
			counter uint64
			content byte
			want    pb.Code
		}{
			{last, byte(last & 0xff), pb.Code_CODE_ACCEPTED},
			{last, 0xee, pb.Code_CODE_ROLLED_BACK}, // other bytes
			{1, 1, pb.Code_CODE_ROLLED_BACK},       // its slot was taken by a later one
			{0, 0, pb.Code_CODE_MALFORMED},
		} {
			digest := digestOf([]byte{c.content, byte(c.counter >> 8)})
			st, err := r.first(device, c.counter, digest)
			if err != nil || st == nil || st.Code != c.want {
				t.Errorf("counter %d: %v, %v; want %s", c.counter, st, err, wire.CodeName(c.want))
			}
		}
		if st, err := r.first(device, last+1, [32]byte{}); st != nil || err != nil {
			t.Errorf("the next counter is not new: %v, %v", st, err)
		}
	}
	check(r)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTestStore(t, dir)
	defer s.Close()
	check(newResults(s))
}

func TestNumbersAreNeverGivenTwice(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	n, err := openNumbers(s)
	if err != nil {
		t.Fatal(err)
	}
	var b store.Batch
	first, keep := n.give(&b, wire.DeviceID{1})
	if _, err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	keep()
	_ = s.Close()
	s = openTestStore(t, dir)
	defer s.Close()
	if n, err = openNumbers(s); err != nil {
		t.Fatal(err)
	}
	if got, err := n.of(wire.DeviceID{1}); err != nil || got != first || n.device(first) != (wire.DeviceID{1}) {
		t.Errorf("number %d, %v", got, err)
	}
	if second, _ := n.give(&store.Batch{}, wire.DeviceID{2}); second == first {
		t.Error("one number for two devices")
	}
}

// aNode opens a node on loopback that is not served.
func aNode(t *testing.T) *Node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "acme")
	c := DefaultConfig()
	c.Listen, c.Federation = "127.0.0.1:0", []string{"/ip4/127.0.0.1/tcp/0"}
	if _, err := Init(dir, "acme.example", []byte("correct horse"), c); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir, Passphrase: []byte("wrong horse")}); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	n, err := Open(t.Context(), Options{Dir: dir, Passphrase: []byte("correct horse")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	if _, err := Open(t.Context(), Options{Dir: dir, Passphrase: []byte("correct horse")}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second node on the same data: %v", err)
	}
	return n
}

func coreOf(t *testing.T, class pb.Class, kind pb.Kind, change func(*pb.EnvelopeCore)) []byte {
	t.Helper()
	c := &pb.EnvelopeCore{Version: 1, Class: class, Kind: kind, Room: bytes.Repeat([]byte{7}, 32), Body: []byte("x")}
	if class != pb.Class_CLASS_HANDSHAKE {
		c.Deadline = time.Now().Add(time.Hour).Unix()
	}
	if change != nil {
		change(c)
	}
	b, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAPartnersBadItemsAreRefusedOneByOne(t *testing.T) {
	n := aNode(t)
	from := wire.OrganizationID{9}
	message, control := pb.Class_CLASS_MESSAGE, pb.Class_CLASS_CONTROL
	items := []*pb.Item{
		{},
		{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: []byte{0xff}}},
		{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: coreOf(t, message, pb.Kind_KIND_APPLICATION, nil), Seq: 1, Previous: make([]byte, 32)}},
		{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: coreOf(t, message, pb.Kind_KIND_APPLICATION, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: coreOf(t, control, pb.Kind_KIND_NOTICE, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: coreOf(t, control, pb.Kind_KIND_WELCOME, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: coreOf(t, control, pb.Kind_KIND_NOTICE, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: coreOf(t, control, pb.Kind_KIND_RESULT, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: coreOf(t, control, pb.Kind_KIND_REVOCATION, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: coreOf(t, message, pb.Kind_KIND_APPLICATION, nil)}},
		{Kind: 99, Envelope: &pb.Envelope{Core: coreOf(t, message, pb.Kind_KIND_APPLICATION, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: coreOf(t, message, 40, nil)}},
		{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: coreOf(t, message, pb.Kind_KIND_APPLICATION, func(c *pb.EnvelopeCore) { c.Body = make([]byte, wire.MaxMessageBody+1) })}},
	}
	want := []pb.Code{pb.Code_CODE_UNSUPPORTED, pb.Code_CODE_MALFORMED, pb.Code_CODE_UNKNOWN_ROOM, pb.Code_CODE_UNKNOWN_ROOM,
		pb.Code_CODE_UNSUPPORTED, pb.Code_CODE_MALFORMED, pb.Code_CODE_MALFORMED, pb.Code_CODE_UNSUPPORTED, pb.Code_CODE_NO_AGREEMENT,
		pb.Code_CODE_UNSUPPORTED, pb.Code_CODE_UNSUPPORTED, pb.Code_CODE_UNSUPPORTED, pb.Code_CODE_TOO_LARGE}
	before := n.store.Status()
	recorded := 0
	got := n.Deliver(context.Background(), from, items, func(_ *store.Batch, s []*pb.Status) error { recorded = len(s); return nil })
	for i, s := range got {
		if s.Code != want[i] {
			t.Errorf("item %d: %s (%s), want %s", i, wire.CodeName(s.Code), s.Detail, wire.CodeName(want[i]))
		}
	}
	after := n.store.Status()
	if recorded != len(items) || after.Refs != before.Refs || after.Rows != before.Rows {
		t.Errorf("%d statuses were recorded; references %d to %d, rows %d to %d", recorded, before.Refs, after.Refs, before.Rows, after.Rows)
	}
}

func TestStrangersAndUnknownDevicesSubmitNothing(t *testing.T) {
	n := aNode(t)
	st := n.submit(t.Context(), wire.DeviceID{1}, []ownSubmission{{counter: 1, core: coreOf(t, pb.Class_CLASS_MESSAGE, pb.Kind_KIND_APPLICATION, nil)}})
	if st[0].Code != pb.Code_CODE_REVOKED {
		t.Errorf("a device that is not enrolled: %s", wire.CodeName(st[0].Code))
	}
	for name, q := range map[string]*pb.QueryRequest{
		"nothing":      {},
		"a tree":       {Query: &pb.QueryRequest_Tree{Tree: &pb.TreeQuery{Room: make([]byte, 32), Hash: make([]byte, 32)}}},
		"half a room":  {Query: &pb.QueryRequest_GroupInfo{GroupInfo: &pb.GroupInfoQuery{Room: make([]byte, 31)}}},
		"a room log":   {Query: &pb.QueryRequest_RoomLog{RoomLog: &pb.RoomLogQuery{Room: make([]byte, 32)}}},
		"an unknown":   {Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "nobody"}}},
		"half a claim": {Query: &pb.QueryRequest_Claim{Claim: &pb.ClaimQuery{Member: make([]byte, 3)}}},
	} {
		if a := n.Query(t.Context(), wire.OrganizationID{9}, q); wire.ClassOf(a.Status.Code) == wire.Success || a.Answer != nil {
			t.Errorf("%s is answered with %s", name, wire.CodeName(a.Status.Code))
		}
	}
}

func FuzzRowsOfRooms(f *testing.F) {
	f.Add(place{seq: 3, accepted: 5, quiet: true}.encode())
	f.Add([]byte{1, 20})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePlace(b); err == nil && !bytes.Equal(p.encode(), b) {
			t.Error("a place comes back as other bytes")
		}
		_, _, _ = parseTreeRow(b)
		_, _, _ = parseResult(b)
	})
}
