package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzParseCore(f *testing.F) {
	b, _ := EncodeCore(testCore())
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCore(b); err == nil && CheckCore(c) != nil {
			t.Error("parsed, but does not stand")
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add("entente.im/test/v1\nname x y\n")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRecord(s, "entente.im/test/v1")
		if err != nil {
			return
		}
		if again, err := r.Text(); err != nil || again != s {
			t.Errorf("%q re-encodes to %q, %v", s, again, err)
		}
	})
}

func FuzzOpenNote(f *testing.F) {
	k := testKey(1, "acme.example/node")
	n, _ := SignNote(Record{Type: "entente.im/test/v1", Fields: []Field{{"a", "b"}}}, k)
	f.Add(n)
	f.Fuzz(func(t *testing.T, s string) {
		text, err := OpenNote(s, k)
		if err == nil && text != "entente.im/test/v1\na b\n" {
			t.Errorf("a forged note opens: %q", s)
		}
		_, _ = NoteText(s)
	})
}

func FuzzParseRoom(f *testing.F) {
	b, _ := testRoom().Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoom(b)
		if err != nil {
			return
		}
		if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("re-encodes differently: %v", err)
		}
	})
}

func FuzzParseIdentifiers(f *testing.F) {
	f.Add("alice@acme.example")
	f.Add(OrganizationID{1}.String())
	f.Add(DeviceID{1}.String())
	f.Add(MemberURI(OrganizationID{1}, MemberID{2}))
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil && a.String() != s {
			t.Errorf("address %q", s)
		}
		if id, err := ParseOrganizationID(s); err == nil && id.String() != s {
			t.Errorf("organization %q", s)
		}
		if id, err := ParseDeviceID(s); err == nil && id.String() != s {
			t.Errorf("device %q", s)
		}
		if o, m, err := ParseMemberURI(s); err == nil && MemberURI(o, m) != s {
			t.Errorf("URI %q", s)
		}
		if k, err := ParseKey(s); err == nil && FormatKey(k) != s {
			t.Errorf("key %q", s)
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	_ = WriteFrame(&b, Status(pb.Code_CODE_FULL, ""), 1024)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.DeliverFrame
		_ = ReadFrame(bufio.NewReader(bytes.NewReader(b)), &m, 64<<10)
	})
}

func FuzzParseCredential(f *testing.F) {
	f.Add(Credential{}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCredential(b); err == nil && !bytes.Equal(c.Encode(), b) {
			t.Error("re-encodes differently")
		}
	})
}
