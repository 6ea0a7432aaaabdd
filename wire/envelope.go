package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

const (
	envelopeDomain = "entente.im/envelope/v1\n"
	sequenceDomain = "entente.im/sequence/v1\n"
)

// ReturnHandleLen is the length of a return handle (docs/protocol.md 3.3).
const ReturnHandleLen = 16

// EncodeCore returns the bytes of an envelope's immutable part.
func EncodeCore(c *pb.EnvelopeCore) ([]byte, error) {
	if err := CheckCore(c); err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(c)
}

// ParseCore reads and checks an envelope's immutable part. Unknown fields are
// preserved by whoever keeps the bytes; only the bytes are ever hashed.
func ParseCore(b []byte) (*pb.EnvelopeCore, error) {
	if len(b) > MaxHandshakeBody+MaxEnvelopeExtra {
		return nil, Refuse(pb.Code_CODE_TOO_LARGE, "an envelope of %d bytes", len(b))
	}
	var c pb.EnvelopeCore
	if err := proto.Unmarshal(b, &c); err != nil {
		return nil, malformed("an envelope that is not protobuf")
	}
	if err := CheckCore(&c); err != nil {
		return nil, err
	}
	if len(b) > len(c.Body)+MaxEnvelopeExtra {
		return nil, Refuse(pb.Code_CODE_TOO_LARGE, "an envelope with %d bytes beside its body", len(b)-len(c.Body))
	}
	return &c, nil
}

// CheckCore holds the rules of docs/protocol.md 3.1: version, class, kind and
// the lengths of every field.
func CheckCore(c *pb.EnvelopeCore) error {
	if c.Version != ProtocolVersion {
		return Refuse(pb.Code_CODE_UNSUPPORTED, "envelope version %d", c.Version)
	}
	limit, ok := bodyLimit(c.Class, c.Kind)
	if !ok {
		return Refuse(pb.Code_CODE_UNSUPPORTED, "class %d with kind %d", c.Class, c.Kind)
	}
	if len(c.Body) > limit {
		return Refuse(pb.Code_CODE_TOO_LARGE, "a body of %d bytes: at most %d are allowed", len(c.Body), limit)
	}
	if len(c.Room) != 32 {
		return malformed("a room ID of %d bytes", len(c.Room))
	}
	if n := len(c.ReturnHandle); n != 0 && n != ReturnHandleLen {
		return malformed("a return handle of %d bytes", n)
	}
	if (c.Class == pb.Class_CLASS_HANDSHAKE) != (c.Deadline == 0) || c.Deadline < 0 {
		return malformed("a deadline of %d in class %d", c.Deadline, c.Class)
	}
	return nil
}

func bodyLimit(class pb.Class, kind pb.Kind) (int, bool) {
	switch class {
	case pb.Class_CLASS_MESSAGE:
		return MaxMessageBody, kind == pb.Kind_KIND_APPLICATION
	case pb.Class_CLASS_HANDSHAKE:
		return MaxHandshakeBody, kind == pb.Kind_KIND_COMMIT || kind == pb.Kind_KIND_PROPOSAL
	case pb.Class_CLASS_CONTROL:
		return MaxControlBody, kind >= pb.Kind_KIND_WELCOME && kind <= pb.Kind_KIND_FORKED
	}
	return 0, false
}

// IDOf returns the envelope ID of a core's bytes.
func IDOf(core []byte) EnvelopeID {
	h := sha256.New()
	h.Write([]byte(envelopeDomain))
	h.Write(core)
	return EnvelopeID(h.Sum(nil))
}

// DeadlineOf returns the core's deadline; the zero time for handshakes.
func DeadlineOf(c *pb.EnvelopeCore) time.Time {
	if c.Deadline == 0 {
		return time.Time{}
	}
	return time.Unix(c.Deadline, 0)
}

// SequenceHash is the hash of a room's entry, which the next entry names as its
// previous one (docs/protocol.md 3.4).
func SequenceHash(room RoomID, seq uint64, previous [32]byte, id EnvelopeID, acceptedMs int64) [32]byte {
	h := sha256.New()
	h.Write([]byte(sequenceDomain))
	h.Write(room[:])
	h.Write(binary.BigEndian.AppendUint64(nil, seq))
	h.Write(previous[:])
	h.Write(id[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(acceptedMs)))
	return [32]byte(h.Sum(nil))
}
