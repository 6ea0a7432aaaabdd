package mailbox

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func sampleMeta() *meta {
	return &meta{
		class: pb.Class_CLASS_HANDSHAKE, kind: pb.Kind_KIND_COMMIT, item: pb.ItemKind_ITEM_KIND_SUBMIT,
		room: roomID(1), generation: 2, epoch: 1 << 40, seq: 1 << 50, handle: handle(7),
		origin: partner('a'), from: partner('b'), envelope: wire.EnvelopeID{9},
		sender: tagOf("x"), size: 1 << 30,
	}
}

func TestMetadataComesBackAsItWasWritten(t *testing.T) {
	m := sampleMeta()
	b := m.encode()
	want(t, "length", len(b), metaLen)
	got, err := parseMeta(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(b) > 1024 {
		t.Fatal("over what the store takes")
	}
}

func TestMetadataOfAnotherFormatIsNamed(t *testing.T) {
	good := sampleMeta().encode()
	change := func(i int, v byte) []byte {
		b := bytes.Clone(good)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[1:], "long": append(bytes.Clone(good), 0), "version": change(0, 2),
		"class 0": change(1, 0), "class 4": change(1, 4), "handle of 15": change(4, 15), "handle not empty": change(4, 0),
	} {
		if _, err := parseMeta(b); !errors.Is(err, errMeta) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(sampleMeta().encode())
	none := sampleMeta()
	none.handle = nil
	f.Add(none.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMeta(b)
		if err == nil && !bytes.Equal(m.encode(), b) {
			t.Fatalf("%x comes back as %x", b, m.encode())
		}
	})
}

func FuzzQueueRow(f *testing.F) {
	f.Add(queueKey(1), queueRow(boxKey{kindInbox, boxName{1}}, true))
	f.Add(queueKey(0), queueRow(boxKey{kindLog, boxName{1}}, false))
	f.Add([]byte(queuePrefix), []byte{1, 'o', 0})
	f.Fuzz(func(t *testing.T, key, row []byte) {
		id, k, closed, err := parseQueueRow(key, row)
		if err == nil && (!bytes.Equal(queueKey(id), key) || !bytes.Equal(queueRow(k, closed), row)) {
			t.Fatalf("%x %x does not come back", key, row)
		}
	})
}
