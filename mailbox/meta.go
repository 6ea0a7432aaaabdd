package mailbox

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// errMeta is returned for metadata that this version did not write.
var errMeta = errors.New("mailbox: metadata that is not of this format")

// metaVersion is the first byte of every encoded meta; another one is refused, and
// an upgrade that changes the layout takes the next number and reads both.
const (
	metaVersion = 1
	metaLen     = 5 + wire.ReturnHandleLen + 4*32 + 16 + 4 + 4 + 8 + 8
)

// senderTag stands for a sender in quotas: the first half of a hash, so that what
// lies on disk is bounded and names nobody.
type senderTag [16]byte

func tagOf(sender string) senderTag {
	h := sha256.Sum256([]byte("entente.im/mailbox-sender/v1\n" + sender))
	return senderTag(h[:16])
}

// meta is what the mailbox knows of a deposit without opening its body. It is
// sealed under the store's lasting key and so outlives the body key: an expired
// envelope can still be named to its sender. Fixed length, layout in the package
// comment.
type meta struct {
	class      pb.Class
	kind       pb.Kind
	item       pb.ItemKind
	room       wire.RoomID
	generation uint32
	epoch      uint64
	seq        uint64
	handle     []byte // empty, or wire.ReturnHandleLen bytes
	origin     wire.OrganizationID
	from       wire.OrganizationID
	envelope   wire.EnvelopeID
	sender     senderTag
	size       uint32 // bytes of the body as deposited
}

func (m *meta) encode() []byte {
	b := make([]byte, 0, metaLen)
	b = append(b, metaVersion, byte(m.class), byte(m.kind), byte(m.item))
	b = append(b, byte(len(m.handle)))
	var handle [wire.ReturnHandleLen]byte
	copy(handle[:], m.handle)
	b = append(b, handle[:]...)
	b = append(b, m.room[:]...)
	b = append(b, m.origin[:]...)
	b = append(b, m.from[:]...)
	b = append(b, m.envelope[:]...)
	b = append(b, m.sender[:]...)
	b = binary.BigEndian.AppendUint32(b, m.size)
	b = binary.BigEndian.AppendUint32(b, m.generation)
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	return binary.BigEndian.AppendUint64(b, m.seq)
}

// parseMeta accepts exactly what encode writes.
func parseMeta(b []byte) (*meta, error) {
	if len(b) != metaLen || b[0] != metaVersion {
		return nil, fmt.Errorf("%w: %d bytes", errMeta, len(b))
	}
	m := &meta{class: pb.Class(b[1]), kind: pb.Kind(b[2]), item: pb.ItemKind(b[3])}
	if m.class < pb.Class_CLASS_MESSAGE || m.class > pb.Class_CLASS_CONTROL {
		return nil, fmt.Errorf("%w: class %d", errMeta, b[1])
	}
	n := int(b[4])
	handle := b[5 : 5+wire.ReturnHandleLen]
	if n == 0 && [wire.ReturnHandleLen]byte(handle) != [wire.ReturnHandleLen]byte{} || n != 0 && n != wire.ReturnHandleLen {
		return nil, fmt.Errorf("%w: a return handle of %d bytes", errMeta, n)
	}
	if n > 0 {
		m.handle = append([]byte(nil), handle...)
	}
	b = b[5+wire.ReturnHandleLen:]
	take := func(to []byte) { b = b[copy(to, b):] }
	take(m.room[:])
	take(m.origin[:])
	take(m.from[:])
	take(m.envelope[:])
	take(m.sender[:])
	m.size = binary.BigEndian.Uint32(b)
	m.generation = binary.BigEndian.Uint32(b[4:])
	m.epoch = binary.BigEndian.Uint64(b[8:])
	m.seq = binary.BigEndian.Uint64(b[16:])
	return m, nil
}

// metaOf reads the metadata of an item from its envelope's core.
func metaOf(item *pb.Item, core *pb.EnvelopeCore, from wire.OrganizationID, sender string, size int) (*meta, error) {
	m := &meta{
		class: core.Class, kind: core.Kind, item: item.Kind,
		generation: core.Generation, epoch: core.Epoch, seq: item.Envelope.Seq,
		handle: core.ReturnHandle, from: from, envelope: wire.IDOf(item.Envelope.Core),
		sender: tagOf(sender), size: uint32(size),
	}
	m.room = wire.RoomID(core.Room) // 32 bytes: wire.CheckCore
	if len(item.Origin) > 0 {
		origin, err := wire.Bytes32(item.Origin)
		if err != nil {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an origin of %d bytes", len(item.Origin))
		}
		m.origin = origin
	}
	if core.Kind > 255 || item.Kind > 255 || item.Kind < 0 {
		return nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "kind %d in an item of kind %d", core.Kind, item.Kind)
	}
	return m, nil
}
